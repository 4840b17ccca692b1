"""``mmkd export --format``: open, export, prove, write, and what else is made of it."""

from collections.abc import Sequence
from pathlib import Path
from typing import Any

from mmengine.config import Config

from mmkd.export.converters import check_converter, convert
from mmkd.export.export_onnx import DEFAULTS, Settings, check_outputs, make_files, prove, write
from mmkd.export.int8.export_int8 import check_int8, make_int8
from mmkd.export.onnx_file import need
from mmkd.export.trained import open_trained


def export_graph(
    checkpoint: str,
    config: Config | None,
    kind: str = 'onnx',
    settings: Settings = DEFAULTS,
    out: Path | None = None,
    overwrite: bool = False,
    images: Sequence[str] = (),
    map_images: int | None = None,
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
        calibration: how many training images give the ranges of an INT8 file. Defaults to None:
            the file is not quantised.

    Returns:
        bool: whether all that was compared agrees.

    Raises:
        OSError, ValueError, ModuleNotFoundError: what stands against it; nothing was written.
    """
    need('onnx', 'the format onnx')
    need('onnxruntime', 'the check of an exported file')
    check_converter(kind)
    if calibration is not None:
        check_int8(settings, calibration, kind)
    missing = [image for image in images if not Path(image).is_file()]
    if missing:
        raise FileNotFoundError(
            f'--images must be files, but there is no "{missing[0]}". Correct the path.'
        )
    file = (out or Path(Path(checkpoint).name)).with_suffix('.onnx')
    if out is None:
        file = Path(checkpoint).with_suffix('.onnx')
    report = check_outputs(file, overwrite)
    parity: Any
    if calibration is None:
        trained = open_trained(checkpoint, config)
        files = make_files(trained, settings)
        parity = prove(trained, files, images, map_images, own_size=settings.size is None)
    else:
        trained = open_trained(checkpoint, config, also=('train_dataloader',))
        files, parity = make_int8(trained, settings, calibration, images, map_images)
    write(file, report, files, parity)
    print(f'{file} ({len(files.content) / 1e6:.1f} MB), its parity with PyTorch in {report}:')
    print('\n'.join(f'  {line}' for line in parity.lines()))
    if kind != 'onnx':
        print(f'{convert(kind, file, settings.half)}, made of {file}')
    return bool(parity.passed)
