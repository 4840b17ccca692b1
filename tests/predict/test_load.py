"""A detector is opened from its file alone, which is read and never run; or with a config."""

import ast
import json
import shutil
import sys
from pathlib import Path

import numpy as np
import pytest
import torch
from mmdet.apis import DetInferencer, inference_detector, init_detector
from mmdet.registry import MODELS
from mmengine import registry
from mmengine.config import Config, ConfigDict
from mmengine.registry import DATASETS, DefaultScope
from pycocotools import mask

from mmkd import load
from mmkd.checkpoints.registered_config import called_by, registered_config
from mmkd.checkpoints.registered_parts import _registries
from mmkd.config.key_finder import RUNNER_KEYS
from mmkd.export.student_config import student_config
from mmkd.predict.coco_results import CocoResults
from mmkd.predict.frames import Frame
from mmkd.predict.sources import Source
from tests.predict.conftest import CLASSES, PACK, PLAIN, pair_config
from tests.shipped import SHIPPED, shipped_student
from tests.test_rooms import names_of
from tests.tiny import ROOT, tiny_ssd, tiny_yolov5, write_coco
from tests.zoo import small


def same(found, other) -> None:
    assert len(found) == len(other) and found.classes == other.classes
    np.testing.assert_array_equal(found.boxes, other.boxes)
    np.testing.assert_array_equal(found.scores, other.scores)
    np.testing.assert_array_equal(found.labels, other.labels)


def test_the_student_alone_is_enough(place):
    """With no config beside it, from another folder, and as mmdet's own API finds it."""
    detect = load(place.student__pth, device='cpu')
    found = detect(place.images[0])
    assert len(found) == 20 and detect.classes == found.classes == CLASSES
    assert found.boxes.shape == (20, 4) and found.boxes.dtype == np.float32
    assert found.names == [CLASSES[label] for label in found.labels]
    assert (found.scores[:-1] >= found.scores[1:]).all() and found.boxes.max() > 100
    model = init_detector(place.student__py, place.student__pth, device='cpu')
    own = inference_detector(model, place.images[0]).pred_instances
    np.testing.assert_array_equal(found.boxes, own.bboxes.numpy())
    np.testing.assert_array_equal(found.scores, own.scores.numpy())
    assert DefaultScope.get_current_instance().scope_name == 'mmdet'  # of init_detector, not load's


@pytest.mark.parametrize(
    'files',
    [
        ('epoch_1__pth',),
        ('epoch_1__pth', 'pair__py'),
        ('student__pth', 'pair__py'),
        ('student__pth', 'student__py'),
    ],
)
def test_a_pair_gives_its_student(place, files):
    """Its checkpoint alone, too: the teacher has no part in it."""
    names = [getattr(place, name) for name in files]
    same(load(*names, device='cpu')(place.images[0]), load(place.student__pth)(place.images[0]))


def test_mmdets_inferencer_opens_the_student(place):
    """With its config, and alone; what it finds is the same."""
    found = load(place.student__pth, device='cpu')(place.images[1])
    for arguments in (dict(model=place.student__py), {}):
        inferencer = DetInferencer(**arguments, weights=place.student__pth, device='cpu')
        [one] = inferencer(place.images[1], return_vis=True)['predictions']
        np.testing.assert_allclose(one['bboxes'], found.boxes, rtol=1e-6)
        assert one['labels'] == found.labels.tolist()


@pytest.mark.parametrize('path', SHIPPED, ids=lambda path: path.stem)
def test_each_shipped_student_is_opened_alone(path):
    """All of its config is literal and registered; what mmdet does not read is not in it."""
    config = shipped_student(path)
    with PLAIN:
        text = config.pretty_text
    read = registered_config(dict(meta=dict(cfg=text)), path.name, student=True)
    assert read['model']['type'] == config.model.type
    assert read['test_dataloader']['dataset']['pipeline'] and read['visualizer']
    if '_kd_' in path.stem:
        assert set(config) <= RUNNER_KEYS | {'tta_model', 'tta_pipeline', 'custom_imports'}


def test_import_mmkd_is_no_heavier():
    """``load`` needs nothing at its import that the rest of mmkd does not import anyway."""

    def roots(paths) -> set[str]:
        trees = [ast.parse(path.read_text()).body for path in paths]
        return {name.split('.')[0] for tree in trees for name in names_of(tree)}

    room = ROOT / 'mmkd/predict'
    rest = [path for path in (ROOT / 'mmkd').rglob('*.py') if room not in path.parents]
    own = roots(room / f'{name}.py' for name in ('load', 'detector', 'exported_detector', 'pixels'))
    assert 'torch' in own and own <= roots(rest) - {'rich', 'matplotlib'}


def saved(folder: Path, **changes) -> str:
    """A student whose config is changed."""
    config = {**pair_config(folder), 'model': tiny_ssd(), **changes}
    weights = MODELS.build(ConfigDict(tiny_ssd())).state_dict()
    text = changes.pop('text', None) or ''.join(f'{k} = {v!r}\n' for k, v in config.items())
    torch.save(dict(state_dict=weights, meta=dict(cfg=text)), folder / 'a.pth')
    return str(folder / 'a.pth')


EVIL = dict(type='evil.Thing')


def hostile(folder: Path) -> dict[str, dict]:
    """Changes that would run ``evil`` or ``evil_teacher.py``, whose code leaves a mark."""
    ssd, path = tiny_ssd(), str(folder / 'evil_teacher.py')
    dataset = pair_config(folder)['test_dataloader']['dataset']
    parts = ('backbone', 'neck', 'bbox_head')
    code = dict(type='CameraMotionCompensation', warp_mode=f'open({str(folder / "ran")!r}, "w")')
    return dict(
        dotted=dict(model=EVIL),
        inner=dict(model={**ssd, 'backbone': EVIL}),
        module=dict(model={**ssd, 'neck': dict(type='evil')}),
        scope=dict(default_scope='evil'),
        inner_scope=dict(model={**ssd, '_scope_': 'evil'}),
        transform=dict(test_dataloader=dict(dataset=dict(pipeline=[EVIL]))),
        dataset=dict(test_dataloader=dict(dataset={**dataset, 'type': 'evil.Data'})),
        system=dict(model={**ssd, 'backbone': dict(type='os.mkdir', path=str(folder / 'ran'))}),
        evaluated=dict(model={**ssd, 'test_cfg': dict(nms=dict(type='__import__("evil")'))}),
        builtin=dict(model={**ssd, 'test_cfg': dict(nms=dict(type='breakpoint'))}),
        call=dict(text=f'model = dict(type=__import__("os").mkdir({str(folder / "ran")!r}))'),
        teacher=dict(
            model=dict(
                type='KnowledgeDistillationSingleStageDetector',
                backbone=ssd['backbone'],
                neck=ssd['neck'],
                bbox_head=ssd['bbox_head'],
                teacher_config=path,
            )
        ),
        student=dict(model=dict(type='DetectionDistill', architecture=path)),
        installed=dict(model=dict(cfg_path=f'mmdet::../../../../..{path}')),
        razor=dict(model=dict(type='mmrazor.sub_model', cfg=ssd)),
        # Registered, and its constructor takes a text for code.
        coder=dict(model={**ssd, 'bbox_head': {**ssd['bbox_head'], 'bbox_coder': code}}),
        shapes=dict(
            test_dataloader=dict(dataset={**dataset, 'batch_shapes_cfg': code}),
        ),
        # It opens a file, or downloads it.
        lad=dict(
            model=dict(
                type='LAD',
                teacher_ckpt=path.replace('.py', '.pth'),
                **{f'{whose}{part}': ssd[part] for whose in ('', 'teacher_') for part in parts},
            )
        ),
        # In another registry than the model's: mmengine then imports a module of that name.
        other=dict(model={**ssd, 'neck': dict(type='EvalHookOfMine')}),
    )


@pytest.mark.parametrize('name', list(hostile(Path())))
def test_what_would_be_run_is_refused(tmp_path, monkeypatch, mmdet_scope, name):
    from mmengine.registry import HOOKS

    mark = f'open({str(tmp_path / "ran")!r}, "w").close()\n'
    for file in ('evil', 'evil_teacher', 'EvalHookOfMine'):
        (tmp_path / f'{file}.py').write_text(mark + f'model = {tiny_ssd()!r}\n')
    (tmp_path / 'registry.py').write_text(mark)
    monkeypatch.syspath_prepend(str(tmp_path))
    monkeypatch.chdir(tmp_path)
    monkeypatch.setitem(HOOKS.module_dict, 'EvalHookOfMine', object)
    path = saved(tmp_path, **hostile(tmp_path)[name])
    with pytest.raises(ValueError, match=r'opened alone must hold its config, of registered types'):
        load(path)
    assert not (tmp_path / 'ran').exists()
    assert not {'evil', 'EvalHookOfMine'} & set(sys.modules)


def test_what_opens_files_is_known():
    """Of all that is registered; a detector on its own is none."""
    roots = [value for value in vars(registry).values() if isinstance(value, registry.Registry)]
    kinds = {kind for own in _registries(roots) for kind in own.module_dict.values()}
    opens = {'eval', 'open', '.from_pretrained', '.fromfile', 'load_checkpoint'}
    found = {kind.__name__ for kind in kinds if called_by(kind) & opens}
    assert found >= {'CameraMotionCompensation', 'LAD', 'BertModel', 'ATSSVLFusionHead'}
    assert not found & {'ResNet', 'SSDHead', 'RetinaHead', 'SSDVGG', 'FasterRCNN', 'CSPNeXt'}


@pytest.mark.parametrize(
    'loader',
    [
        5,
        dict(dataset=[1]),
        dict(dataset=dict(type='CocoDataset', pipeline=5)),
        dict(dataset=dict(type='CocoDataset', pipeline=[5])),
        dict(dataset=dict(type='CocoDataset', metainfo=5, pipeline=[PACK])),
        dict(dataset=dict(type='ConcatDataset', datasets=[dict(pipeline='x')])),
    ],
)
def test_data_that_are_none_are_told(tmp_path, mmdet_scope, loader):
    with pytest.raises(ValueError, match=r'has one with .* for its (test_dat|dat|pipe|meta)'):
        load(saved(tmp_path, test_dataloader=loader), device='cpu')


def test_custom_imports_are_not_followed(tmp_path, mmdet_scope):
    """Where all types are registered there is no need; where one is not, it is refused."""
    path = saved(tmp_path, custom_imports=dict(imports=['evil_of_imports']))
    assert load(path, device='cpu').classes == CLASSES
    assert 'evil_of_imports' not in sys.modules


@pytest.mark.parametrize(
    'change, told',
    [
        (dict(num_classes=10**6), 'far more weights'),
        (dict(unknown=1), 'TypeError'),
        (dict(num_classes=7), 'for the 7 classes of the config, but .* score 3'),
    ],
)
def test_a_config_that_its_weights_do_not_fit(tmp_path, mmdet_scope, change, told):
    model = tiny_ssd()
    model['bbox_head'].update(change)
    with pytest.raises(ValueError, match=told):
        load(saved(tmp_path, model=model), device='cpu')


def test_a_file_of_names_is_not_opened_alone(tmp_path, mmdet_scope):
    """Classes may be the name of a file, which a config of the user's own may open."""
    config = pair_config(tmp_path)['test_dataloader']
    (tmp_path / 'secret').write_text('a\nb\nc\n')
    config['dataset']['metainfo'] = dict(classes=str(tmp_path / 'secret'))
    path = saved(tmp_path, test_dataloader=config)
    assert load(path, device='cpu').classes == ()
    own = Config(dict(default_scope='mmdet', model=tiny_ssd(), test_dataloader=config))
    assert load(path, own, device='cpu').classes == ('a', 'b', 'c')


def test_a_missing_device_is_told_before_the_file_is_read():
    with pytest.raises(
        ValueError, match=r'the device must be one of this machine, but got "cuda:97'
    ):
        load('no_such_file.pth', device='cuda:97')
    with pytest.raises(ValueError, match='but got "gpu"'):
        load('no_such_file.pth', device='gpu')


def test_what_is_no_checkpoint_is_named(place, tmp_path):
    (tmp_path / 'a.onnx').write_bytes(b'\x08\x08\x12\x07pytorch' + bytes(100))
    shutil.copy(place.images[0], tmp_path / 'b.pth')
    for file, told in (('a.onnx', 'is no ONNX file'), ('b.pth', r'an image \(JPEG\)')):
        with pytest.raises(ValueError, match=told):
            load(tmp_path / file)
    with pytest.raises(FileNotFoundError, match='the detector must be an existing file'):
        load(tmp_path / 'c.pth')


def test_a_student_of_mmyolo(tmp_path, picture):
    pytest.importorskip('mmyolo')
    pipeline = [
        dict(type='LoadImageFromFile'),
        dict(type='YOLOv5KeepRatioResize', scale=(64, 64)),
        dict(type='LetterResize', scale=(64, 64), allow_scale_up=False, pad_val=dict(img=114)),
        {**PACK, 'type': 'mmdet.PackDetInputs', 'meta_keys': (*PACK['meta_keys'], 'pad_param')},
    ]
    policy = dict(type='BatchShapePolicy', batch_size=1, img_size=64, size_divisor=32)
    dataset = dict(type='YOLOv5CocoDataset', metainfo=dict(classes=CLASSES), pipeline=pipeline)
    dataset['batch_shapes_cfg'] = dict(policy, extra_pad_ratio=0.5)
    model = tiny_yolov5()
    model['test_cfg'] = dict(
        multi_label=True, nms_pre=100, score_thr=0.001, nms=dict(type='nms', iou_threshold=0.65),
        max_per_img=10,
    )  # fmt: skip
    config = dict(default_scope='mmyolo', model=model, test_dataloader=dict(dataset=dataset))
    with DefaultScope.overwrite_default_scope('mmyolo'), PLAIN:
        torch.manual_seed(0)
        weights = MODELS.build(ConfigDict(tiny_yolov5())).state_dict()
        text = student_config(Config(config)).pretty_text
    torch.save(dict(state_dict=weights, meta=dict(cfg=text)), tmp_path / 'student.pth')
    detect = load(tmp_path / 'student.pth', device='cpu')
    assert len(detect(picture)) == 10
    # MMYOLO's data set tells its pipeline the shape that the image is padded to.
    write_coco(tmp_path, 'val', 1, CLASSES)
    files = dict(ann_file='annotations/val.json', data_prefix=dict(img='JPEGImages/'))
    with DefaultScope.overwrite_default_scope('mmyolo'):
        loaded = DATASETS.build(
            dict(dataset, data_root=str(tmp_path), test_mode=True, serialize_data=False, **files)
        )
    prepared = detect.prepare(str(tmp_path / 'JPEGImages/val000.jpg')).data['inputs']
    assert torch.equal(prepared, loaded[0]['inputs']) and prepared.shape == (3, 64, 96)
    inferencer = DetInferencer(
        weights=str(tmp_path / 'student.pth'), scope='mmyolo', device='cpu', show_progress=False
    )
    assert len(inferencer(picture)['predictions'][0]['scores']) == 10


def test_a_detector_of_mmdet_with_masks(tmp_path, picture):
    config = Config(
        dict(
            default_scope='mmdet',
            model=small('mask_rcnn'),
            val_dataloader=dict(
                dataset=dict(
                    type='ConcatDataset',
                    datasets=[
                        dict(type='CocoDataset', pipeline=pair_config(tmp_path)['load'] + [PACK])
                    ],
                )
            ),
        )
    )
    config.model.test_cfg.rcnn.score_thr = 0.01
    torch.manual_seed(0)
    with DefaultScope.overwrite_default_scope('mmdet'):
        model = MODELS.build(config.model)
    torch.save(dict(state_dict=model.state_dict(), meta={}), tmp_path / 'a.pth')
    found = load(tmp_path / 'a.pth', config, device='cpu')(picture)
    assert len(found) and found.masks.shape == (len(found), 90, 120) and found.masks.dtype == bool
    assert found.classes[0] == 'person'  # of the data set's type
    results = CocoResults(found.classes)
    results.add(Frame(Source('image', picture, 'picture.png'), picture), found)
    rows = json.loads(results.text())
    assert [row['category_id'] for row in rows] == (found.labels + 1).tolist()
    for row, one in zip(rows, found.masks, strict=True):
        np.testing.assert_array_equal(mask.decode(row['segmentation']), one)


def test_a_metric_of_ones_own_is_no_hindrance_where_nothing_is_measured():
    text = "model = dict(type='FCOS')\nval_evaluator = dict(type='my_package.MyMetric')\n"
    held = dict(meta=dict(cfg=text))
    assert 'val_evaluator' not in registered_config(held, 'a.pth', student=True)
    with pytest.raises(ValueError, match='MyMetric, which would have to be run'):
        registered_config(held, 'a.pth', student=True, also=['val_evaluator'])
