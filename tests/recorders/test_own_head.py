"""A head of one's own, with its reader in one's own module, named in ``custom_imports``."""

import sys
import textwrap

import pytest
from mmdet.models.dense_heads import RetinaHead
from mmdet.registry import MODELS
from mmengine.config import Config

from mmkd.heads import READERS, describe_head, find_reader, reader
from tests.doctor.test_heads import rows_pair
from tests.tiny import raw_batch, tiny_ssd

MODULE = """
    import torch
    from mmdet.models.dense_heads.base_dense_head import BaseDenseHead
    from mmdet.registry import MODELS

    from mmkd.heads import Predictions, reader


    @MODELS.register_module(force=True)
    class PointHead(BaseDenseHead):
        '''A score and a square around each cell of one map.'''

        def __init__(self, num_classes, in_channels, **kwargs):
            super().__init__()
            self.num_classes = num_classes
            self.out = torch.nn.Conv2d(in_channels, num_classes + 1, 1)

        def forward(self, x):
            return self.out(x[0])

        def loss_by_feat(self, out, batch_gt_instances, batch_img_metas, *others):
            return dict(loss_any=out.square().mean())

        def loss(self, x, batch_data_samples):
            return dict(loss_any=self(x).square().mean())
"""
READER = """

    @reader('heads_of_mine.PointHead')
    def read_points(head, outputs, batch):
        cls, size = outputs.flatten(2).transpose(1, 2).split([head.num_classes, 1], dim=-1)
        height, width = outputs.shape[-2:]
        y, x = torch.meshgrid(torch.arange(height), torch.arange(width), indexing='ij')
        centre = torch.stack([x, y], -1).view(-1, 2) * 8.0 + 4
        half = size.exp() * 8
        boxes = torch.cat([centre - half, centre + half], dim=-1)
        priors = torch.cat([centre, torch.full_like(centre, 8)], dim=-1)
        cls = torch.nn.functional.logsigmoid(cls)
        return Predictions(cls, boxes, priors, valid=batch.valid(priors))
"""


@pytest.fixture
def heads_of_mine(tmp_path, monkeypatch):
    """Writes the module; returns a detector's config."""
    monkeypatch.syspath_prepend(tmp_path)

    def write(code):
        (tmp_path / 'heads_of_mine.py').write_text(textwrap.dedent(code))
        pair = tmp_path / 'pair.py'
        pair.write_text("custom_imports = dict(imports=['heads_of_mine'])\n")
        Config.fromfile(pair)
        head = dict(type='PointHead', num_classes=3, in_channels=16)
        return dict(tiny_ssd(), bbox_head=head, _scope_='mmdet')

    yield write
    sys.modules.pop('heads_of_mine', None)
    READERS.pop('heads_of_mine.PointHead', None)
    MODELS.module_dict.pop('PointHead', None)


def test_it_teaches_and_learns(heads_of_mine):
    config = heads_of_mine(MODULE + READER)
    for student, teacher in ((config, tiny_ssd()), (tiny_ssd(), config)):
        pair = rows_pair(student, teacher)
        data = pair.data_preprocessor(raw_batch(), training=True)
        losses = pair.train().loss(data['inputs'], data['data_samples'])
        losses['distill.loss_rows'].backward()
        assert any(p.grad is not None and p.grad.any() for p in pair.student.parameters())
    known = describe_head(pair.teacher.bbox_head)
    assert (known.name, known.rows, known.classes) == ('PointHead', 'priors', 3)
    assert known.sigmoid is None  # it does not say


def test_without_a_reader_the_error_shows_how_to_add_one(heads_of_mine):
    config = heads_of_mine(MODULE)
    known, remedy = r'It knows .*mmdet\.AnchorHead', r"reader\('heads_of_mine\.PointHead'\)"
    with pytest.raises(ValueError, match=rf'no reader for PointHead\. {known}.*@mmkd.*{remedy}'):
        rows_pair(config, tiny_ssd())


def test_a_reader_of_a_subclass_goes_before_that_of_its_base():
    class Mine(RetinaHead):
        pass

    @reader('tests.Mine')
    def read_mine(head, outputs, batch):
        return outputs

    try:
        assert find_reader(Mine.__new__(Mine)) is read_mine
        assert find_reader(RetinaHead.__new__(RetinaHead)) is READERS['mmdet.AnchorHead']
    finally:
        del READERS['tests.Mine']
