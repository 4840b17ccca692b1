"""What the input and the outputs of an ONNX file of another program are."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, fields
from logging import WARNING
from pathlib import Path
from typing import Any

import numpy as np
from mmengine.logging import print_log
from numpy.typing import NDArray

from mmkd.config.names import first_of
from mmkd.teachers.class_names import class_names
from mmkd.teachers.description_rules import check_against_file, check_description
from mmkd.teachers.detected import check_scores, sigmoid, upright


@dataclass
class Description:
    """How an image becomes the input, and how the outputs are read.

    Args:
        classes: names of the K classes, in the order of scores or labels.
        size: (height, width) of the input.
        boxes: name of the output with boxes (N, 4), or with (N, 4 + K) or (4 + K, N) where scores
            follow each box. Each output may also have an axis of a batch of one image.
        scores: name of the output with scores (N, K), or (N,) beside ``labels``. Defaults to '',
            those that follow the boxes.
        labels: name of the output with labels. Defaults to '', the surest class.
        objectness: whether the first of the scores multiplies the others; a sigmoid beside softmax.
        resize: 'letterbox' (in the middle, padded), 'keep_ratio' (at the upper left, padded) or
            'stretch'. Defaults to 'letterbox'.
        pad: the value of padding, 0 to 255. Defaults to 114.
        channels: 'RGB' or 'BGR'. Defaults to 'RGB'.
        mean: of each channel, in the order of ``channels``, subtracted from 0 to 255. Defaults to
            0.
        std: what is divided by. Defaults to 255.
        layout: 'NCHW' or 'NHWC'. Defaults to 'NCHW'.
        dtype: 'float32' or 'uint8' (neither mean nor std). Defaults to 'float32'.
        box_form: 'xyxy', 'cxcywh' or 'xywh'. Defaults to 'xyxy'.
        relative: whether boxes are parts of the input's sides, not pixels. Defaults to False.
        activation: of the scores: 'none', 'sigmoid' or 'softmax'. Defaults to 'none'.
        background: where a class beside K is that of nothing; beside ``labels`` it is the one
            after the last, or that before the first. Defaults to 'none'.
        first_label: the label of the first class. Defaults to 0; to 1 where ``background`` is
            'first'.
        score_thr: rows below it are no detections. Defaults to 0.05.
        iou_thr: of the suppression of boxes of one class; None where the file has done so. Defaults
            to 0.6.
        max_per_img: how many detections, at most. Defaults to 100.

    Raises:
        ValueError: a setting is missing, unknown or of another kind.
    """

    classes: tuple[str, ...]
    size: tuple[int, int]
    boxes: str
    scores: str = ''
    labels: str = ''
    objectness: bool = False
    resize: str = 'letterbox'
    pad: float = 114
    channels: str = 'RGB'
    mean: Sequence[float] = (0.0, 0.0, 0.0)
    std: Sequence[float] = (255.0, 255.0, 255.0)
    layout: str = 'NCHW'
    dtype: str = 'float32'
    box_form: str = 'xyxy'
    relative: bool = False
    activation: str = 'none'
    background: str = 'none'
    first_label: int = 0
    score_thr: float = 0.05
    iou_thr: float | None = 0.6
    max_per_img: int = 100
    session: Any = field(default=None, repr=False)

    def __post_init__(self) -> None:
        self._beyond: set[int] = set()
        self._told_inverted = False

    @property
    def softmax(self) -> bool:
        """Whether the scores of a box exclude each other, as those beside one of nothing do."""
        beside_nothing = self.background != 'none' and self.activation == 'none'
        return self.activation == 'softmax' or beside_nothing

    @classmethod
    def of(cls, told: Any) -> 'Description':
        """The description that a dict tells, checked."""
        known = [one.name for one in fields(cls) if one.name != 'session']
        needed = ('classes', 'size', 'boxes')
        if not isinstance(told, Mapping) or not set(needed) <= set(told) <= set(known):
            given = first_of(map(str, told), 30) if isinstance(told, Mapping) else repr(told)
            raise ValueError(
                f'a description of an ONNX file must have {", ".join(needed)}, and may have '
                f'{", ".join(name for name in known if name not in needed)}, but got {given}.'
            )
        check_description(told)
        remedy = 'Correct classes of the description.'
        first = dict(first_label=int(told.get('background') == 'first'))
        made = cls(**{**first, **told, 'classes': class_names(told['classes'], remedy)})
        made.size = (int(told['size'][0]), int(told['size'][1]))
        for key in ('mean', 'std'):
            value = np.asarray(getattr(made, key), float).reshape(-1)
            setattr(made, key, np.broadcast_to(value, 3).tolist())
        return made

    def told(self) -> dict[str, Any]:
        """All that it says, by key."""
        return {one.name: getattr(self, one.name) for one in fields(self) if one.name != 'session'}

    def open(self, path: Path, providers: Sequence[Any] | None = None) -> None:
        """Open the file.

        Raises:
            FileNotFoundError, ModuleNotFoundError, ValueError: it cannot be, or has other outputs.
        """
        if not path.is_file():
            raise FileNotFoundError(f'a detector must be a file, but there is no "{path}".')
        try:
            import onnxruntime
        except ModuleNotFoundError as error:
            raise ModuleNotFoundError(
                'an ONNX file is run by onnxruntime, which is not installed. '
                'pip install onnxruntime'
            ) from error
        try:
            self.session = onnxruntime.InferenceSession(
                str(path), providers=list(providers or ['CPUExecutionProvider'])
            )
        except Exception as error:  # onnxruntime's own, of several kinds
            raise ValueError(
                f'a detector must be a file that onnxruntime can run, but of "{path}" it says: '
                f'{" ".join(str(error).split())[:300]}.'
            ) from None
        check_against_file(vars(self), self.session, path)

    def detect(self, image: NDArray[Any]) -> tuple[Any, Any, Any, Any]:
        """Boxes, scores, labels and scores of all classes in an image (H, W, 3) in BGR."""
        from mmkd_onnx.detections import choose_rows
        from mmkd_onnx.preparation import place

        step: dict[str, Any] = dict(interpolation='bilinear')
        if self.resize == 'letterbox':
            step.update(
                step='letterbox', size=self.size, stretch=False, allow_scale_up=True, value=self.pad
            )
        else:
            keeps = self.resize == 'keep_ratio'
            step.update(step='resize', scale=self.size[::-1], keep_ratio=keeps, within=self.size)
        rule = dict(size=self.size, steps=[step], padding=[self.pad] * 3, input='uint8')
        placed = place(image, rule)
        boxes, scores = self._rows(self._run(placed.pixels))
        rules = dict(
            score=self.score_thr, iou=self.iou_thr, max_per_image=self.max_per_img,
            before_nms=None, multi_label=False, class_agnostic=False, min_side=0, clip_first=False,
            levels=[len(boxes)],
        )  # fmt: skip
        rows, found, sure, labels = choose_rows(boxes, scores, rules, self.size)
        distribution = None if self.labels else scores[rows].astype(np.float32)
        return placed.back(found), sure, labels, distribution

    def _run(self, pixels: NDArray[Any]) -> dict[str, NDArray[Any]]:
        """The outputs for pixels (3, H, W) in BGR, with or without an axis of the batch."""
        if self.channels == 'RGB':
            pixels = pixels[::-1]
        if self.dtype == 'float32':
            mean, std = (np.array(v, np.float32)[:, None, None] for v in (self.mean, self.std))
            pixels = (pixels.astype(np.float32) - mean) / std
        if self.layout == 'NHWC':
            pixels = pixels.transpose(1, 2, 0)
        entry = self.session.get_inputs()[0]
        pixels = np.ascontiguousarray(pixels)
        single = len(entry.shape) == 3  # one image without the axis of a batch
        outputs = self.session.run(None, {entry.name: pixels if single else pixels[None]})
        names = [output.name for output in self.session.get_outputs()]
        return dict(zip(names, map(np.asarray, outputs), strict=True))

    def _rows(self, outputs: Mapping[str, NDArray[Any]]) -> tuple[NDArray[Any], NDArray[Any]]:
        """Boxes (N, 4) in pixels of the input, and scores (N, K)."""
        known = len(self.classes) + (self.background != 'none')
        rows = _of_rank(outputs[self.boxes], 2, self.boxes).astype(np.float32)
        if not self.scores:
            width = 4 + known + self.objectness
            rows = rows.T if rows.shape[1] != width and rows.shape[0] == width else rows
            if rows.shape[1] != width:
                raise ValueError(
                    f'output "{self.boxes}" must have 4 numbers of a box and {width - 4} scores in '
                    f'each row, but is {rows.shape}. Correct classes, background or objectness.'
                )
        boxes, scores = (rows, rows) if self.scores else (rows[:, :4], rows[:, 4:])
        if self.scores:
            scores = outputs[self.scores].astype(np.float32)
            alone = scores.size == len(boxes) and (self.labels or known + self.objectness == 1)
            scores = scores.reshape(-1, 1) if alone else _of_rank(scores, 2, self.scores)
        if self.activation == 'sigmoid':
            scores = sigmoid(scores)
        elif self.activation == 'softmax':  # of the classes: an objectness is none of them
            first, rest = scores[:, : self.objectness], scores[:, self.objectness :]
            rest = np.exp(rest - rest.max(-1, keepdims=True))
            scores = np.hstack([sigmoid(first), rest / rest.sum(-1, keepdims=True)])
        if self.objectness:
            scores = scores[:, 1:] * scores[:, :1]
        if self.labels:
            scores = self._of_labels(boxes, scores, outputs[self.labels])
        elif self.background != 'none':
            scores = scores[:, 1:] if self.background == 'first' else scores[:, :-1]
        if boxes.shape[1] != 4 or scores.shape != (len(boxes), len(self.classes)):
            raise ValueError(
                f'scores must be those of {len(self.classes)} classes for each of {len(boxes)} '
                f'boxes (N, 4), but are {scores.shape} for boxes {boxes.shape}. Correct classes, '
                'labels or background.'
            )
        hint = f' In the description: activation, which is {self.activation}.'
        scores = check_scores(scores, f'output "{self.scores or self.boxes}"', hint)
        boxes = self._in_pixels(boxes)
        sure = scores.max(1, initial=0) >= self.score_thr
        self._tell_inverted(boxes[sure])
        odd = ~np.isfinite(boxes).all(1) & sure
        if odd.any():
            raise ValueError(
                f'each box must have four finite numbers, but of output "{self.boxes}" '
                f'{odd.sum()} of those that score {self.score_thr:g} or more have not. Correct '
                'the file, or mean and std of the description.'
            )
        return boxes, scores

    def _of_labels(
        self, boxes: NDArray[Any], scores: NDArray[Any], labels: NDArray[Any]
    ) -> NDArray[Any]:
        """Scores (N, K): each row has that of its label, and none where that is no class.

        Labels before the first fill the output up, or are those of nothing.
        """
        labels = _of_rank(labels, 1, self.labels)
        if not len(labels) == len(boxes) == scores.size:
            raise ValueError(
                f'boxes, scores and labels must have a row for each detection, but are '
                f'{boxes.shape}, {scores.shape} and {labels.shape}. Correct the names of outputs.'
            )
        places = labels.astype(np.int64) - self.first_label
        kept = (places >= 0) & (places < len(self.classes))
        self._tell_beyond(places[scores.reshape(-1) >= self.score_thr])
        single = np.zeros((len(places), len(self.classes)), np.float32)
        single[np.flatnonzero(kept), places[kept]] = scores.reshape(-1)[kept]
        return single

    def _tell_beyond(self, places: NDArray[Any]) -> None:
        """Tell of labels beyond the classes, once of each."""
        first = len(self.classes) + (self.background == 'last')
        new = sorted(set(places[places >= first].tolist()) - self._beyond)
        if not new:
            return
        self._beyond.update(new)
        print_log(
            f'labels of output "{self.labels}" should be of the {len(self.classes)} classes of its '
            f'description, from {self.first_label} on, but '
            f'{first_of([place + self.first_label for place in new], counted=True)} are beyond, '
            'and such detections are left out. Name their classes, or correct first_label.',
            'current',
            WARNING,
        )

    def _tell_inverted(self, boxes: NDArray[Any]) -> None:
        """Tell once of boxes that end before they begin, which are none."""
        odd = ~upright(np.nan_to_num(boxes))
        if self._told_inverted or not odd.any():
            return
        self._told_inverted = True
        print_log(
            f'boxes of output "{self.boxes}" should have x1 <= x2 and y1 <= y2, but {odd.sum()} of '
            f'{len(boxes)} that score {self.score_thr:g} or more have not, and are left out. '
            f'Correct box_form of the description, which is {self.box_form}.',
            'current',
            WARNING,
        )

    def _in_pixels(self, boxes: NDArray[Any]) -> NDArray[Any]:
        boxes = boxes.copy()
        if self.box_form == 'cxcywh':
            boxes[:, :2] -= boxes[:, 2:] / 2
        if self.box_form != 'xyxy':
            boxes[:, 2:] += boxes[:, :2]
        return boxes * np.tile(self.size[::-1], 2).astype(np.float32) if self.relative else boxes


def _of_rank(output: NDArray[Any], rank: int, name: str) -> NDArray[Any]:
    """An output with ``rank`` axes: those of the batch, and others of a single entry, left out."""
    found = output
    while found.ndim > rank and 1 in found.shape:
        found = found.squeeze(found.shape.index(1))
    if found.ndim != rank:
        raise ValueError(
            f'output "{name}" must have {rank} axes, beside those of a single entry such as a '
            f'batch of one image, but is {output.shape}. Correct the description.'
        )
    return found
