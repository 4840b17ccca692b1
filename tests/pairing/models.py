"""Small detectors of mmdet as config files."""

from pathlib import Path

from mmengine.hub import get_config

from tests.cli.test_tools import DETECTOR

SOURCES = {
    'retinanet': 'mmdet::retinanet/retinanet_r18_fpn_1x_coco.py',
    'fcos': 'mmdet::fcos/fcos_r50-caffe_fpn_gn-head_1x_coco.py',
}


def small(name: str, width: int = 8) -> dict:
    """A model of mmdet on a ResNet-18 of ``width`` channels, with one convolution in its towers."""
    model = get_config(SOURCES[name]).model
    channels = [width, 2 * width, 4 * width, 8 * width]
    model.backbone = dict(type='ResNet', depth=18, base_channels=width, stem_channels=width)
    model.neck.update(in_channels=channels, out_channels=2 * width)
    model.bbox_head.update(in_channels=2 * width, feat_channels=2 * width, stacked_convs=1)
    if name == 'fcos':
        model.bbox_head.norm_cfg = dict(type='GN', num_groups=4)
    return model.to_dict()


def write_detector(path: Path, model: dict) -> None:
    """A config of 80 classes on data of three, which it does not have."""
    text = DETECTOR.format(model=model, classes=('ant', 'bee', 'cat'))
    path.write_text(text.replace('my_data', 'elsewhere'))
