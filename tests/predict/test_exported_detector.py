"""An exported file finds what its checkpoint finds, by the same rules for images and results."""

import json
import shutil
from pathlib import Path

import numpy as np
import pytest
import torch

import mmkd_onnx
from mmkd import load
from mmkd.errors import ImageError
from mmkd.predict.exported_detector import open_exported
from mmkd_cli.main import main
from mmkd_onnx import ModelFileError
from tests.predict.test_detector import array

CPU = torch.device('cpu')

KINDS = ('bgr', 'grey', 'grey with channel', 'alpha', '16 bits', '16 bits grey', 'float', 'mask')


@pytest.mark.parametrize('kind', KINDS)
def test_it_finds_what_the_checkpoint_finds(place, exported, kind):
    """In square images, which fill the input of either."""
    image = array(kind)[:90, :90]
    own, other = load(place.student__pth, device='cpu')(image), load(exported)(image)
    assert len(own) == len(other) > 5 and own.names == other.names and other.masks is None
    # Of fractions, which resizing makes of floats, a file takes the nearest whole numbers.
    np.testing.assert_allclose(own.scores, other.scores, atol=2e-3 if kind == 'float' else 1e-4)
    if kind != 'float':
        np.testing.assert_allclose(own.boxes, other.boxes, atol=0.01)


def test_a_list_is_found_in_batches(exported, place):
    detect = load(exported)
    for one, other in zip(detect(place.images, batch=3), map(detect, place.images), strict=True):
        np.testing.assert_allclose(one.scores, other.scores, atol=1e-5)


@pytest.mark.parametrize('batch', [0, -1, 1.5])
def test_a_batch_has_images(place, exported, batch):
    for detect in (
        load(place.student__pth, device='cpu'), load(exported), mmkd_onnx.load(exported)
    ):  # fmt: skip
        with pytest.raises(ValueError, match=r'batch must be a whole number above 0, but got'):
            detect(place.images, batch=batch)


@pytest.mark.parametrize(
    'image, error, told',
    [
        (np.zeros((1, 4000, 3), np.uint8), ImageError, 'each image must be a whole file'),
        (np.zeros((4, 4, 2), np.uint8), ImageError, 'must be an array'),
        (7, TypeError, 'an image must be a path or an array, but got int'),
        ('lost.jpg', ImageError, 'lost.jpg'),
    ],
)
def test_what_is_no_image_is_told_as_always(exported, image, error, told):
    with pytest.raises(error, match=told):
        load(exported)(image)


def test_results_have_the_ids_of_the_annotation_file(exported, place, tmp_path, monkeypatch):
    """Which the file names itself, or a config does in its place."""
    monkeypatch.chdir(tmp_path)
    content = json.loads(Path(place.annotations, 'val.json').read_text())
    known = {image['file_name']: image['id'] for image in content['images']}
    assert main(['predict', exported, place.JPEGImages, '--json', 'r.json']) == 0
    rows = json.loads(Path('r.json').read_text())
    assert rows and {(row['file_name'], row['image_id']) for row in rows} == set(known.items())
    for image in content['images']:
        image['id'] += 100
    Path('other.json').write_text(json.dumps(content))
    config = Path(place.pair__py).read_text().replace('annotations/val.json', '/../other.json')
    config = config.replace(f"'{place.folder}//../other.json'", "'unused.json'")
    Path('other.py').write_text(config.replace("'/../other.json'", f"'{tmp_path}/other.json'"))
    assert main(['predict', 'other.py', exported, place.JPEGImages, '--json', 'o.json']) == 0
    assert {r['image_id'] for r in json.loads(Path('o.json').read_text())} == set(range(101, 106))


def test_the_content_tells_what_a_file_is(exported, place, tmp_path):
    shutil.copy(exported, tmp_path / 'a.pth')
    shutil.copy(place.student__pth, tmp_path / 'b.onnx')
    for name in ('a.pth', 'b.onnx'):
        assert load(tmp_path / name, device='cpu').classes == ('ant', 'bee', 'cat')


def test_it_computes_where_onnxruntime_can(exported):
    """A device that was asked for is taken or refused; a GPU that torch sees is no request."""
    gpu = torch.device('cuda', 1)
    with pytest.raises(ValueError, match='one that onnxruntime computes on, but got "cuda:1"'):
        open_exported(exported, gpu, named=True)
    assert open_exported(exported, gpu, named=False).classes == ('ant', 'bee', 'cat')


def test_a_hostile_file_is_refused(exported, tmp_path):
    import onnx

    model = onnx.load(exported)
    tensor = model.graph.initializer[0]
    tensor.ClearField('raw_data')
    tensor.data_location = onnx.TensorProto.EXTERNAL
    tensor.external_data.add(key='location', value='../secret')
    (tmp_path / 'deep').mkdir()
    (tmp_path / 'secret').write_bytes(bytes(4096))
    (tmp_path / 'deep/a.onnx').write_bytes(model.SerializeToString())
    with pytest.raises(ModelFileError, match='weights outside its folder'):
        load(tmp_path / 'deep/a.onnx')
