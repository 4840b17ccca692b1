"""``mmkd export --format``: open, export, prove, write, and what else is made of it."""

from collections.abc import Sequence
from functools import partial
from pathlib import Path, PurePosixPath
from typing import Any
from urllib.parse import urlsplit

from mmengine.config import Config

from mmkd.checkpoints.fetch import is_address
from mmkd.config.config_files import config_files
from mmkd.export.converters import (
    CONVERTERS,
    check_converter,
    convert,
    converted_files,
    open_in_openvino,
)
from mmkd.export.export_onnx import (
    DEFAULTS,
    Settings,
    check_outputs,
    make_files,
    prove,
    write,
    write_parity,
)
from mmkd.export.int8.calibration import CALIBRATION
from mmkd.export.int8.export_int8 import check_int8, make_int8
from mmkd.export.int8.learned import fixed, make_learned
from mmkd.export.onnx_file import need
from mmkd.export.trained import open_trained
from mmkd.fileio.check_not_read import check_not_read
from mmkd.quantization.quantized import ranges_in
from mmkd_onnx.image_file import read_image

#: Endings of files that one of ONNX is named after; what else follows a dot is part of a name.
_ENDINGS = ('.onnx', '.pth', '.pt', *(ending for _, ending in CONVERTERS.values()))


def onnx_file(checkpoint: str, out: Path | None = None) -> Path:
    """The ONNX file that is written for a checkpoint, or for ``--out FILE``.

    Raises:
        IsADirectoryError: it is told a folder.

    Example:
        >>> onnx_file('runs/epoch_12.pth').name, onnx_file('', Path('student_v1.5')).name
        ('epoch_12.onnx', 'student_v1.5.onnx')
        >>> onnx_file('https://example.org/models/student.pth?download=1').as_posix()
        'student.onnx'
    """
    if out is None and is_address(checkpoint):
        address = urlsplit(checkpoint)
        out = Path(PurePosixPath(address.path or address.netloc).name)
    given = out or Path(checkpoint)
    if not given.name.strip('.'):
        raise IsADirectoryError(f'--out must name a file, but got "{given}". Give FILE.onnx.')
    name = given.stem if given.suffix in _ENDINGS else given.name
    return given.with_name(f'{name}.onnx')


def export_graph(
    checkpoint: str,
    config: Config | None,
    kind: str = 'onnx',
    settings: Settings = DEFAULTS,
    out: Path | None = None,
    overwrite: bool = False,
    images: Sequence[str] = (),
    map_images: int | None = None,
    int8: bool = False,
    calibration: int | None = None,
) -> bool:
    """Export a detector as a graph, prove it and print how it was proven.

    Args:
        checkpoint: of a pair (its student is taken) or of a detector.
        config: of the pair or the detector. None: the one in the checkpoint.
        kind: 'onnx', or a format that is made of an ONNX file.
        settings: of the ONNX file.
        out: the file to write. Defaults to None: named after the checkpoint.
        overwrite: whether files may be replaced.
        images: see :func:`mmkd.export.export_onnx.prove`.
        map_images: the same.
        int8: whether the file computes in eight bits.
        calibration: how many training images give its ranges. Defaults to None: those that the
            student has learned with ``quantize``, or else of ``CALIBRATION`` images.

    Returns:
        bool: whether all that was compared agrees.

    Raises:
        OSError, ValueError, ModuleNotFoundError: what stands against it; nothing was written.
    """
    need('onnx', 'the format onnx')
    need('onnxruntime', 'the check of an exported file')
    check_converter(kind)
    if int8:
        check_int8(settings, calibration, kind)
    missing = [image for image in images if not Path(image).is_file()]
    if missing:
        raise FileNotFoundError(
            f'--images must be files, but there is no "{missing[0]}". Correct the path.'
        )
    file = onnx_file(checkpoint, out)
    besides = converted_files(kind, file)
    report = check_outputs(file, overwrite, besides)
    check_not_read((file, report, *besides), [checkpoint, *config_files(config), *images])
    for image in images:
        read_image(image)
    parity: Any
    ranges = ranges_in(checkpoint) if int8 and calibration is None else {}
    if ranges:
        trained = open_trained(checkpoint, config)
        files, parity = make_learned(trained, settings, ranges, images, map_images)
        trained = trained._replace(model=fixed(trained.model, ranges))  # which the file is of
    elif int8:
        trained = open_trained(checkpoint, config, also=('train_dataloader',))
        count = calibration or CALIBRATION
        files, parity = make_int8(trained, settings, count, images, map_images)
    else:
        trained = open_trained(checkpoint, config)
        files = make_files(trained, settings)
        parity = prove(trained, files, images, map_images, own_size=settings.size is None)
    write(file, report, files, parity)
    print(f'{file} ({len(files.content) / 1e6:.1f} MB), its parity with PyTorch in {report}:')
    print('\n'.join(f'  {line}' for line in parity.lines()))
    if kind == 'onnx':
        return bool(parity.passed)
    print(f'{convert(kind, file, settings.half)}, made of {file}')
    if kind != 'openvino':
        return bool(parity.passed)
    opened = partial(open_in_openvino, half=settings.half)
    own: Any = prove(trained, files, images, map_images, settings.size is None, opened)
    write_parity(besides[0], besides[-1], files, own)
    print(f'its parity with PyTorch in {besides[-1]}:')
    print('\n'.join(f'  {line}' for line in own.lines()))
    return bool(parity.passed and own.passed)
