"""What a file is that is no checkpoint of mmdet or YOLOv5: named by its content, not its ending."""

import re
import tarfile
import zipfile
from collections.abc import Iterable
from pathlib import Path

#: torch.save's first bytes before it wrote zip archives (torch < 1.6), whatever the protocol.
LEGACY_MAGIC = b'\x8a\nl\xfc\x9cF\xf9 j\xa8P\x19.'
_ZIP_MAGIC = b'PK\x03\x04'
_PICKLE = re.compile(r'[^/]+/data\.pkl', re.IGNORECASE)
# ir_version, then the producer's name, the graph or the operators' version
_ONNX = re.compile(rb'\x08[\x01-\x20](\x12.[\w .+-]*|[\x1a\x22\x2a\x32\x3a\x42])', re.DOTALL)
_HEAD = 1 << 12
_MAX_SWELLING = 20

# First bytes, and whose they are.
_MAGICS = (
    (b'\x89HDF\r\n\x1a\n', 'an HDF5 file (Keras)'),
    (b'\x93NUMPY', 'a NumPy array'),
    (b'GGUF', 'a GGUF file'),
    (b'\x1f\x8b', 'a gzip archive, which must be unpacked first'),
    (b'BZh', 'a bzip2 archive, which must be unpacked first'),
    (b'\xfd7zXZ\x00', 'an xz archive, which must be unpacked first'),
    (b'7z\xbc\xaf\x27\x1c', 'a 7z archive, which must be unpacked first'),
    (b'\x28\xb5\x2f\xfd', 'a zstd archive, which must be unpacked first'),
    (b'Rar!', 'a RAR archive, which must be unpacked first'),
    (b'\x89PNG', 'an image (PNG)'),
    (b'\xff\xd8\xff', 'an image (JPEG)'),
    (b'%PDF', 'a PDF document'),
    (b'\x7fELF', 'a program'),
    (b'version https://git-lfs', 'a pointer of Git LFS, not the file itself (run "git lfs pull")'),
)
# Classes that a pickle names, in the order in which they decide.
_FAMILIES = tuple(
    (re.compile(pattern), family)
    for pattern, family in (
        (r'ultralytics\..*', "a file of Ultralytics' package: YOLOv8, YOLOv5u, YOLO11"),
        (r'models\.yolo\.(SegmentationModel|Segment)', 'a YOLOv5 segmentation network'),
        (r'models\.yolo\.ClassificationModel|models\.common\.Classify', 'a YOLOv5 classifier'),
        (r'models\.yolo\.\w*Pose\w*', 'a YOLO pose network'),
        (r'yolox\..*', "a file of YOLOX's own program"),
        (r'(yolov6|super_gradients|damo|nanodet|effdet)\..*', 'a file of another YOLO program'),
        (r'(models|utils)\.(\w+\.)*\w+', 'a network of a fork of YOLOv5 or of a program like it'),
        (r'detectron2\..*|fvcore\..*', 'a file of Detectron2'),
        (r'(torchvision|timm|segmentation_models_pytorch)\..*', 'a whole pickled network'),
        (r'(lightning|pytorch_lightning)\..*', 'a file of Lightning'),
        (r'(paddle|ppdet)\..*', 'a file of PaddlePaddle'),
    )
)


def shown(text: object, limit: int = 300) -> str:
    """Text of a file, an address or another program, as one line without control codes."""
    line = ' '.join(str(text).split())
    safe = ''.join(char if char.isprintable() else repr(char)[1:-1] for char in line)
    return safe if len(safe) <= limit else f'{safe[:limit]}...'


def shown_path(path: object) -> str:
    """A path or an address in full, with what a terminal would obey written out."""
    return ''.join(char if char.isprintable() else repr(char)[1:-1] for char in str(path))


def family_of(names: Iterable[str]) -> str | None:
    """Whose file it is that names these classes, or None where no program stands out."""
    names = list(names)
    for pattern, family in _FAMILIES:
        if any(pattern.fullmatch(name) for name in names):
            return family
    return None


def is_zip(path: Path) -> bool:
    """Whether torch takes ``path`` for a zip archive, by its first bytes."""
    with path.open('rb') as file:
        return file.read(len(_ZIP_MAGIC)) == _ZIP_MAGIC


def is_onnx(path: Path) -> bool:
    """Whether ``path`` is an ONNX model, by its first bytes."""
    with path.open('rb') as file:
        return _ONNX.match(file.read(_HEAD)) is not None


def root_of(names: Iterable[str]) -> str:
    """The folder in one of torch's zip archives that holds all of it."""
    return next(name for name in names if _PICKLE.fullmatch(name))[: -len('data.pkl')]


def describe_foreign(path: Path) -> str | None:
    """What ``path`` is, in words that follow "is", or None where torch or mmkd may read it.

    Only the head, the names in a zip archive and their sizes are looked at.
    """
    with path.open('rb') as file:
        head = file.read(_HEAD)
    if not head:
        return 'empty'
    if head.startswith(_ZIP_MAGIC):
        return _describe_zip(path)
    if _is_tar(path):
        return 'a tar archive (also the format of torch before 0.2)'
    if LEGACY_MAGIC in head[:32] and head.startswith(b'\x80'):
        return None
    for magic, name in _MAGICS:
        if head.startswith(magic):
            return name
    return _describe_by_form(head) or f'a file that starts with {head[:4]!r}'


def _describe_by_form(head: bytes) -> str | None:
    if head[4:8] == b'TFL3':
        return 'a TensorFlow Lite model'
    length = int.from_bytes(head[:8], 'little')
    if length < 1 << 30 and head[8:9] == b'{':
        return 'a safetensors file'
    if _ONNX.match(head):
        return 'an ONNX model'
    if re.match(rb'\x80[\x02-\x05]', head):
        return 'a plain pickle, not one of torch.save'
    start = head.lstrip(b'\xef\xbb\xbf \t\r\n')[:512].lower()
    if start.startswith((b'<!doctype html', b'<html', b'<head', b'<body')):
        return 'an HTML page: the address leads to a page (a login?), not to the file'
    if start.startswith((b'<?xml', b'<')):
        return 'an XML file'
    if all(byte >= 32 or byte in b'\t\n\r\f' for byte in head):
        return f'a text file that starts with {head[:4]!r}'
    return None


def _is_tar(path: Path) -> bool:
    # tarfile decides, as it does for torch: the first bytes of a tar are free.
    try:
        with tarfile.open(path, 'r:'):
            return path.stat().st_size >= 1024
    except (tarfile.TarError, OSError, ValueError):
        return False


def _describe_zip(path: Path) -> str | None:
    try:
        with zipfile.ZipFile(path) as archive:
            entries = archive.infolist()
    except Exception as error:  # zipfile raises BadZipFile, EOFError, OSError, ValueError, ...
        return f'a zip archive that is damaged or cut short ({shown(error, 100)})'
    names = [entry.filename for entry in entries]
    if any(re.search(r'(^|/)constants\.pkl$|/code/', name) for name in names):
        return 'a TorchScript archive'
    pickles = [name for name in names if _PICKLE.fullmatch(name)]  # torch ignores case, too
    if not pickles and names and all(name.endswith('.npy') for name in names):
        return 'a NumPy archive (.npz)'
    if len(pickles) != 1:
        return (
            f'a zip archive of {len(names)} files ({shown(", ".join(names[:3]), 100)}), which is '
            'not what torch.save writes: unpack it'
        )
    # torch.save does not compress, and weights hardly can be: what swells so much is a bomb.
    if sum(entry.file_size for entry in entries) > _MAX_SWELLING * path.stat().st_size:
        return 'a zip archive that claims to hold far more than it can'
    return None
