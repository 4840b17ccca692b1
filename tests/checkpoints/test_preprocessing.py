import pytest
import torch
from mmdet.models import DetDataPreprocessor, MultiBranchDataPreprocessor

from mmkd.checkpoints.preprocessing import Normalisation, Preprocessing
from tests.tiny import ROOT

MEAN, STD = [120.0, 110.0, 100.0], [58.0, 57.0, 56.0]


@pytest.mark.parametrize('swap', ['bgr_to_rgb', 'rgb_to_bgr', None])
@pytest.mark.parametrize('normalises', [True, False])
def test_what_it_reads_is_what_the_preprocessor_does(swap, normalises):
    settings = dict(pad_size_divisor=32, pad_value=7)
    settings |= dict(mean=MEAN, std=STD) if normalises else {}
    settings |= {swap: True} if swap else {}
    preprocessor = DetDataPreprocessor(**settings)
    image = torch.randint(0, 256, (3, 30, 32), dtype=torch.uint8)
    done = preprocessor(dict(inputs=[image]))['inputs'][0]

    own = Preprocessing.of(preprocessor)
    expected = (image.flip(0) if own.bgr_to_rgb else image).float()
    if own.mean is not None:
        expected = (expected - own.mean) / own.std
    assert torch.equal(done[:, :30, :32], expected)
    assert own.pad_size_divisor == 32 and own.pad_value == 7
    assert done.shape[-2:] == (32, 32) and (done[:, 30:] == 7).all()

    numbers = own.normalisation
    assert numbers.bgr_to_rgb == (swap is not None)
    assert numbers.mean == (tuple(MEAN) if normalises else Normalisation().mean)


def test_of_another_kind_it_reads_nothing():
    assert Preprocessing.of(None) is None
    assert Preprocessing.of(MultiBranchDataPreprocessor(dict(type='DetDataPreprocessor'))) is None


def test_it_alone_knows_the_private_names():
    for path in (ROOT / 'mmkd').rglob('*.py'):
        if path.name != 'preprocessing.py':
            text = path.read_text()
            assert '_enable_normalize' not in text and '_channel_conversion' not in text, path
