"""What recorders would record, seen in one small forward of a model."""

from collections.abc import Iterable, Mapping
from contextlib import ExitStack, suppress
from functools import partial
from typing import Any

import torch
from mmdet.models.detectors import SingleStageDetector
from mmdet.structures import DetDataSample
from torch import Tensor, nn

from mmkd.datasets.channels import input_channels

_SIZES = (128, 320, 640)  # pixels; the first at which a model may run, then at which it runs

#: Of each map (H, W).
Sizes = list[tuple[int, int]]


class Probe:
    """Channels of a model's records; the model runs when they are first asked for.

    It runs on one image of zeros in eval mode, so that nothing of it changes: no weight, no
    statistic, no random number of the training.

    Args:
        model: a built detector.
        recorders: by name their configs; ``ModuleOutputs`` and ``ModuleInputs`` are seen.
        scale: of the images that the model sees, by those that are asked about. Defaults to 1.0.
    """

    def __init__(
        self, model: Any, recorders: Mapping[str, Mapping[str, Any]], scale: float = 1.0
    ) -> None:
        self.model = model
        self.scale = scale
        self.kinds = {
            name: (str(recorder['type']), str(recorder['source']))
            for name, recorder in recorders.items()
            if recorder.get('type') in ('ModuleOutputs', 'ModuleInputs')
        }
        self._records: dict[str, list[Any]] | None = None
        self._sized: dict[int, dict[str, list[Any]]] = {}

    def channels(self, record: Mapping[str, Any]) -> int | list[int] | None:
        """Channels of what a mapping takes of a record, of each level if it is a list.

        None where they cannot be seen: another kind of recorder, or a part that did not run.
        """
        if self._records is None:
            self._records = self._run(_sizes(self.model))
        return _channels(self._value(self._records, record))

    def sizes(self, record: Mapping[str, Any], pixels: int) -> Sizes | None:
        """(H, W) of the maps that a mapping takes, of images of ``pixels`` squared.

        None where they cannot be seen, or where the model does not run on such images.
        """
        if pixels not in self._sized:
            self._sized[pixels] = self._run([round(pixels * self.scale)])
        maps = self._value(self._sized[pixels], record)
        maps = [maps] if isinstance(maps, Tensor) else maps
        if not isinstance(maps, list | tuple) or not maps:
            return None
        if not all(isinstance(m, Tensor) and m.dim() == 4 for m in maps):
            return None
        return [(m.size(2), m.size(3)) for m in maps]

    def _value(self, records: Mapping[str, list[Any]], record: Mapping[str, Any]) -> Any:
        if record.get('recorder') not in self.kinds:
            return None
        kind, source = self.kinds[record['recorder']]
        try:
            value = records[kind + source][record.get('record_idx') or 0]
            return value if record.get('data_idx') is None else value[record['data_idx']]
        except (IndexError, KeyError, TypeError):
            return None

    def _run(self, sizes: Iterable[int]) -> dict[str, list[Any]]:
        records: dict[str, list[Any]] = {}
        modes = {module: module.training for module in self.model.modules()}
        with ExitStack() as stack:
            stack.enter_context(torch.no_grad())
            stack.enter_context(torch.random.fork_rng(devices=[]))
            for kind, source in set(self.kinds.values()):
                keep = partial(_keep, records, kind)
                hook = self.model.get_submodule(source).register_forward_hook(partial(keep, source))
                stack.callback(hook.remove)
            self.model.eval()
            for size in sizes:
                records.clear()
                with suppress(Exception):  # too small for it, or it needs what only a run has
                    self._forward(size, records)
                if len(records) == len(set(self.kinds.values())):
                    break
        for module, mode in modes.items():
            module.training = mode
        return records

    def _forward(self, size: int, records: Mapping[str, Any]) -> None:
        like = next(self.model.parameters())
        image = like.new_zeros(1, input_channels(self.model), size, size)
        features = self.model.extract_feat(image)
        if len(records) == len(set(self.kinds.values())):
            return
        if getattr(type(self.model), '_forward', None) is SingleStageDetector._forward:
            self.model.bbox_head(features)  # its own way passes by the hooks
            return
        shape = (size, size)
        sample = DetDataSample(
            metainfo=dict(
                img_shape=shape,
                ori_shape=shape,
                pad_shape=shape,
                batch_input_shape=shape,
                scale_factor=(1.0, 1.0),
            )
        )
        self.model(image, [sample], mode='tensor')


def _sizes(model: nn.Module) -> list[int]:
    """The sizes to try: those of at least a cell of the coarsest level, as of SSD's last maps."""
    strides = [0.0]
    for module in model.modules():
        for stride in getattr(getattr(module, 'prior_generator', None), 'strides', None) or ():
            strides.append(max(stride) if isinstance(stride, list | tuple) else stride)
    return [size for size in _SIZES if size >= max(strides)] or [_SIZES[-1]]


def _keep(
    records: dict[str, list[Any]], kind: str, source: str, _: nn.Module, inputs: Any, outputs: Any
) -> None:
    records.setdefault(kind + source, []).append(outputs if kind == 'ModuleOutputs' else inputs)


def _channels(value: Any) -> int | list[int] | None:
    if isinstance(value, Tensor):
        return value.size(1) if value.dim() == 4 else None
    if isinstance(value, list | tuple) and value:
        found = [_channels(item) for item in value]
        return found if all(isinstance(item, int) for item in found) else None  # type: ignore[return-value]
    return None
