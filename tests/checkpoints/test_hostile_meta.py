"""What stands beside the weights may claim anything: it costs little time and room, and is text."""

import time

import pytest
from mmdet.registry import MODELS
from mmengine.config import ConfigDict

from mmkd.checkpoints.data_origin import data_differences
from mmkd.checkpoints.loading import Fit, Loaded
from mmkd.checkpoints.weight_meaning import differences
from tests.checkpoints.test_weight_meaning import changed, text
from tests.tiny import tiny_ssd

pytestmark = pytest.mark.usefixtures('mmdet_scope')
OWN = tiny_ssd()


def in_itself(values: list) -> list:
    """A list that holds itself twice, sixty times over: small in a pickle, endless to walk."""
    for _ in range(60):
        values = [values, values]
    return values


def laughing(start: str, each: str) -> str:
    return f'a0 = {start}\n' + ''.join(f'a{i} = {each.format(f"a{i - 1}")}\n' for i in range(1, 60))


CYCLE: list = []
CYCLE.append(CYCLE)
HOSTILE = {
    'lists': dict(
        cfg=laughing('[1]', '[{0}, {0}]') + 'model = dict(backbone=dict(type="ResNet", depth=a59))'
    ),
    'pipeline': dict(cfg=laughing('dict(a=1)', 'dict(b={0}, c={0})') + 'test_pipeline = [a59]'),
    'chain': dict(cfg='a = 1' + ' + 1' * 200_000),
    'anchors': dict(anchors=in_itself([8, 8])),
    'strides': dict(strides=in_itself([8, 8])),
    'strides by level': dict(strides=[in_itself([8, 8]), 16, 32, 64]),
    'cycle': dict(anchors=CYCLE, strides=CYCLE),
    'many': dict(anchors=[[[8.0, 8.0]] * 10**6], strides=[8.0] * 10**6),
}


@pytest.mark.parametrize('name', HOSTILE)
def test_what_has_no_end_is_not_walked(name):
    model = MODELS.build(ConfigDict(OWN))
    begun = time.process_time()
    assert differences(model, HOSTILE[name])[0] == ()
    assert time.process_time() - begun < 10


@pytest.mark.parametrize(
    'path, value, part',
    [
        ('backbone.base_channels', 10**8, 'backbone'),
        ('bbox_head.num_classes', 10**7, 'bbox_head'),
        ('neck.out_channels', (16, 32, 64, 10**8), 'neck'),
    ],
)
def test_a_part_far_larger_than_the_models_own_is_not_built(path, value, part):
    model = MODELS.build(ConfigDict(OWN))
    _, notes = differences(model, dict(cfg=text(changed(OWN, path, value))))
    assert notes == (f'{part}: its config asks for far more weights than the model has',)


def test_text_of_a_file_is_one_plain_line():
    model = MODELS.build(ConfigDict(OWN))
    code = '\x1b[31m\nred'
    for meta in (
        dict(cfg=f'model = {code!r}'),
        dict(cfg=f'model = dict(backbone=dict(type={code!r}))'),
        dict(cfg=f'model = dict(backbone=dict(type="ResNet", **{{{code!r}: 1}}))'),
        dict(cfg=f'model = dict(neck=1, **{{{code!r}: f()}})'),
    ):
        found, notes = differences(model, meta)
        assert not found and all(note.isprintable() and 'red' in note for note in notes), meta
        assert notes
    loaded = Loaded('load_from', 'a.pth', 1, 1, meta=dict(CLASSES=(code, 'x' * 10**6, 'c')))
    [found] = data_differences(loaded, {}, ('a', 'b', 'c'))
    assert str(found).isprintable() and len(str(found)) < 500
    [fault] = Fit.of({}, {code: 1}).faults()
    assert fault.isprintable()
