"""Fixtures around files and models of YOLOv5."""

import contextlib
import encodings.cp437  # noqa: F401  (zipfile's codec of old names, else imported under watch)
import sys
import zipfile
from pathlib import Path

import pytest
from mmengine.registry import DefaultScope

from tests.checkpoints.ultralytics import ultralytics_like


def _find_shared(name: str) -> Path | None:
    here = Path(__file__).resolve()
    found = (parent / 'shared' / name for parent in here.parents)
    return next((path for path in found if path.exists()), None)


@pytest.fixture
def shared_checkpoints() -> Path:
    path = _find_shared('checkpoints/yolov5n_nc3.pt')
    if path is None:
        pytest.skip('no shared/checkpoints above this checkout')
    return path.parent


@pytest.fixture(scope='session')
def yolo_models():
    """MMYOLO's model registry."""
    pytest.importorskip('mmyolo.models')
    from mmyolo.registry import MODELS

    return MODELS


@pytest.fixture(scope='session')
def build_yolov5(yolo_models):
    """Builds MMYOLO's YOLOv5 of a size."""

    def build(size='n', num_classes=3, anchors=ultralytics_like.ANCHORS, strides=(8, 16, 32), **kw):
        depth, width = ultralytics_like.SIZES.get(size, size)
        factors = dict(deepen_factor=depth, widen_factor=width)
        channels = [256, 512, 1024]
        act_cfg = dict(type=kw.pop('act', 'SiLU'), inplace=True)
        norm_cfg = dict(type='BN', momentum=0.03, eps=kw.pop('eps', 1e-3))
        common = dict(norm_cfg=norm_cfg, act_cfg=act_cfg, **factors)
        preprocessor = dict(mean=[0.0] * 3, std=[255.0] * 3, bgr_to_rgb=True) | kw
        base_sizes = [list(zip(level[::2], level[1::2], strict=True)) for level in anchors]
        with DefaultScope.overwrite_default_scope('mmyolo'):
            model = yolo_models.build(
                dict(
                    type='YOLODetector',
                    data_preprocessor=dict(type='mmdet.DetDataPreprocessor', **preprocessor),
                    backbone=dict(type='YOLOv5CSPDarknet', **common),
                    neck=dict(
                        type='YOLOv5PAFPN',
                        in_channels=channels,
                        out_channels=channels,
                        num_csp_blocks=3,
                        **common,
                    ),
                    bbox_head=dict(
                        type='YOLOv5Head',
                        head_module=dict(
                            type='YOLOv5HeadModule',
                            num_classes=num_classes,
                            in_channels=channels,
                            widen_factor=width,
                            featmap_strides=strides,
                        ),
                        prior_generator=dict(
                            type='mmdet.YOLOAnchorGenerator', base_sizes=base_sizes, strides=strides
                        ),
                    ),
                )
            )
        return model.eval()

    return build


@pytest.fixture
def write_archive(tmp_path):
    """Writes a zip as torch.save does, around any pickle."""

    def write(pickle, storages=None, name='file.pt', compression=zipfile.ZIP_STORED):
        path = tmp_path / name
        with zipfile.ZipFile(path, 'w', compression) as archive:
            archive.writestr('archive/data.pkl', pickle)
            archive.writestr('archive/byteorder', b'little')
            for key, data in (storages or {}).items():
                archive.writestr(f'archive/data/{key}', data)
            archive.writestr('archive/version', b'3\n')
        return path

    return write


# What an interpreter reports when code is loaded, compiled or run, or when the system is touched.
_WATCHED = (
    'builtins.',
    'code.',
    'compile',
    'ctypes.',
    'exec',
    'import',
    'marshal.',
    'os.',
    'pickle.find_class',
    'shutil.',
    'socket.',
    'subprocess.',
    'sys.',
    'urllib.',
    'webbrowser.',
)
_events: list[str] = []
_watching = False


def _watch(event, args):
    if _watching and event.startswith(_WATCHED):
        _events.append(f'{event} {args!r:.200}')


sys.addaudithook(_watch)


@contextlib.contextmanager
def _nothing_runs():
    global _watching
    _events.clear()
    _watching = True
    try:
        yield
    finally:
        _watching = False
    assert not _events


@pytest.fixture(scope='session')
def nothing_runs():
    """A context that fails where anything is imported, compiled, run or started in it."""
    return _nothing_runs
