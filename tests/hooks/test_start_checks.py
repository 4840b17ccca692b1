"""What a built run shows of its later epochs; hooks that reach into a pair reach the student."""

import copy
from types import SimpleNamespace

import pytest
import torch
from mmdet.engine.hooks import (
    NumClassCheckHook,
    PipelineSwitchHook,
    SetEpochInfoHook,
    YOLOXModeSwitchHook,
)
from mmdet.registry import MODELS
from mmengine.config import Config
from mmengine.hooks import Hook
from mmengine.model import MMDistributedDataParallel
from torch import nn

from mmkd.runner.exact_runner import ExactRunner
from tests.runner.test_late_results import logged
from tests.tiny import (
    raw_batch,
    tiny_pair,
    tiny_runner,
    tiny_ssd,
    tiny_ssd_with_adapters,
    write_coco,
)

pytestmark = pytest.mark.usefixtures('mmdet_scope')
CLASSES = ('ant', 'bee', 'cat')


def tiny_yolox() -> dict:
    """For 64-px images; its L1 term comes late."""
    return dict(
        type='YOLOX',
        data_preprocessor=dict(type='DetDataPreprocessor', pad_size_divisor=32),
        backbone=dict(type='CSPDarknet', deepen_factor=0.33, widen_factor=0.125),
        neck=dict(type='YOLOXPAFPN', in_channels=[32, 64, 128], out_channels=32, num_csp_blocks=1),
        bbox_head=dict(type='YOLOXHead', num_classes=3, in_channels=32, feat_channels=32),
        train_cfg=dict(assigner=dict(type='SimOTAAssigner', center_radius=2.5)),
        test_cfg=dict(score_thr=0.01, nms=dict(type='nms', iou_threshold=0.65)),
    )


def tiny_yolox_pair(**changes) -> dict:
    record = dict(neck=dict(type='ModuleOutputs', source='neck'))
    mapping = dict(
        preds_S=dict(recorder='neck', from_student=True, data_idx=0),
        preds_T=dict(recorder='neck', from_student=False, data_idx=0),
    )
    distiller = dict(
        type='ConfigurableDistiller',
        student_recorders=record,
        teacher_recorders=record,
        distill_losses=dict(loss_neck=dict(type='ChannelWiseDivergence', loss_weight=0.1)),
        loss_forward_mappings=dict(loss_neck=mapping),
    )
    return tiny_pair(
        architecture=tiny_yolox(),
        teacher=tiny_yolox(),
        distiller=distiller,
        student_loss_weights=changes.pop('student_loss_weights', None),
        **changes,
    )


def run(model, work_dir, *hooks, batches=2, **changes):
    torch.manual_seed(0)
    built = MODELS.build(copy.deepcopy(model))
    images = [raw_batch(1, seed=seed) for seed in range(batches)]
    settings = dict(
        cfg=Config(dict(model=model)),
        default_hooks=dict(logger=dict(type='LoggerHook', interval=1)),
        custom_hooks=list(hooks),
        train_cfg=dict(by_epoch=True, max_epochs=3),
    )
    runner = tiny_runner(built, images, work_dir, runner=ExactRunner, **{**settings, **changes})
    runner.train()
    return runner


def test_a_late_term_of_the_student_is_switched_on_and_weighs_what_it_says(tmp_path):
    """In a pair of YOLOX the L1 term comes in epoch 2 of 2, twice as heavy as in the baseline."""
    seen = []

    class Watch(Hook):
        def after_train_iter(self, runner, *args, outputs=None, **kwargs):
            assert runner.model.bbox_head is runner.model.student.bbox_head
            seen.append(outputs.get('student.loss_l1'))

    class Images(list):
        def update_skip_type_keys(self, keys):
            self.skipped = keys

    items = Images(
        dict(inputs=b['inputs'][0], data_samples=b['data_samples'][0])
        for b in (raw_batch(1, seed=seed) for seed in range(2))
    )
    loader = dict(dataset=items, batch_size=2, num_workers=0, sampler=dict(type='DefaultSampler'))
    values = []
    for weight in (1.0, 2.0):
        seen.clear()
        model = tiny_yolox_pair(student_loss_weights=dict(loss_l1=weight))
        switch = YOLOXModeSwitchHook(num_last_epochs=0, skip_type_keys=('Mosaic',))
        work_dir = tmp_path / str(weight)
        optimizer = dict(optimizer=dict(type='SGD', lr=0.0))
        changes = dict(train_dataloader=loader, optim_wrapper=optimizer)
        loop = dict(by_epoch=True, max_epochs=2)
        run(model, work_dir, switch, Watch(), train_cfg=loop, **changes)
        assert [value is None for value in seen] == [True, False]
        values.append(seen[1].item())
    assert values[1] == pytest.approx(2 * values[0]) and values[0] > 0


def test_a_misspelt_term_is_still_refused():
    model = MODELS.build(tiny_yolox_pair(student_loss_weights=dict(loss_l2=1.0)))
    with pytest.raises(ValueError, match=r'loss_cls.*but got loss_l2'):
        model(**model.data_preprocessor(raw_batch(), True), mode='loss')


def test_what_the_pair_lacks_is_the_students():
    pair = MODELS.build(tiny_ssd_with_adapters())
    keys = list(pair.state_dict())
    assert pair.backbone is pair.student.backbone and pair.with_neck and pair.bbox_head
    pair.bbox_head.use_l1 = True
    assert pair.student.bbox_head.use_l1
    assert not hasattr(pair, 'roi_head') and not hasattr(pair, 'detector')
    with pytest.raises(AttributeError, match="'DetectionDistill' object has no attribute 'lost'"):
        pair.lost  # noqa: B018
    assert list(pair.state_dict()) == keys and all(
        key.startswith(('architecture.', 'distiller.')) for key in keys
    )
    twin = copy.deepcopy(pair)
    assert twin.bbox_head is twin.student.bbox_head is not pair.bbox_head
    assert twin.teacher is pair.teacher
    bare = type(pair).__new__(type(pair))  # as it is being unpickled
    with pytest.raises(AttributeError):
        bare.backbone  # noqa: B018


def test_mmdets_hooks_reach_the_student_also_behind_a_wrapper(monkeypatch):
    """SetEpochInfoHook, YOLOXModeSwitchHook, NumClassCheckHook, and a user's own."""
    pair = MODELS.build(tiny_pair())
    epochs = []
    pair.student.set_epoch = epochs.append
    wrapped = MMDistributedDataParallel.__new__(MMDistributedDataParallel)
    nn.Module.__init__(wrapped)
    wrapped.module = pair
    for model in (pair, wrapped):
        pair.bbox_head.use_l1 = False
        dataset = SimpleNamespace(metainfo=dict(classes=CLASSES))
        dataset.update_skip_type_keys = lambda keys: None
        runner = SimpleNamespace(
            model=model,
            epoch=5,
            max_epochs=6,
            train_dataloader=SimpleNamespace(dataset=dataset),
            logger=SimpleNamespace(info=print, warning=print),
        )
        for hook in (SetEpochInfoHook(), YOLOXModeSwitchHook(), NumClassCheckHook()):
            hook.before_train_epoch(runner)
        assert epochs.pop() == 5 and pair.student.bbox_head.use_l1
        dataset.metainfo['classes'] = CLASSES[:2]
        with pytest.raises(AssertionError, match='num_classes'):
            NumClassCheckHook().before_train_epoch(runner)


def coco(folder, *pipeline) -> dict:
    write_coco(folder, 'train', 3, CLASSES)
    return dict(
        type='CocoDataset',
        data_root=str(folder),
        ann_file='annotations/train.json',
        data_prefix=dict(img='JPEGImages/'),
        metainfo=dict(classes=CLASSES),
        pipeline=list(pipeline),
    )


LOAD = [dict(type='LoadImageFromFile'), dict(type='LoadAnnotations', with_bbox=True)]
SMALL = dict(type='Resize', scale=(64, 64), keep_ratio=False)
PACK = dict(type='PackDetInputs', meta_keys=('img_id', 'ori_shape', 'img_shape', 'scale_factor'))


def loader(dataset, **changes) -> dict:
    sampler = dict(type='DefaultSampler', shuffle=True)
    return dict(dataset=dataset, batch_size=2, num_workers=0, sampler=sampler, **changes)


@pytest.mark.parametrize(
    ('late', 'fault'),
    [
        ([*LOAD, SMALL], 'PackDetInputs is missing'),
        ([*LOAD, dict(type='Reszie'), PACK], 'Reszie is not in'),
        ([LOAD[0], dict(type='Mosaic'), PACK], 'Error'),
        ([*LOAD, SMALL, PACK], None),
    ],
)
def test_a_late_pipeline_is_tried_at_the_start(tmp_path, late, fault):
    data = loader(coco(tmp_path / 'data', *LOAD, SMALL, PACK))
    switch = PipelineSwitchHook(switch_epoch=2, switch_pipeline=late)
    changes = dict(train_dataloader=data)
    if fault is None:
        runner = run(tiny_ssd(), tmp_path / 'run', switch, **changes)
        assert runner.epoch == 3 and switch._has_switched
        return
    with pytest.raises(ValueError, match=f'pipeline that PipelineSwitchHook will.*{fault}'):
        run(tiny_ssd(), tmp_path / 'run', switch, **changes)
    assert not list((tmp_path / 'run').glob('*.pth'))


def test_a_late_switch_needs_its_part_of_the_model_and_the_data(tmp_path):
    class Headless(nn.Module):
        pass

    data = loader(coco(tmp_path / 'data', *LOAD, SMALL, PACK))
    with pytest.raises(ValueError, match=r'YOLOXModeSwitchHook will.*update_skip_type_keys'):
        run(tiny_ssd(), tmp_path / 'a', YOLOXModeSwitchHook(1), train_dataloader=data)
    with pytest.raises(ValueError, match=r'SetEpochInfoHook needs .*set_epoch, but Single'):
        run(tiny_ssd(), tmp_path / 'b', SetEpochInfoHook())


def test_schedules_and_folders_that_end_the_run(tmp_path):
    cycle = dict(type='OneCycleLR', eta_max=0.1, by_epoch=False)
    for total in (5, 7):
        changes = dict(param_scheduler=dict(cycle, total_steps=total))
        assert run(tiny_ssd(), tmp_path / str(total), **changes).iter == 6
    with pytest.raises(ValueError, match=r'total_steps must not be less than the 6 iter.*got 4'):
        run(tiny_ssd(), tmp_path / '4', param_scheduler=dict(cycle, total_steps=4))
    (tmp_path / 'file').touch()
    folder = dict(type='CheckpointHook', out_dir=str(tmp_path / 'file'))
    with pytest.raises(ValueError, match=r'out_dir must be a folder that can be written to.*file'):
        run(tiny_ssd(), tmp_path / 'c', default_hooks=dict(checkpoint=folder))
    (tmp_path / 'd/student.py').mkdir(parents=True)
    with pytest.raises(IsADirectoryError, match=r'student.py.*another filename'):
        run(tiny_pair(), tmp_path / 'd', dict(type='ExportStudentHook'))
    with pytest.raises(ValueError, match=r'must be named NAME.pth, but got "student"'):
        run(tiny_pair(), tmp_path / 'e', dict(type='ExportStudentHook', filename='student'))


def small_map(norm: str) -> dict:
    """Its last level is 1x1 behind a norm."""
    model = tiny_ssd()
    model['neck']['norm_cfg'] = dict(type=norm, **(dict(num_groups=4) if norm == 'GN' else {}))
    return model


@pytest.mark.parametrize(
    ('model', 'images', 'batch', 'options', 'faulty'),
    [
        ('BN', 3, 2, {}, True),
        ('BN', 3, 1, {}, True),
        ('BN', 3, 2, dict(drop_last=True), False),
        ('BN', 4, 2, {}, False),
        ('GN', 3, 2, {}, False),
        ('none', 3, 2, {}, False),
    ],
)
def test_a_last_batch_of_one_image(tmp_path, model, images, batch, options, faulty):
    items = [raw_batch(1, seed=seed) for seed in range(images)]
    items = [dict(inputs=b['inputs'][0], data_samples=b['data_samples'][0]) for b in items]
    sampler = dict(type='DefaultSampler', shuffle=False)
    data = dict(dataset=items, batch_size=batch, num_workers=0, sampler=sampler, **options)
    changes = dict(train_dataloader=data, train_cfg=dict(by_epoch=True, max_epochs=1))
    config = tiny_ssd() if model == 'none' else small_map(model)
    if not faulty:
        assert run(config, tmp_path, **changes).epoch == 1
        return
    with pytest.raises(ValueError, match=r'neck\.extra_layers.* sees a map of 1x1.*drop_last=True'):
        run(config, tmp_path, **changes)
    assert 'Epoch(train)' not in logged(tmp_path)


def test_mmyolos_new_loader_is_seeded_and_comes_again_on_resume(tmp_path):
    """Its hook switches in epoch 2 only: stopped after that and resumed, the end is the same."""
    pytest.importorskip('mmyolo')
    from mmyolo.engine.hooks import YOLOXModeSwitchHook as Switch

    late = [*LOAD, dict(type='RandomFlip', prob=0.5), SMALL, PACK]
    data = loader(coco(tmp_path / 'data', *LOAD, SMALL, PACK))
    ends = []
    for name, epochs in (('whole', 3), ('stopped', 2), ('stopped', 3)):
        resume = {}
        if (name, epochs) == ('stopped', 3):
            resume = dict(resume=True, load_from=str(tmp_path / 'stopped/epoch_2.pth'))
        # The second one has its switch in epoch 2 too.
        switch = Switch(num_last_epochs=epochs - 2, new_train_pipeline=late)
        runner = run(
            tiny_ssd(),
            tmp_path / name,
            switch,
            cfg=Config(dict(model=tiny_ssd(), train_dataloader=data)),
            train_dataloader=data,
            train_cfg=dict(by_epoch=True, max_epochs=epochs),
            **resume,
        )
        pipeline = runner.train_dataloader.dataset.pipeline
        assert len(pipeline.transforms) == len(late)
        assert type(runner.train_dataloader.dataset).__name__ == 'SeededDataset'
        assert runner.model.bbox_head.use_bbox_aux
        ends.append(runner.model.state_dict())
    assert all(torch.equal(value, ends[2][key]) for key, value in ends[0].items())
    assert not all(torch.equal(value, ends[1][key]) for key, value in ends[0].items())
