"""A detector whose cost is measured, opened for the programs that can run it."""

from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, NamedTuple

import torch
from mmdet.structures import DetDataSample
from mmengine.analysis import FlopAnalyzer
from mmengine.config import Config
from mmengine.registry import DefaultScope
from torch import Tensor, nn

import mmkd_onnx
from mmkd.checkpoints.fetch import is_address
from mmkd.checkpoints.foreign import is_onnx
from mmkd.checkpoints.preprocessing import Preprocessing
from mmkd.checkpoints.reader import find_checkpoint
from mmkd.export.export_onnx import Settings, make_files
from mmkd.export.input_rule import input_rule
from mmkd.export.not_exportable import NotExportableError
from mmkd.export.onnx_file import need
from mmkd.export.rows_graph import RowsGraph
from mmkd.export.trained import Trained, open_trained


class Contender(NamedTuple):
    """A detector that is measured.

    Args:
        role: what it is to the reader, for example 'Teacher'.
        checkpoint: as :func:`mmkd.predict.load.load` takes it, an exported file, too.
        config: the same. Defaults to None.
        map: its mAP, from 0 to 1, if it is known. Defaults to None.
    """

    role: str
    checkpoint: str
    config: str | Path | Config | None = None
    map: float | None = None

    @property
    def name(self) -> str:
        """The end of its path, by which a reader knows it.

        >>> Contender('Student', 'work_dirs/my_pair/student.pth').name
        'my_pair/student.pth'
        """
        return '/'.join(Path(self.checkpoint).parts[-2:])


@dataclass
class Opened:
    """A contender, ready to run.

    Args:
        contender: what was opened.
        size: (H, W) of its input.
        trained: in PyTorch; None of an exported file.
        graph: from (1, 3, H, W), uint8, to what it gives; None of an exported file.
        exported: its ONNX file; None where it has none.
        parameters: how many.
        macs: multiplications with an addition, of one image.
        bytes: of the ONNX file, or else of the weights.
        notes: what stood in the way of a figure.
    """

    contender: Contender
    size: tuple[int, int]
    trained: Trained | None = None
    graph: nn.Module | None = None
    exported: Path | None = None
    parameters: int | None = None
    macs: int | None = None
    bytes: int = 0
    notes: list[str] = field(default_factory=list)


class Predicting(nn.Module):
    """A detector that cannot be a graph: its own ``predict``, so that suppression is in its time.

    Args:
        trained: the detector.
        size: (H, W) of its input.
    """

    def __init__(self, trained: Trained, size: tuple[int, int]) -> None:
        super().__init__()
        self.model, self.scope, self.size = trained.model, trained.scope, size

    def forward(self, image: Tensor) -> list[Tensor]:
        """Boxes, scores and labels."""
        shapes = dict.fromkeys(('img_shape', 'ori_shape', 'pad_shape'), self.size)
        sample = DetDataSample(metainfo=dict(shapes, scale_factor=(1.0, 1.0), img_id=0))
        with DefaultScope.overwrite_default_scope(self.scope):
            data = self.model.data_preprocessor(dict(inputs=[image[0]], data_samples=[sample]))
            [found] = self.model.predict(data['inputs'], data['data_samples'])
        boxes = found.pred_instances.bboxes
        return [getattr(boxes, 'tensor', boxes), found.pred_instances.scores]


def open_contender(
    contender: Contender, folder: Path, size: tuple[int, int] | None = None
) -> Opened:
    """Open a detector, and export it where that can be done.

    Args:
        contender: what to open.
        folder: for its ONNX file.
        size: (H, W) of the input. Defaults to None: what its test pipeline makes of images.

    Raises:
        OSError, ValueError: there is no such file, or no detector in it.
    """
    path = contender.checkpoint
    if not is_address(path) and is_onnx(find_checkpoint(path, 'the detector')):
        return _open_exported(contender, size)
    config = contender.config
    trained = open_trained(path, str(config) if isinstance(config, Path) else config)
    notes: list[str] = []
    file = None
    try:
        need('onnxruntime', 'the latency of an exported file')
        content = make_files(trained, Settings(size=size)).content
    except (ModuleNotFoundError, NotExportableError) as error:
        notes.append(str(error))
    else:
        file = folder / f'{len(list(folder.iterdir()))}.onnx'
        file.write_bytes(content)
    preprocessing = Preprocessing.of(trained.model.data_preprocessor) or Preprocessing()
    height, width = input_rule(trained.config, preprocessing, size)['size']
    graph: nn.Module
    try:
        graph = RowsGraph(trained.model, (height, width)).eval()
    except NotExportableError:
        graph = Predicting(trained, (height, width)).eval()
    weights = list(trained.model.state_dict().values())
    return Opened(
        contender,
        (height, width),
        trained,
        graph,
        file,
        sum(parameter.numel() for parameter in trained.model.parameters()),
        _macs(graph, trained.scope, (height, width), notes),
        file.stat().st_size if file else sum(w.numel() * w.element_size() for w in weights),
        notes,
    )


def _open_exported(contender: Contender, size: tuple[int, int] | None) -> Opened:
    metadata = mmkd_onnx.load(contender.checkpoint).metadata
    height, width = metadata.preprocessing['size']
    if size is not None and size != (height, width):
        raise ValueError(
            f'--size must be that of an exported file, but "{contender.checkpoint}" takes '
            f'{height} {width}, and got {size[0]} {size[1]}. Leave --size out, or name the '
            'checkpoint.'
        )
    file = Path(contender.checkpoint)
    return Opened(contender, (height, width), exported=file, bytes=file.stat().st_size)


def _macs(graph: nn.Module, scope: str, size: tuple[int, int], notes: list[str]) -> int | None:
    image = torch.zeros(1, 3, *size, dtype=torch.uint8)
    analyzer: Any = FlopAnalyzer(graph, (image,))
    analyzer.unsupported_ops_warnings(False).uncalled_modules_warnings(False)
    analyzer.tracer_warnings('none')
    try:
        with torch.no_grad(), DefaultScope.overwrite_default_scope(scope):
            return int(analyzer.total())
    except Exception as error:  # of whatever the tracer cannot follow
        notes.append(
            f'MACs were not counted: {type(error).__name__}: {" ".join(str(error).split())[:200]}'
        )
        return None
