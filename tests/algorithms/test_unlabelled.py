"""Images without annotations: the teacher's terms see them, the student's own loss does not."""

import copy
import itertools
import json
import random
import shutil
from types import SimpleNamespace

import cv2
import numpy as np
import pytest
import torch
from mmcv.transforms import BaseTransform
from mmdet.structures.bbox import HorizontalBoxes
from mmengine.dataset import Compose, pseudo_collate
from mmengine.hooks import Hook
from mmengine.registry import DATASETS, DefaultScope
from mmrazor.registry import MODELS

from mmkd.algorithms.labelled_loss import samples_of
from mmkd.algorithms.loss_watch import excused
from mmkd.cache import draw_cached_views, fill_cache
from mmkd.datasets.drawn_objects import draw_objects
from mmkd.datasets.mixed_batches import MixedDataset, MixedSampler, mixed_loader, without_boxes
from mmkd.datasets.seeding import SeededSampler
from mmkd.detections.carrying_boxes import Carried, CarryingBoxes
from mmkd.detections.feed import feed_detections
from mmkd.detections.following import DETECTIONS
from mmkd.detections.results_file import read_results
from mmkd.distributed.unwrapped import unwrapped
from mmkd.doctor.examine import examine
from mmkd.runner.exact_runner import ExactRunner
from mmkd.runner.resume import prepare_resume
from mmkd.runner.shared_images import note_measured_images, note_shared_images
from mmkd.teachers.given_detections import FileOfDetections
from tests.detections.pairs import config, teacher_file
from tests.tiny import fast_batch, freeze_bn, method, raw_batch, scene, tiny_ssd, tiny_yolov5
from tests.zoo import taught

KEY = 'unlabelled'


@pytest.fixture(scope='module')
def folder(tmp_path_factory):
    """Eight annotated images, and five others."""
    found = tmp_path_factory.mktemp('data')
    teacher_file(found)
    (found / 'more').mkdir()
    rng = np.random.default_rng(5)
    for i in range(5):
        cv2.imwrite(str(found / f'more/{i}.png'), scene(rng, (120, 160), 3, 2)[0])
    return found


def mixed(folder, work_dir, **changes):
    """Batches of two annotated images and one other; a network teaches."""
    settings = {'train_dataloader.batch_size': 3, 'train_cfg.max_epochs': 2, **changes}
    cfg = config(folder, work_dir, **settings)
    cfg.model.teacher = tiny_ssd(width=16, std=1.0)
    cfg.model.unlabelled = dict(images=str(folder / 'more'), share=0.34)
    return cfg


def batch_of(fast=False):
    """Two annotated images, and between them one that is not."""
    batch = raw_batch(3, seed=2)
    sample = batch['data_samples'][1]
    sample.gt_instances = sample.gt_instances[:0]
    return dict(fast_batch(batch) if fast else batch, unlabelled=torch.tensor([False, True, False]))


def pair_of(kind, *methods, **changes):
    torch.manual_seed(0)
    found = freeze_bn(MODELS.build(taught(kind, kind, *methods, unlabelled='x', **changes)))
    for module in found.modules():  # what is drawn would be drawn otherwise for other batches
        if isinstance(module, torch.nn.Dropout):
            module.p = 0.0
        if isinstance(module, torch.nn.MultiheadAttention):
            module.dropout = 0.0
    return found


@pytest.mark.parametrize('kind', ['gfl', 'ssd', 'faster_rcnn', 'detr'])
def test_the_own_loss_is_that_of_the_annotated_images(kind):
    """With BatchNorm frozen: the value and the gradient of these alone, in a batch of their own."""
    pair = pair_of(kind, 'soft_ground_truth')
    found = []
    for labelled_alone in (False, True):
        batch = batch_of()
        if labelled_alone:
            batch = {key: [batch[key][0], batch[key][2]] for key in ('inputs', 'data_samples')}
            batch[KEY] = torch.tensor([False, False])
        data = pair.data_preprocessor(batch, True)
        torch.manual_seed(1)
        terms = pair(**data, mode='loss')
        own = {k: v for k, v in terms.items() if k.startswith('student.')}
        pair.zero_grad()
        pair.parse_losses(own)[0].backward()
        found.append((own, [p.grad for p in pair.student.parameters() if p.grad is not None]))
        assert any(key.startswith('distill.') for key in terms)
    (own, gradients), (alone, gradients_alone) = found
    if kind == 'faster_rcnn':  # its sampler draws: only that it does without the others
        assert own.keys() == alone.keys()
        return
    for key, value in own.items():
        torch.testing.assert_close(value, alone[key], rtol=1e-4, atol=1e-5, msg=key)
    for one, other in zip(gradients, gradients_alone, strict=True):
        torch.testing.assert_close(one, other, rtol=1e-3, atol=1e-4)


def test_of_mmyolo_too():
    pytest.importorskip('mmyolo')
    torch.manual_seed(0)
    found = []
    pair = dict(
        _scope_='mmrazor',
        type='DetectionDistill',
        architecture=dict(tiny_yolov5(), _scope_='mmyolo'),
        teacher=dict(tiny_yolov5(0.125), _scope_='mmyolo'),
        distiller=distiller_of('soft_ground_truth'),
        unlabelled='x',
    )
    pair = freeze_bn(MODELS.build(pair))
    for alone in (False, True):
        batch = batch_of()
        if alone:
            batch = {key: [batch[key][0], batch[key][2]] for key in ('inputs', 'data_samples')}
        marks = torch.tensor([False, False] if alone else [False, True, False])
        batch.pop(KEY, None)
        batch = dict(fast_batch(batch), unlabelled=marks)
        terms = pair(**pair.data_preprocessor(batch, True), mode='loss')
        found.append({k: v for k, v in terms.items() if k.startswith('student.')})
        assert float(terms['distill.loss_taught']) > 0
    for key, value in found[0].items():
        torch.testing.assert_close(value, found[1][key], rtol=1e-4, atol=1e-5)


def distiller_of(name):
    return method(name).to_dict()['distiller']


def test_what_is_recorded_is_the_whole_batch():
    pair = pair_of('retinanet', 'prediction_rows')
    data = pair.data_preprocessor(batch_of(), True)
    seen = []
    loss = next(iter(pair.distiller.distill_losses.values()))
    loss.register_forward_pre_hook(
        lambda module, args, kwargs: seen.append([len(v.boxes) for v in kwargs.values()]),
        with_kwargs=True,
    )
    pair(**data, mode='loss')
    assert seen == [[3, 3]]


def test_batchnorm_and_counters_go_on_once():
    pair = MODELS.build(taught('retinanet', 'retinanet', 'prediction_rows', unlabelled='x')).train()
    once = copy.deepcopy(pair.student).train()
    data = pair.data_preprocessor(batch_of(), True)
    once(copy.deepcopy(data['inputs']), data['data_samples'], mode='loss')
    pair(**data, mode='loss')
    for (name, own), other in zip(pair.student.named_buffers(), once.buffers(), strict=True):
        torch.testing.assert_close(own, other, msg=name)


def test_a_batch_that_does_not_say_is_refused():
    pair = pair_of('retinanet', 'prediction_rows')
    batch = batch_of()
    del batch[KEY]
    with pytest.raises(ValueError, match='must say which of its images have no annotations'):
        pair(**pair.data_preprocessor(batch, True), mode='loss')


def test_samples_of_mmyolo_are_numbered_anew():
    rows = torch.tensor([[0.0, 1, 1, 1, 2, 2], [2, 0, 3, 3, 4, 4], [3, 2, 5, 5, 6, 6]])
    found = samples_of(dict(bboxes_labels=rows, img_metas=list('abcd')), torch.tensor([0, 1, 3]))
    assert found['bboxes_labels'].tolist() == [[0, 1, 1, 1, 2, 2], [2, 2, 5, 5, 6, 6]]
    assert found['img_metas'] == list('abd') and rows[2, 0] == 3


def test_each_batch_has_its_share(folder, tmp_path):
    runner = ExactRunner.from_cfg(mixed(folder, tmp_path))
    loader = runner.build_train_loop(runner._train_loop).dataloader
    seen = []
    for epoch in range(5):
        loader.sampler.set_epoch(epoch)
        batches = list(loader)
        assert len(batches) == len(loader) == 4
        for batch in batches:
            assert batch[KEY].tolist() == [False, False, True]
            assert not len(batch['data_samples'][2].gt_instances)
            seen.append(batch['data_samples'][2].img_path)
    counts = [seen[i * 5 : i * 5 + 5] for i in range(4)]
    assert all(len(set(turn)) == 5 for turn in counts) and len({tuple(t) for t in counts}) > 1
    assert unwrapped(runner.model).labelled_loss is not None
    assert runner.cfg.train_dataloader.dataset.type == 'MultiImageMixDataset'  # as it was written


class Images:
    """Four annotated ones, and six others."""

    labelled = 4

    def __init__(self):
        self.datasets = [range(4)]

    def __len__(self):
        return 10


def test_a_run_without_epochs_is_resumed_without_loading_what_it_has_seen():
    def sampler(kind='InfiniteSampler'):
        return MixedSampler(dict(type=kind, shuffle=True), Images(), 2, 1, seed=3)

    whole = list(itertools.islice(sampler(), 30))
    resumed = sampler()
    resumed.skip(13)
    assert list(itertools.islice(resumed, 17)) == whole[13:]
    wrapped = SeededSampler(
        dict(type=MixedSampler, sampler=dict(type='InfiniteSampler'), labelled=2, unlabelled=1),
        Images(), seed=3,
    )  # fmt: skip
    wrapped.skip(13)
    assert [int(i) for i in itertools.islice(wrapped, 17)] == whole[13:]
    assert not hasattr(sampler('DefaultSampler'), 'skip')


def test_the_ranks_share_the_others():
    def order(rank, world_size):
        own = dict(type='DefaultSampler', shuffle=False)
        sampler = MixedSampler(own, Images(), 1, 1, seed=3)
        sampler.rank, sampler.world_size = rank, world_size
        sampler.sampler.world_size, sampler.sampler.rank = world_size, rank
        sampler.sampler.num_samples = 4 // world_size
        sampler.sampler.total_size = 4
        found = []
        for epoch in range(3):
            sampler.set_epoch(epoch)
            found.append([i for i in sampler if i >= 4])
        return found

    alone, first, second = order(0, 1), order(0, 2), order(1, 2)
    both = [
        [i for pair in zip(a, b, strict=True) for i in pair]
        for a, b in zip(first, second, strict=True)
    ]
    assert both == alone
    assert sorted((alone[0] + alone[1])[:6]) == list(range(4, 10))


def of_file(folder, work_dir, **changes):
    """The same, taught by a file, which finds objects in all images."""
    place = dict(category_id=2, bbox=[10, 10, 60, 50], score=0.9)
    names = [f'{i}.png' for i in range(5)] + [f'train00{i}.jpg' for i in range(8)]
    rows = [dict(place, image_id=i, file_name=name) for i, name in enumerate(names)]
    (folder / 'both.json').write_text(json.dumps(rows))
    cfg = mixed(folder, work_dir, **changes)
    cfg.model.teacher = str(folder / 'both.json')
    return cfg


def test_a_killed_run_ends_as_one_that_was_not(folder, tmp_path):
    """Taught by a file, in images with annotations and in others, with a loader of another kind."""
    ExactRunner.from_cfg(of_file(folder, tmp_path / 'straight')).train()
    (tmp_path / 'killed').mkdir()
    shutil.copy(tmp_path / 'straight/epoch_1.pth', tmp_path / 'killed/epoch_1.pth')
    (tmp_path / 'killed/last_checkpoint').write_text(str(tmp_path / 'killed/epoch_1.pth'))
    workers = {'train_dataloader.num_workers': 1, 'train_dataloader.persistent_workers': True}
    resumed = of_file(folder, tmp_path / 'killed', **workers)
    prepare_resume(resumed)
    ExactRunner.from_cfg(resumed).train()
    ends = [torch.load(tmp_path / name / 'epoch_2.pth') for name in ('straight', 'killed')]
    for key, value in ends[0]['state_dict'].items():
        assert torch.equal(value, ends[1]['state_dict'][key]), key


def test_a_file_teaches_in_them_too(folder, tmp_path):
    cfg = of_file(folder, tmp_path)
    runner = ExactRunner.from_cfg(cfg)
    loader = runner.build_train_loop(runner._train_loop).dataloader
    batch = next(iter(loader))
    assert len(batch['teacher_detections'][2][0])  # of a mosaic of others
    terms = runner.model.train()(**runner.model.data_preprocessor(batch, True), mode='loss')
    assert float(terms['distill.loss_taught']) > 0


def test_the_cache_holds_them(folder, tmp_path):
    cfg = mixed(folder, tmp_path / 'run')
    torch.save(
        dict(
            state_dict=MODELS.build(
                dict(tiny_ssd(width=16, std=1.0), _scope_='mmdet')
            ).state_dict(),
            meta={},
        ),
        tmp_path / 'teacher.pth',
    )
    cfg.model.teacher_ckpt = str(tmp_path / 'teacher.pth')
    cfg.model.distiller = distiller_of('prediction_rows')
    fill_cache(copy.deepcopy(cfg), str(tmp_path / 'cache'), views=1)
    cfg.model.teacher_cache = str(tmp_path / 'cache')
    cfg.train_cfg.max_epochs = 1
    runner = ExactRunner.from_cfg(cfg)
    draw_cached_views(runner)
    runner.train()
    assert (tmp_path / 'run/epoch_1.pth').is_file()


def test_the_doctor_examines_such_a_pair(folder, tmp_path):
    report = examine(mixed(folder, tmp_path), images=0)
    text = '\n'.join(line for section in report.sections for line in section.lines())
    assert '3 x' in text and 'distill.loss_taught: value' in text


@pytest.mark.parametrize(
    ('settings', 'size', 'match'),
    [
        (dict(share=0.5), 2, 'must have images'),
        ({}, 2, 'must have images, .* but has nothing'),
        (True, 2, 'must have images, .* but has True'),
        (['more'], 2, r"must have images, .* but has \['more'\]"),
        (dict(images='none', share=0.5), 2, 'names none'),
        (dict(images='more', share=0), 2, 'share must be above 0 and below 1, but got 0'),
        (dict(images='more', share=1), 2, 'share must be above 0'),
        (dict(images='more', weight=1), 2, 'may have share and root'),
        (dict(images='more'), 1, 'batch_size is 1'),
    ],
)
def test_what_cannot_be_mixed_is_refused(folder, tmp_path, settings, size, match):
    cfg = mixed(folder, tmp_path)
    if isinstance(settings, dict) and 'images' in settings:
        settings = {**settings, 'images': str(folder / settings['images'])}
    cfg.model.unlabelled, cfg.train_dataloader.batch_size = settings, size
    with pytest.raises((ValueError, FileNotFoundError), match=match):
        mixed_loader(cfg)
    with pytest.raises((ValueError, FileNotFoundError), match=match):
        ExactRunner.from_cfg(cfg)


class Albu(BaseTransform):
    """As mmdet's, which leaves out what has no boxes, where it is asked to."""

    def __init__(self, skip_img_without_anno):
        self.skip_img_without_anno = skip_img_without_anno

    def transform(self, results):
        return None if self.skip_img_without_anno and not results['boxes'] else results


def test_no_transform_leaves_out_what_has_no_boxes(folder, tmp_path):
    """In a config, and in a pipeline that a hook sets; that of the annotated images stays."""
    cfg = mixed(folder, tmp_path)
    asks = dict(type='mmdet.Albu', transforms=[], skip_img_without_anno=True)
    cfg.train_dataloader.dataset.pipeline.insert(0, asks)
    own, bare = mixed_loader(cfg)['dataset']['datasets']
    assert own['pipeline'][0]['skip_img_without_anno']
    assert not bare['pipeline'][0]['skip_img_without_anno']
    built = Compose([Albu(True)])
    assert built(dict(boxes=[])) is None
    assert without_boxes(built)(dict(boxes=[])) == dict(boxes=[])
    assert built(dict(boxes=[])) is None


def test_a_folder_alone_is_half_of_each_batch(folder, tmp_path):
    cfg = mixed(folder, tmp_path)
    cfg.model.unlabelled, cfg.train_dataloader.batch_size = str(folder / 'more'), 4
    made = mixed_loader(cfg)
    assert (made.sampler.labelled, made.sampler.unlabelled) == (2, 2)


def test_a_hook_changes_both_and_a_look_neither(folder, tmp_path):
    runner = ExactRunner.from_cfg(mixed(folder, tmp_path))
    dataset = runner.build_train_loop(runner._train_loop).dataloader.dataset
    parts = dataset.datasets
    before = dataset[9]['data_samples'].img_path
    draw_objects(dataset, 4)
    assert dataset[9]['data_samples'].img_path == before and '/more/' in before
    other = copy.copy(dataset._dataset)
    other.update_skip_type_keys(('Mosaic',))
    assert [part._skip_type_keys for part in parts] == [None, None]
    dataset.update_skip_type_keys(('Mosaic',))
    assert [part._skip_type_keys for part in parts] == [('Mosaic',)] * 2
    dataset.pipeline = 'another'
    assert [part.pipeline for part in parts] == ['another'] * 2
    assert dataset.metainfo['classes'] == parts[0].metainfo['classes']


class Look(Hook):
    def __init__(self):
        self.batches = []

    def before_train_iter(self, runner, batch_idx, data_batch=None):
        self.batches.append(data_batch)


def plain(cfg):
    """Without mosaics, so that there is one pipeline, which a hook may exchange."""
    data = cfg.train_dataloader.dataset
    data.dataset.pipeline = [*data.dataset.pipeline, *data.pipeline[1:]]
    cfg.train_dataloader.dataset = data.dataset
    return cfg


@pytest.mark.parametrize('kind', ['mmdet.PipelineSwitchHook', 'mmyolo.YOLOXModeSwitchHook'])
def test_a_hook_that_exchanges_the_pipeline_keeps_them(folder, tmp_path, kind):
    """Both are cropped now, and those without boxes are not left out for that; resumed likewise."""
    late = [
        dict(type='LoadImageFromFile'),
        dict(type='LoadAnnotations', with_bbox=True),
        dict(type='RandomChoice', transforms=[[dict(type='RandomCrop', crop_size=(50, 70))]]),
        dict(type='Resize', scale=(80, 80), keep_ratio=False),
        dict(type='PackDetInputs'),
    ]
    options = dict(switch_epoch=1, switch_pipeline=late)
    if kind.startswith('mmyolo'):
        pytest.importorskip('mmyolo')
        options = dict(num_last_epochs=1, new_train_pipeline=late)
    ends = []
    for name in ('whole', 'resumed'):
        cfg = plain(of_file(folder, tmp_path / name))
        cfg.custom_hooks = [dict(type=kind, **options)]
        if ends:
            (tmp_path / 'resumed').mkdir()
            shutil.copy(tmp_path / 'whole/epoch_1.pth', tmp_path / 'resumed/epoch_1.pth')
            (tmp_path / 'resumed/last_checkpoint').write_text(str(tmp_path / 'resumed/epoch_1.pth'))
            prepare_resume(cfg)
        runner = ExactRunner.from_cfg(cfg)
        look = Look()
        runner.register_hook(look)
        runner.train()
        assert len(look.batches) == (4 if ends else 8)
        for place, batch in enumerate(look.batches[-4:]):
            assert batch[KEY].tolist() == [False, False, True], place
            assert batch['inputs'][2].shape == (3, 80, 80)
            sample = batch['data_samples'][2]
            assert '/more/' in sample.img_path and not len(sample.gt_instances)
            assert any(len(boxes) for boxes, _ in batch['teacher_detections'])
        ends.append(torch.load(tmp_path / name / 'epoch_2.pth')['state_dict'])
    assert all(torch.equal(value, ends[1][key]) for key, value in ends[0].items())


@pytest.mark.parametrize('kind', ['retinanet', 'ssd', 'faster_rcnn', 'detr'])
def test_unlabelled_images_are_no_background_for_classes_that_the_teacher_does_not_know(kind):
    """Where such a class has columns of its own they have no gradient; else the image has none."""
    torch.manual_seed(0)
    cfg = taught(kind, 'ssd', 'soft_ground_truth', unlabelled='x', classes=['ant', 'bee', 'cat'])
    cfg.teacher = dict(function='tests.detections.live.middle', classes=['ant', 'bee'])
    pair = freeze_bn(MODELS.build(cfg))
    pair.teacher.take_classes(['ant', 'bee', 'cat'])
    data = pair.data_preprocessor(batch_of(), True)
    data['inputs'].requires_grad_()
    maps = []

    dense = kind in ('retinanet', 'ssd')
    if dense:
        maker = pair.student.bbox_head
        forward = maker.forward
        maker.forward = lambda *args: kept_of(forward(*args), maps)
    terms = pair(**data, mode='loss')
    taught_terms = {k: v for k, v in terms.items() if 'loss' in k and k.startswith('distill.')}
    total = pair.parse_losses(taught_terms)[0]
    total.backward()
    moved = data['inputs'].grad.abs().flatten(1).sum(1)
    assert moved[0] > 0 and moved[2] > 0
    assert (moved[1] > 0) == dense
    classes = 3 if kind == 'retinanet' else 4
    levels = [one.grad.unflatten(1, (-1, classes)) for one in maps if one.grad is not None]
    levels = [level for level in levels if len(level) == 3]
    assert bool(levels) == dense
    if dense:  # of a softmax that mines, not each level has a gradient
        assert not any(level[1, :, 2].any() for level in levels)
        assert any(level[1, :, :2].any() for level in levels)
        assert any(level[0, :, 2].any() for level in levels)


def kept_of(outputs, maps):
    for level in outputs[0]:
        level.retain_grad()
        maps.append(level)
    return outputs


@pytest.mark.parametrize('name', ['soft_ground_truth', 'prediction_rows'])
def test_an_image_that_a_file_did_not_look_at_teaches_nothing(name):
    torch.manual_seed(0)
    cfg = taught('retinanet', 'ssd', name)
    cfg.teacher = FileOfDetections(3, 'teacher.json')
    pair = freeze_bn(MODELS.build(cfg))
    one = torch.tensor([[8.0, 8, 40, 44]]), torch.tensor([[0.0, 0.9, 0.0]])
    nothing = torch.zeros(0, 4), torch.zeros(0, 3)
    for given, moving in (
        ([one, None, nothing], [True, False, True]),  # nothing found is not the same
        ([None] * 3, [False] * 3),
    ):
        batch = raw_batch(3, seed=2)
        data = pair.data_preprocessor(dict(batch, teacher_detections=given), True)
        data['inputs'].requires_grad_()
        pair.loss_watch.suspects = set(pair.distiller.distill_losses)
        terms = pair(**data, mode='loss')
        # A batch of which nothing is told is no sign of a loss that cannot teach.
        [loss] = pair.distiller.distill_losses.values()
        assert excused(loss) or any(moving)
        assert 'idle' not in pair.loss_watch.found.values()
        told = {k: v for k, v in terms.items() if 'loss' in k and k.startswith('distill.')}
        pair.parse_losses(told)[0].backward()
        moved = data['inputs'].grad.abs().flatten(1).sum(1) > 0
        assert moved.tolist() == moving


def test_of_mixed_images_all_must_have_been_looked_at():
    def of(unseen):
        carried = Carried(HorizontalBoxes(torch.zeros(0, 4)), torch.zeros(0, 3), unseen=unseen)
        return CarryingBoxes.of(HorizontalBoxes(torch.zeros(0, 4)), carried)

    both = CarryingBoxes.cat([of(frozenset()), of(frozenset((1,))), of(frozenset((0,)))])
    assert both.carried.unseen == {0, 1}
    assert copy.deepcopy(both)[:0].carried.unseen == {0, 1}


class Listed:
    """A data set of which the files of its images are known."""

    def __init__(self, *paths):
        self.paths = paths

    def __len__(self):
        return len(self.paths)

    def get_data_info(self, index):
        return dict(img_path=self.paths[index])


def test_images_that_are_annotated_and_named_as_unlabelled_are_noted(tmp_path):
    a, b, c = (str(tmp_path / name) for name in 'abc')
    [line] = note_shared_images(MixedDataset([Listed(a, b), Listed(str(tmp_path / './b'), c)]))
    assert f'1 of 2 images are among the annotated ones, too, such as "{b}"' in line
    assert not note_shared_images(MixedDataset([Listed(a, b), Listed(c)]))
    assert not note_shared_images(Listed(a)) and not note_shared_images(None)


def test_images_that_figures_are_measured_on_are_told(folder, tmp_path, logged):
    """Of a data set that is not here nothing is said."""
    cfg = mixed(folder, tmp_path / 'run')
    own = copy.deepcopy(cfg.train_dataloader)
    dataset = mixed_loader(cfg).dataset
    with DefaultScope.overwrite_default_scope('mmdet'):
        built = DATASETS.build(dataset)
    assert note_measured_images(built, cfg) == ''
    assert note_measured_images(built.datasets[0], dict(val_dataloader=own)) == ''
    listed = [dict(id=i, file_name=f'{i}.png', width=160, height=120) for i in (1, 3, 7)]
    held = dict(images=listed, annotations=[], categories=[dict(id=1, name='ant')])
    (tmp_path / 'val.json').write_text(json.dumps(held))
    val = dict(
        type='CocoDataset', ann_file=str(tmp_path / 'val.json'), test_mode=True,
        data_prefix=dict(img=f'{folder}/more'), metainfo=dict(classes=('ant',)), pipeline=[],
    )  # fmt: skip
    cfg.val_dataloader = dict(dataset=val)
    assert '2 of 5 images are those of val_dataloader' in note_measured_images(built, cfg)
    cfg.val_dataloader.dataset.ann_file = 'gone.json'
    assert note_measured_images(built, cfg) == ''


def test_a_list_of_results_finds_a_coco_file_of_unlabelled_images(folder, tmp_path):
    """By its ids; boxes beyond its images are clipped; what has no result was not looked at."""
    images = [dict(id=100 + i, file_name=f'{i}.png', width=160, height=120) for i in range(5)]
    (tmp_path / 'more.json').write_text(json.dumps(dict(images=images)))
    cfg = mixed(folder, tmp_path)
    cfg.model.unlabelled = dict(images=str(tmp_path / 'more.json'), root=str(folder / 'more'))
    row = dict(category_id=1, bbox=[20, 20, 900, 900], score=0.9)
    rows = [dict(row, image_id=1), *(dict(row, image_id=100 + i) for i in (0, 1, 2, 4))]
    (tmp_path / 'own.json').write_text(json.dumps(rows))
    loader = mixed_loader(cfg)
    with DefaultScope.overwrite_default_scope('mmdet'):
        dataset = DATASETS.build(loader['dataset'])
    held = SimpleNamespace(dataset=dataset, collate_fn=pseudo_collate)
    [tally] = feed_detections(held, {DETECTIONS: (read_results(tmp_path / 'own.json'), None)})
    assert tally.left_out == {'boxes clipped to the image': 5}
    assert (tally.unlabelled, tally.unlabelled_not_looked_at, tally.not_looked_at) == (5, 1, 0)
    bare = dataset.datasets[1]
    while 'dataset' in vars(bare):
        bare = bare.dataset
    given = [bare.get_data_info(i)[DETECTIONS] for i in range(5)]
    assert [len(one[0]) for one in given] == [1, 1, 1, 0, 1]
    assert [bool(one.unseen) for one in given] == [False, False, False, True, False]
    torch.testing.assert_close(given[0][0], torch.tensor([[20.0, 20, 160, 120]]))
    random.seed(0)
    np.random.seed(0)
    batch = held.collate_fn([dataset[i] for i in range(len(dataset))])
    unseen = [one is None for one in batch[DETECTIONS]]  # mosaics of four, one of them not seen
    assert not any(unseen[: dataset.labelled]) and unseen[dataset.labelled + 3]
