"""A broken image is never trained on, and the error names its file."""

import cv2
import numpy as np
import pytest
from mmcv.transforms import LoadImageFromFile
from torch.utils.data import DataLoader

from mmkd.errors import ImageError
from mmkd_onnx.image_file import check_whole, read_image
from tests.tiny import scene


def encoded(extension: str, *options: int) -> bytes:
    image, _, _ = scene(np.random.default_rng(0), (120, 160), 3, 2)
    return cv2.imencode(extension, image, options)[1].tobytes()


@pytest.mark.parametrize('options', [(), (cv2.IMWRITE_JPEG_PROGRESSIVE, 1)])
def test_each_truncation_of_a_jpeg_is_seen(options):
    whole = encoded('.jpg', *options)
    thumbnail = encoded('.jpg')
    nested = whole[:2] + b'\xff\xe1\xff\xff' + thumbnail + whole[2:]
    for content in (whole, nested):
        check_whole(content)
        check_whole(content + bytes(64))
        scan = content.rfind(b'\xff\xda')
        for end in range(scan + 2, len(content) - 1, 97):
            with pytest.raises(ValueError, match=f'breaks off after {end} bytes'):
                check_whole(content[:end])


class Images:
    """Loads one file, as a data set does in a worker."""

    def __init__(self, path, backend):
        self.path, self.load = path, LoadImageFromFile(imdecode_backend=backend)

    def __len__(self):
        return 1

    def __getitem__(self, index):
        return self.load(dict(img_path=self.path))['img']


@pytest.mark.parametrize('backend', ['cv2', 'pillow'])
@pytest.mark.parametrize('kind', ['.jpg', '.png'])
@pytest.mark.parametrize('part', [0.0, 0.01, 0.5, 0.99])
def test_broken_files_are_named(tmp_path, backend, kind, part):
    path = tmp_path / f'broken{kind}'
    path.write_bytes(encoded(kind))
    assert Images(str(path), backend)[0].shape == (120, 160, 3)
    path.write_bytes(encoded(kind)[: int(part * len(encoded(kind)))])
    with pytest.raises(
        ImageError, match=rf'each image must be a whole file.*broken\{kind}" is not'
    ):
        Images(str(path), backend)[0]


def test_text_and_missing_files_are_named(tmp_path):
    (tmp_path / 'a.jpg').write_text('<html>404</html>')
    for name in ('a.jpg', 'nowhere.jpg'):
        with pytest.raises(ImageError, match=rf'whole file.*{name}" is not'):
            Images(str(tmp_path / name), 'cv2')[0]


def test_the_message_comes_whole_from_a_worker(tmp_path):
    path = tmp_path / 'broken.jpg'
    path.write_bytes(encoded('.jpg')[:-100])
    with pytest.raises(ImageError, match=r'^each image must be a whole file.*they list it\.$'):
        next(iter(DataLoader(Images(str(path), 'cv2'), num_workers=1)))


@pytest.mark.parametrize('backend', ['cv2', 'pillow'])
def test_an_empty_file_is_told_as_one(tmp_path, backend):
    (tmp_path / 'a.png').touch()
    with pytest.raises(ImageError, match=r'a\.png" is not \(the file is empty\)\. Get the file'):
        Images(str(tmp_path / 'a.png'), backend)[0]
    with pytest.raises(ValueError, match=r'a\.png" is not \(the file is empty\)'):
        read_image(tmp_path / 'a.png')


def test_ignore_empty_is_kept(tmp_path):
    (tmp_path / 'a.jpg').write_bytes(encoded('.jpg')[:-100])
    load = LoadImageFromFile(ignore_empty=True)
    assert load.transform(dict(img_path=str(tmp_path / 'a.jpg'))) is None
