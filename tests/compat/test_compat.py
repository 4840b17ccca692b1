"""Every patch: it is needed (what fails without it), and it works."""

import importlib.util
import inspect
import io
import json
import os
import pickle
import re
import subprocess
import sys
import textwrap
import warnings
import zipfile

import cv2
import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from mmengine.config import Config, ConfigDict
from mmengine.hub import get_config, get_model
from mmengine.logging import HistoryBuffer, MessageHub
from mmengine.registry import MODELS, DefaultScope
from mmengine.runner import Runner

import mmkd
from mmkd import compat
from mmkd.compat import mmcv_ops, packages
from mmkd.compat.ops import nms
from tests.tiny import ROOT, tiny_pair, write_coco, write_voc
from tests.waits import waits

# Runs in a process of its own, with all patches but those named in `without`.
PRELUDE = """
    import sys, types
    package = types.ModuleType('mmkd')  # mmkd without the __init__ that applies the patches
    package.__path__ = {path!r}
    sys.modules['mmkd'] = package
    {before}
    from mmkd import compat
    from mmkd.compat import packages
    for patch in compat.PATCHES:
        if patch.__name__ not in {without!r}:
            patch()
"""
# What fails without each patch, and the error. The test below fails once that has changed.
NEEDS = {
    'supply_mmcv_ops': ('import mmcv.ops', "No module named 'mmcv._ext'"),
    'accept_mmcv_version': ('import mmrazor', 'Please install mmcv'),
    'placeholder_quantization': (
        'import mmrazor.structures',
        '`torch>=1.13` is not installed properly',
    ),
}

needs_mmyolo = pytest.mark.skipif(
    importlib.util.find_spec('mmyolo') is None, reason='needs the extra [yolo]'
)
needs_stand_in = pytest.mark.skipif(
    not isinstance(sys.modules['mmcv._ext'], mmcv_ops.MmcvExt), reason='mmcv has compiled ops'
)
original_family = 'onedl-mmcv' not in packages.installed('mmcv')


# Forks for each code that it reads, with only imported what no patch is about.
UNPATCHED = """
    import json, os, sys, tempfile, traceback
    import cv2, mmengine.runner, torch
    for line in sys.stdin:
        files = [tempfile.TemporaryFile('w+') for _ in range(2)]
        child = os.fork()
        if not child:
            os.dup2(files[0].fileno(), 1), os.dup2(files[1].fileno(), 2)
            status = 1
            try:
                exec(json.loads(line), {'__name__': '__main__'})
                status = 0
            except BaseException:
                traceback.print_exc()
            sys.stdout.flush(), sys.stderr.flush()
            os._exit(status)
        status = os.waitstatus_to_exitcode(os.waitpid(child, 0)[1])
        texts = [file.read() for file in files if file.seek(0) == 0]
        print(json.dumps([status, *texts]), flush=True)
"""


@pytest.fixture(scope='module')
def run():
    """Run a code in a process of its own, with all patches but those named in ``without``."""
    command = [sys.executable, '-c', textwrap.dedent(UNPATCHED)]
    with subprocess.Popen(
        command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
    ) as process:

        def call(code, without=(), before='') -> subprocess.CompletedProcess:
            prelude = PRELUDE.format(path=list(mmkd.__path__), without=without, before=before)
            whole = textwrap.dedent(prelude) + textwrap.dedent(code)
            process.stdin.write(f'{json.dumps(whole)}\n')
            process.stdin.flush()
            status, out, err = json.loads(process.stdout.readline())
            return subprocess.CompletedProcess(whole, status, out, err)

        yield call


@pytest.mark.parametrize('patch', NEEDS)
def test_patch_is_needed(patch, run):
    if patch == 'supply_mmcv_ops' and not isinstance(sys.modules['mmcv._ext'], mmcv_ops.MmcvExt):
        pytest.skip('mmcv has compiled ops')
    if patch == 'accept_mmcv_version' and original_family:
        pytest.skip('mmrazor accepts the original mmcv 2.1.0; mmyolo does not: see below')
    code, error = NEEDS[patch]
    # these import all of mmdet
    of_models = {
        'repair_ssd_head',
        'let_heads_have_own_methods',
        'normalise_ssd_over_ranks',
        'call_heads_with_their_hooks',
        'run_instance_segmentors_without_ground_truth',
        'predict_batches_of_guided_anchors',
        'predict_branches_by_image',
        'count_what_fits_in_transformers',
        'decay_the_students_layers',
    }
    result = run(code, without={patch, *of_models})
    assert result.returncode != 0, f'{patch} is no longer needed: remove it'
    assert error in result.stderr


def test_every_patch_is_tested():
    elsewhere = (
        'reject_mixed_families',
        'hide_the_lack_of_an_unused_metric',
        'require_pkg_resources',
        'find_shipped_configs',
        'lay_out_configs_once',  # tests/compat/test_configs.py
        'put_arguments_in_the_place_of_auto',  # tests/compat/test_configs.py
        'allow_checkpoint_globals',
        'read_without_running',  # tests/checkpoints/test_detector_checkpoint.py
        'load_data_without_running',  # here and in tests/checkpoints/test_plain_pickle.py
        'open_checkpoints_without_running',  # tests/checkpoints/test_registered_config.py
        'count_what_fits',  # here and in tests/checkpoints/test_loading.py
        'count_what_fits_in_transformers',
        'write_checkpoints_whole',
        'remove_checkpoints_late',
        'repair_ssd_head',
        'pool_without_torchvision',  # tests/compat/test_ops.py
        'let_heads_have_own_methods',  # tests/compat/test_heads.py
        'normalise_ssd_over_ranks',  # tests/distributed/test_ranks.py
        'call_heads_with_their_hooks',  # tests/compat/test_detectors.py
        'run_instance_segmentors_without_ground_truth',
        'predict_batches_of_guided_anchors',
        'predict_branches_by_image',
        'read_coco_files_of_any_encoding',  # tests/datasets/test_annotations.py
        'read_configs_past_byte_order_marks',  # tests/compat/test_configs.py
        'write_paths_into_configs_as_python_does',
        'read_voc_lists_and_suffixes',
        'hold_boxes_to_the_rules',
        'refuse_broken_images',
        'give_metrics_the_loaded_ground_truth',
        'measure_what_was_loaded',
        'lengthen_short_palettes',
        'check_loaded_images',
        'name_images_of_other_channels',
        'hand_out_detections',  # tests/compat/test_transforms.py
        'let_detections_follow',
        'score_no_detections',
        'tell_of_the_student',
        'decay_the_students_layers',
        'read_logged_values_late',
        'keep_scopes_from_functions',
    )
    assert {patch.__name__ for patch in compat.PATCHES} == {*NEEDS, *elsewhere}


def test_mmengine_loads_nothing_without_an_error():
    from mmdet.models.backbones import SwinTransformer
    from mmengine.runner import Runner, checkpoint

    part = torch.nn.Linear(2, 2)
    checkpoint.load_state_dict.__wrapped__(part, {'other': torch.ones(1)})
    assert 'load_state_dict(state_dict, False)' in inspect.getsource(SwinTransformer)
    assert 'Config.fromstring' in inspect.getsource(Runner.resume), 'it ran what meta holds'


def test_import_is_silent():
    result = subprocess.run(
        [sys.executable, '-c', 'import mmkd'], capture_output=True, text=True, check=True
    )
    assert result.stdout + result.stderr == ''


# One environment, one family


def test_mixed_families_are_named(monkeypatch):
    both = {'mmdet': '3.3.0', 'onedl-mmdetection': '3.5.1'}

    def version(name):
        if name in both:
            return both[name]
        raise packages.PackageNotFoundError(name)

    monkeypatch.setattr(packages, 'version', version)
    with pytest.raises(
        ImportError,
        match=r'onedl-mmdetection 3\.5\.1 and mmdet 3\.3\.0.*uninstall -y onedl-mmdetection mmdet',
    ):
        packages.reject_mixed_families()
    del both['mmdet']
    packages.reject_mixed_families()


def test_original_mmengine_without_pkg_resources(monkeypatch):
    monkeypatch.setattr(packages, 'installed', lambda package: {'mmengine': '0.10.7'})
    monkeypatch.setattr(importlib.util, 'find_spec', lambda name: None)
    with pytest.raises(ImportError, match=r'setuptools<81'):
        packages.require_pkg_resources()
    monkeypatch.setattr(packages, 'installed', lambda package: {'onedl-mmengine': '0.10.12'})
    packages.require_pkg_resources()


# Configs that come with mmkd

SHIPPED = [
    'ssd_kd_vgg_to_mbv2.py',  # a flat name
    'ssd_kd_vgg_to_mbv2',
    '_base_/methods/ssd_balanced.py',
    'yolov5_n_digits.py',
]


@pytest.mark.parametrize('name', SHIPPED)
def test_a_shipped_config_is_found(name, tmp_path, recwarn, caplog):
    """As one by its path is: nothing is added, no scope of its own, no warning."""
    path = ROOT / 'configs' / (name if name.endswith('.py') else f'{name}.py')
    own = Config.fromfile(path).to_dict()
    assert get_config(f'mmkd::{name}').to_dict() == own
    (tmp_path / 'by_name.py').write_text(f'_base_ = "mmkd::{name}"\nmine = _base_.copy()\n')
    (tmp_path / 'by_path.py').write_text(f'_base_ = "{path}"\nmine = _base_.copy()\n')
    by_name, by_path = (
        Config.fromfile(tmp_path / f'by_{w}.py').to_dict() for w in ('name', 'path')
    )
    assert by_name == by_path
    assert not [w for w in recwarn if 'scope' in str(w.message)] and 'scope' not in caplog.text


def test_a_pair_of_shipped_configs_is_built(tmp_path):
    path = tmp_path / 'pair.py'
    path.write_text(
        "_base_ = ['mmkd::ssd_r18w8_digits.py', 'mmkd::_base_/methods/ssd_chen2017.py']\n"
        "model = dict(_delete_=True, _scope_='mmrazor', type='DetectionDistill',\n"
        "             architecture=_base_.model, teacher='mmkd::ssd_r18w32_digits.py',\n"
        '             distiller=_base_.distiller)\n'
    )
    config = Config.fromfile(path)
    with DefaultScope.overwrite_default_scope(config.default_scope):
        model = MODELS.build(config.model)
    widths = [model.teacher.backbone.base_channels, model.student.backbone.base_channels]
    assert widths == [32, 8]


def test_a_shipped_model_is_built():
    assert type(get_model('mmkd::ssd_r18w8_digits')).__name__ == 'SingleStageDetector'
    with pytest.raises(AssertionError, match='Weights'):
        get_model('mmkd::ssd_r18w8_digits', pretrained=True)


def test_configs_of_other_packages_are_found_as_ever():
    assert get_config('mmdet::ssd/ssd300_coco.py').model.type == 'SingleStageDetector'
    with pytest.raises(FileNotFoundError, match=r'no "ssd_kd\.py"\. Did you mean ssd'):
        get_config('mmkd::ssd_kd.py')
    with pytest.raises(FileNotFoundError, match='"mmkd configs" lists them'):
        get_config('mmkd::../mmkd/compat/ops.py')


def test_shipped_configs_need_the_patch(run):
    code = """
        from mmengine.hub import get_config
        for name in ('ssd_r18w8_digits.py', '_base_/datasets/digits.py'):
            try:
                get_config(f'mmkd::{name}')
            except (ValueError, AssertionError) as error:
                print(error)
    """
    out = run(code, without={p.__name__ for p in compat.PATCHES}).stdout
    assert 'please specify the package name and relative config path' in out
    assert 'mmengine does not support to load mmkd config' in out


# The extension module


@needs_stand_in
def test_missing_op_is_named():
    from mmcv.ops import nms_rotated

    with pytest.raises(NotImplementedError, match=r'"nms_rotated".*nms, softnms.*mmcv'):
        nms_rotated(torch.zeros(1, 5), torch.zeros(1), 0.5)


@needs_stand_in
def test_stand_in_is_a_module_with_a_spec():
    assert importlib.util.find_spec('mmcv._ext').name == 'mmcv._ext'
    assert not hasattr(sys.modules['mmcv._ext'], '__wrapped__')
    assert sys.modules['mmcv._ext'].nms is nms.nms


@needs_stand_in
def test_compiled_ops_are_left_alone(tmp_path, run):
    (tmp_path / '_ext.py').write_text('def __getattr__(name): return f"compiled {name}"')
    result = run(
        "import mmcv.ops; assert sys.modules['mmcv.ops.nms'].ext_module.nms == 'compiled nms'",
        without={'repair_ssd_head'},
        before=f'import mmcv; mmcv.__path__.append({str(tmp_path)!r})',
    )
    assert result.returncode == 0, result.stderr


@needs_stand_in
def test_compiled_ops_for_another_torch_are_reported(tmp_path, run):
    (tmp_path / '_ext.py').write_text('raise ImportError("undefined symbol: _ZN3c10")')
    result = run('', before=f'import mmcv; mmcv.__path__.append({str(tmp_path)!r})')
    assert result.returncode != 0
    last_line = result.stderr.strip().splitlines()[-1]
    assert f'received torch {torch.__version__} and "undefined symbol: _ZN3c10"' in last_line


# mmyolo: optional, GPL-3.0, imported by configs only


@needs_mmyolo
@pytest.mark.parametrize(
    'code',
    [
        "from mmdet.registry import MODELS; MODELS.build(dict(type='mmyolo.BepC3StageBlock', "
        'in_channels=4, out_channels=4))',
        # What Config.fromfile does with custom_imports.
        'from mmengine.utils import import_modules_from_strings as load; '
        "load(['mmyolo.models', 'mmyolo.datasets'])",
    ],
    ids=['scope', 'custom_imports'],
)
def test_mmyolo_loads_when_a_config_asks(code, run):
    before = 'import mmrazor.models, mmdet.datasets; assert "mmyolo" not in sys.modules'
    version = (
        'import mmcv; assert mmcv.__version__ == packages.version(*packages.installed("mmcv"))'
    )
    result = run(f'{before}; {code}; assert "mmyolo.models" in sys.modules; {version}')
    assert result.returncode == 0, result.stderr


@needs_mmyolo
def test_mmyolo_needs_the_patch(run):
    result = run('import mmyolo', without={'accept_mmcv_version', 'repair_ssd_head'})
    assert 'Please install mmcv' in result.stderr


# SSD


@pytest.fixture
def predict():
    from mmdet.models.dense_heads import SSDHead
    from mmengine.registry import init_default_scope

    init_default_scope('mmdet')
    head = SSDHead(
        num_classes=2,
        in_channels=(4,),
        anchor_generator=dict(
            type='SSDAnchorGenerator',
            scale_major=False,
            input_size=64,
            basesize_ratio_range=(0.2, 0.9),
            strides=[32],
            ratios=[[2]],
            min_sizes=[16],
            max_sizes=[32],
        ),
        test_cfg=ConfigDict(nms=dict(type='nms', iou_threshold=0.5), score_thr=0.0, max_per_img=5),
    )
    meta = dict(img_shape=(64, 64), scale_factor=(1.0, 1.0))
    return lambda: head.predict_by_feat(*head((torch.zeros(1, 4, 2, 2),)), batch_img_metas=[meta])


def test_ssd_predicts(predict):
    assert len(predict()[0]) == 5


def test_ssd_needs_the_patch(predict, monkeypatch):
    from mmdet.models.dense_heads import SSDHead

    monkeypatch.delattr(SSDHead, 'loss_cls')
    with pytest.raises(AttributeError, match='loss_cls'):
        predict()


# Checkpoints


@pytest.fixture
def checkpoint(tmp_path):
    """A checkpoint with the kinds of values that mmengine's runner saves beside the weights."""
    hub = MessageHub.get_instance('test_compat')
    hub.update_scalar('train/loss', 1.5)
    hub.update_scalar('train/acc', np.float32(0.5))
    hub.update_info('iter', np.int64(7))
    meta = {'seed': 0, 'map': np.float64(0.25), 'ok': np.bool_(True)}
    path = tmp_path / 'checkpoint.pth'
    torch.save({'state_dict': {}, 'message_hub': hub.state_dict(), 'meta': meta}, path)
    return path


def check(loaded):
    assert loaded['meta'] == {'seed': 0, 'map': 0.25, 'ok': True}
    scalars = loaded['message_hub']['log_scalars']
    assert isinstance(scalars['train/loss'], HistoryBuffer)
    assert scalars['train/loss'].current() == 1.5
    assert scalars['train/acc'].mean() == 0.5


def test_checkpoint_loads_without_running_its_code(checkpoint):
    check(torch.load(checkpoint, weights_only=True))


def test_checkpoint_of_numpy_1_loads(checkpoint, tmp_path):
    old = tmp_path / 'old.pth'
    with zipfile.ZipFile(checkpoint) as source, zipfile.ZipFile(old, 'w') as target:
        for name in source.namelist():
            data = source.read(name).replace(b'numpy._core.', b'numpy.core.')
            target.writestr(name, data)
    assert b'numpy._core' not in old.read_bytes()
    check(torch.load(old, weights_only=True))


def test_checkpoint_needs_the_patch(checkpoint):
    allowed = torch.serialization.get_safe_globals()
    torch.serialization.clear_safe_globals()
    try:
        with pytest.raises(pickle.UnpicklingError, match='Unsupported global'):
            torch.load(checkpoint, weights_only=True)
    finally:
        torch.serialization.add_safe_globals(allowed)


class Attack:
    def __init__(self, path):
        self.path = str(path)

    def __reduce__(self):
        return os.mkdir, (self.path,)


@pytest.mark.filterwarnings('ignore')
def test_mmengine_runs_what_it_fetches(tmp_path, site, cache):
    """Else ``read_without_running`` is needed for its messages alone."""
    from mmengine.runner import checkpoint

    for loader in checkpoint.CheckpointLoader._schemes.values():
        assert loader is getattr(checkpoint, loader.__name__)
        assert hasattr(loader, '__wrapped__'), 'a way in that mmkd does not watch'
    torch.save(Attack(tmp_path / 'ran'), tmp_path / 'a.pth')
    site.pages['a.pth'] = (tmp_path / 'a.pth').read_bytes()
    with pytest.raises(ValueError, match=r'posix\.mkdir'):
        checkpoint.load_from_http(f'{site.url}/a.pth')
    assert not (tmp_path / 'ran').exists()
    checkpoint.load_from_http.__wrapped__(f'{site.url}/a.pth', progress=False)
    assert (tmp_path / 'ran').exists()


def test_mmengine_runs_what_pickles_and_yaml_name(tmp_path):
    from mmengine.fileio.handlers import PickleHandler, YamlHandler

    pickled, text = pickle.dumps(Attack(tmp_path / 'a')), '!!python/object/apply:os.mkdir'
    PickleHandler.load_from_fileobj.__wrapped__(PickleHandler(), io.BytesIO(pickled))
    YamlHandler.load_from_fileobj.__wrapped__(YamlHandler(), f'{text} ["{tmp_path}/b"]')
    assert (tmp_path / 'a').exists() and (tmp_path / 'b').exists()


class Crafted:
    def __reduce__(self):
        return getattr, (HistoryBuffer, '__init__')


def test_crafted_checkpoint_is_refused(tmp_path):
    torch.save(Crafted(), tmp_path / 'crafted.pth')
    with pytest.raises(pickle.UnpicklingError, match='__init__'):
        torch.load(tmp_path / 'crafted.pth', weights_only=True)


def test_quantization_says_why_it_is_absent():
    from mmrazor.structures.quantization import BackendConfigs

    with pytest.raises(NotImplementedError, match=r'"BackendConfigs".*torch <= 2.0'):
        BackendConfigs()


# Checkpoints on their way to the disk

# Writes two checkpoints where one is kept: ``events`` has what happened to the disk, in order.
TWO_CHECKPOINTS = """
import os
from types import SimpleNamespace
from unittest.mock import MagicMock
from mmengine.fileio import LocalBackend
from mmengine.hooks import CheckpointHook

events = []
class Backend(LocalBackend):
    def isfile(self, path):
        return True
    def remove(self, path):
        events.append('remove ' + os.path.basename(path))

def save(out_dir, filename, *args, **kwargs):
    events.append('save ' + filename)

hook = CheckpointHook(interval=1, max_keep_ckpts=1)
runner = MagicMock(work_dir=folder, save_checkpoint=save)
runner.message_hub = SimpleNamespace(runtime_info={}, update_info=lambda *args: None)
hook.before_train(runner)
hook.file_backend = Backend()
for step in (1, 2):
    hook._save_checkpoint_with_step(runner, step, {})
    pointer = os.stat(os.path.join(folder, 'last_checkpoint')).st_ino
    events.append('same file' if pointer == globals().get('before') else 'new file')
    before = pointer

path = os.path.join(folder, 'epoch_1.pth')
LocalBackend().put(b'old', path)
number = os.stat(path).st_ino
LocalBackend().put(b'new', path)
events.append('in place' if os.stat(path).st_ino == number else 'whole')
"""


def test_checkpoints_are_written_whole_before_others_go(tmp_path):
    scope = dict(folder=str(tmp_path))
    exec(TWO_CHECKPOINTS, scope)
    expected = ['save epoch_1.pth', 'new file', 'save epoch_2.pth', 'remove epoch_1.pth']
    assert scope['events'] == [*expected, 'new file', 'whole']
    assert (tmp_path / 'last_checkpoint').read_text().endswith('epoch_2.pth')


def test_checkpoints_need_the_patches(tmp_path, run):
    code = f'folder = {str(tmp_path)!r}\n' + TWO_CHECKPOINTS + 'print(events)'
    patches = {'write_checkpoints_whole', 'remove_checkpoints_late', 'repair_ssd_head'}
    expected = ['save epoch_1.pth', 'new file', 'remove epoch_1.pth', 'save epoch_2.pth']
    assert str([*expected, 'same file', 'in place']) in run(code, without=patches).stdout


def test_mmdet_keeps_boxes_without_size(tmp_path):
    """Else ``hold_boxes_to_the_rules`` is needed for VOC no more."""
    from mmdet.datasets import VOCDataset

    write_voc(tmp_path, 'train', 1, ('a',))
    path = tmp_path / 'Annotations/train000.xml'
    path.write_text(re.sub(r'<xmax>\d+', '<xmax>0', path.read_text()))
    options = dict(data_root=f'{tmp_path}/', data_prefix=dict(sub_data_root=''), pipeline=[])
    dataset = VOCDataset(
        ann_file='ImageSets/Main/train.txt', metainfo=dict(classes=('a',)), **options
    )
    info = dict(img_id='train000', file_name='a.jpg', xml_path=str(path))
    assert dataset.parse_data_info(info)['instances'] == []
    assert len(VOCDataset.parse_data_info.__wrapped__(dataset, info)['instances']) == 2


def test_mmdet_takes_each_voc_image_for_a_jpg(tmp_path):
    """Else ``read_voc_lists_and_suffixes`` is needed for lists only."""
    from mmdet.datasets import VOCDataset

    write_voc(tmp_path, 'train', 1, ('a',))
    (tmp_path / 'JPEGImages/train000.jpg').rename(tmp_path / 'JPEGImages/train000.png')
    options = dict(data_root=f'{tmp_path}/', data_prefix=dict(sub_data_root=''), pipeline=[])
    dataset = VOCDataset(ann_file='ImageSets/Main/train.txt', **options)
    assert dataset.get_data_info(0)['img_path'].endswith('train000.png')
    [original] = VOCDataset.load_data_list.__wrapped__(dataset)
    assert original['img_path'].endswith('train000.jpg')


def test_mmdet_takes_an_empty_line_for_a_name(tmp_path):
    """Else ``read_voc_lists_and_suffixes`` is needed for images only."""
    from mmdet.datasets import xml_style
    from mmengine.fileio import list_from_file

    (tmp_path / 'a.txt').write_text('\ufeffa\n\n')
    assert xml_style.list_from_file(tmp_path / 'a.txt') == ['a']
    assert list_from_file(tmp_path / 'a.txt') == ['\ufeffa', '']


def test_mmcv_does_not_name_an_empty_file(tmp_path, monkeypatch):
    """Else ``refuse_broken_images`` is needed for truncated JPEGs under old OpenCVs only."""
    import mmcv
    from mmcv.transforms import LoadImageFromFile

    (tmp_path / 'empty.jpg').touch()
    results, load = dict(img_path=str(tmp_path / 'empty.jpg')), LoadImageFromFile()
    with pytest.raises(Exception, match='empty') as ours:
        load(results)
    monkeypatch.setattr(mmcv, 'imfrombytes', mmcv.imfrombytes.__wrapped__)
    with pytest.raises(cv2.error) as original:
        LoadImageFromFile.transform.__wrapped__(load, results)
    assert 'empty.jpg' in str(ours.value) and 'empty.jpg' not in str(original.value)


def test_mmcv_takes_any_size(tmp_path):
    """Else ``check_loaded_images`` is needed no more."""
    from mmcv.transforms import BaseTransform, LoadImageFromFile

    write_voc(tmp_path, 'train', 1, ('a',))
    results = dict(img_path=str(tmp_path / 'JPEGImages/train000.jpg'), width=9, height=9)
    with pytest.raises(ValueError, match='the size of the decoded image'):
        LoadImageFromFile()(dict(results))
    assert BaseTransform.__call__.__wrapped__(LoadImageFromFile(), results)['height'] == 9


# The ground truth of metrics: tests/datasets/test_oracle.py shows that the patches do it


def coco_of(annotations, categories=(1, 2)):
    """mmdet's COCO of one image of 60 x 50 pixels."""
    from mmdet.datasets.api_wrappers import COCO

    coco = COCO()
    coco.dataset = dict(
        images=[dict(id=1, width=60, height=50)],
        categories=[dict(id=key, name=f'class {key}') for key in categories],
        annotations=annotations,
    )
    return coco


def box_of(**changes):
    return dict(
        dict(id=0, image_id=1, category_id=1, bbox=[5, 5, 20, 20], area=400, iscrowd='0'), **changes
    )


def test_pycocotools_takes_annotation_0_for_none():
    """Else ``hold_boxes_to_the_rules`` need not number annotations anew."""
    from mmdet.datasets.api_wrappers import COCO
    from pycocotools.cocoeval import COCOeval

    def recall(index):
        coco = coco_of([box_of(iscrowd=0)])
        index(coco)
        found = coco.loadRes([dict(image_id=1, category_id=1, bbox=[5, 5, 20, 20], score=1.0)])
        evaluation = COCOeval(coco, found, 'bbox')
        evaluation.evaluate()
        evaluation.accumulate()
        return evaluation.eval['recall'].max()

    assert recall(COCO.createIndex) == 1
    assert recall(COCO.createIndex.__wrapped__) == 0


def test_the_file_is_put_right_as_it_is_read():
    coco = coco_of(
        [
            box_of(id='a', bbox=[-5, 0, 30, 20], area=1e9),
            box_of(ignore=1),
            box_of(bbox=[70, 5, 9, 9]),
            box_of(id=7, iscrowd='1'),
        ]
    )
    coco.createIndex()
    first, second = coco.dataset['annotations']
    assert first == box_of(id=1, bbox=[0, 0, 25, 20], area=500, iscrowd=0, ignore=0)
    assert (second['id'], second['iscrowd']) == (2, 1)


def test_vocmetric_takes_the_boxes_of_the_pipeline():
    """Else ``give_metrics_the_loaded_ground_truth`` is needed no more."""
    from mmdet.evaluation import VOCMetric

    moved = dict(bboxes=torch.tensor([[1.0, 1, 5, 5]]), labels=torch.tensor([0]))
    nothing = dict(bboxes=torch.zeros(0, 4), labels=torch.zeros(0, dtype=torch.long))
    sample = dict(
        gt_instances=moved,
        ignored_instances=nothing,
        pred_instances=dict(nothing, scores=torch.zeros(0)),
        instances=[dict(bbox=[2, 2, 10, 10], bbox_label=0, ignore_flag=0)],
    )
    found = []
    for process in (VOCMetric.process, VOCMetric.process.__wrapped__):
        metric = VOCMetric()
        metric.dataset_meta = dict(classes=('a',))
        process(metric, None, [sample])
        found.append(metric.results[0][0]['bboxes'].tolist())
    assert found == [[[2, 2, 10, 10]], [[1, 1, 5, 5]]]


def test_cocometric_counts_what_was_not_loaded(tmp_path):
    """Else ``measure_what_was_loaded`` is needed no more."""
    from mmdet.evaluation import CocoMetric

    path = write_coco(tmp_path, 'val', 2, ('a', 'b'))
    ground_truth = json.loads(path.read_text())['annotations']
    boxes = [a for a in ground_truth if a['image_id'] == 1]
    result = dict(
        img_id=1,
        bboxes=np.float32([[x, y, x + w, y + h] for x, y, w, h in (a['bbox'] for a in boxes)]),
        scores=np.ones(len(boxes)),
        labels=np.array([a['category_id'] - 1 for a in boxes]),
    )
    found = []
    for compute in (CocoMetric.compute_metrics, CocoMetric.compute_metrics.__wrapped__):
        metric = CocoMetric(str(path))
        metric.dataset_meta = dict(classes=('a', 'b'))
        found.append(compute(metric, [({}, result)])['bbox_mAP'])
    assert found[0] == 1 > found[1]


def test_cocometric_measures_the_things_of_panoptic_data(tmp_path):
    """Its file has them alone; mmdet's configs of panoptic models measure so."""
    from mmdet.evaluation import CocoMetric

    path = write_coco(tmp_path, 'val', 1, ('a', 'b'))
    ground_truth = json.loads(path.read_text())['annotations']
    corners = [[x, y, x + w, y + h] for x, y, w, h in (a['bbox'] for a in ground_truth)]
    labels = np.array([a['category_id'] - 1 for a in ground_truth])
    result = dict(img_id=1, bboxes=np.float32(corners), scores=np.ones(2), labels=labels)
    metric = CocoMetric(str(path))
    metric.dataset_meta = dict(classes=('a', 'b', 'sky'), stuff_classes=('sky',))
    assert metric.compute_metrics([({}, result)])['bbox_mAP'] == 1


def test_a_palette_may_be_shorter_than_the_classes():
    """Else ``lengthen_short_palettes`` is needed no more."""
    from mmdet.visualization import local_visualizer

    colours = local_visualizer.get_palette([(1, 2, 3)], 3)
    assert len(colours) == 3 and colours[0] == (1, 2, 3)
    assert local_visualizer.get_palette([(1, 2, 3)], 1) == [(1, 2, 3)]
    with pytest.raises(AssertionError, match='length of palette'):
        local_visualizer.get_palette.__wrapped__([(1, 2, 3)], 3)


def test_mmengine_does_not_name_an_image_with_other_channels():
    """Else ``name_images_of_other_channels`` is needed no more."""
    from mmdet.structures import DetDataSample
    from mmengine.model import ImgDataPreprocessor

    preprocessor = ImgDataPreprocessor(mean=[1, 2, 3], std=[1, 1, 1])
    sample = DetDataSample(metainfo=dict(img_path='grey.png'))
    data = dict(inputs=[torch.zeros(1, 4, 4)], data_samples=[sample])
    with pytest.raises(ValueError, match=r'grey\.png'):
        preprocessor(data)
    with pytest.raises(AssertionError) as original:
        ImgDataPreprocessor.forward.__wrapped__(preprocessor, data)
    assert 'grey.png' not in str(original.value)


def test_mmdet_scores_no_detections(tmp_path):
    """Without the patch pycocotools fails, and CocoMetric gives no figures."""
    from mmdet.datasets.api_wrappers import COCO

    ground_truth = COCO(str(write_coco(tmp_path, 'val', 2, ('ant', 'bee', 'cat'))))
    with pytest.raises(IndexError):
        COCO.loadRes.__wrapped__(ground_truth, [])
    found = ground_truth.loadRes([])
    assert found.getImgIds() == ground_truth.getImgIds() and found.getAnnIds() == []
    some = dict(image_id=1, category_id=1, bbox=[1, 2, 3, 4], score=0.5)
    assert len(ground_truth.loadRes([some]).getAnnIds()) == 1  # and some as before


def test_init_detector_is_told_of_the_student(tmp_path):
    from mmdet.apis import init_detector

    cfg = Config(dict(model=tiny_pair()))
    cfg.dump(tmp_path / 'pair.py')
    with pytest.raises(AttributeError, match='backbone'):
        init_detector.__wrapped__(cfg)
    for config in (cfg, str(tmp_path / 'pair.py'), tmp_path / 'pair.py'):
        with pytest.raises(ValueError, match=r'pair \(DetectionDistill\).*student.py.*mmkd export'):
            init_detector(config, 'epoch_1.pth', device='cpu')
    with pytest.raises(FileNotFoundError):
        init_detector('lost.py')
    with pytest.raises(TypeError, match='config must be a filename'):
        init_detector(3)


def test_mmdet_decays_the_layers_of_a_student():
    """By name, so that without the patch all layers of a pair's student learn alike."""
    from mmdet.engine.optimizers import LearningRateDecayOptimizerConstructor as Constructor

    class ConvNeXt(torch.nn.Module):
        def __init__(self):
            super().__init__()
            self.stages = torch.nn.ModuleList(
                torch.nn.ModuleList([torch.nn.Conv2d(1, 1, 1)]) for _ in range(4)
            )

    def rates(add_params, model):
        settings = dict(decay_rate=0.5, decay_type='layer_wise', num_layers=6)
        optim = dict(type='OptimWrapper', optimizer=dict(type='SGD', lr=1.0))
        groups = []
        add_params(Constructor(optim, settings), groups, model)
        return {id(p): group['lr'] for group in groups for p in group['params']}

    with DefaultScope.overwrite_default_scope('mmdet'):
        pair = MODELS.build(dict(tiny_pair(), _scope_='mmrazor'))
    pair.student.backbone = ConvNeXt()
    baseline = rates(Constructor.add_params, pair.student)
    assert len({*baseline.values()}) > 3
    assert rates(Constructor.add_params, pair).items() >= baseline.items()
    assert {*rates(Constructor.add_params.__wrapped__, pair).values()} == {1.0}


@given(
    st.lists(
        st.tuples(
            st.sampled_from(['a', 'b']),
            st.floats(-1e9, 1e9, width=32),
            st.sampled_from(['tensor', 'float', 'read', 'save', 'all']),
        ),
        max_size=12,
    )
)
def test_values_that_are_read_late_are_the_same(steps):
    """And mmengine reads each at once; else ``read_logged_values_late`` is needed no more."""
    late, plain = MessageHub('late'), MessageHub('plain')
    update = MessageHub.update_scalar.__wrapped__
    for key, value, kind in steps:
        if kind in ('tensor', 'float'):
            given_ = torch.tensor([value]) if kind == 'tensor' else value
            late.update_scalar(key, given_, resumed=True)
            update(plain, key, given_, resumed=True)
            if kind == 'tensor':
                given_ += 1  # written to afterwards
        elif key in plain._log_scalars and kind == 'read':
            assert list(late.get_scalar(key).data[0]) == list(plain._log_scalars[key].data[0])
        elif kind == 'save':
            late.state_dict()
            assert not late._waiting
        elif kind == 'all':
            assert list(late.log_scalars) == list(plain._log_scalars)
    for key in plain._log_scalars:
        history, counts = late.get_scalar(key).data
        assert history.tolist() == plain._log_scalars[key].data[0].tolist()
        assert counts.tolist() == [1] * len(history)
    with pytest.raises(KeyError):
        late.get_scalar('c')
    with waits() as read:
        update(plain, 'a', torch.ones(()))
    assert sum(read.values()) == 1


def test_functions_of_a_data_loader_get_no_scope():
    loader = dict(
        batch_size=2,
        num_workers=0,
        dataset=[dict(a=1), dict(a=2)],
        sampler=dict(type='DefaultSampler', shuffle=False),
        collate_fn=dict(type='pseudo_collate', _scope_='mmengine'),
    )
    assert next(iter(Runner.build_dataloader(loader))) == dict(a=[1, 2])
    assert loader['collate_fn']['_scope_'] == 'mmengine', 'the config itself is not changed'
    with pytest.raises(TypeError, match='_scope_'):
        next(iter(Runner.build_dataloader.__wrapped__(loader)))


def test_hide_the_lack_of_an_unused_metric(monkeypatch):
    """mmdet's own module still warns where the package is not there; the patch hides it."""
    monkeypatch.setitem(sys.modules, 'faster_coco_eval', None)
    source = inspect.getsource(sys.modules['mmdet.evaluation.metrics.faster_coco_metric'])
    head = source.partition('from mmdet.evaluation')[0]
    with warnings.catch_warnings(record=True) as told:
        warnings.simplefilter('always')
        exec(head, {})
        assert 'metrics will not be computed' in str(told[-1].message)
        told.clear()
        packages.hide_the_lack_of_an_unused_metric()
        exec(head, {})
    assert not told
