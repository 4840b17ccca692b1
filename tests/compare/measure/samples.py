"""Predictions as ``mmkd test --out`` writes them, drawn at random."""

import numpy as np
import torch


def draw(seed: int, images: int, classes: int, crowds: bool = False, ties: bool = False) -> list:
    """Images with up to 4 objects and 7 detections each, many near an object."""
    generator = np.random.default_rng(seed)
    return [sample(generator, index, classes, crowds, ties) for index in range(images)]


def sample(generator, index, classes, crowds, ties) -> dict:
    truth = boxes(generator, generator.integers(0, 5))
    labels = generator.integers(0, classes, len(truth))
    targets = generator.integers(0, max(len(truth), 1), generator.integers(0, 5) * bool(len(truth)))
    near = truth[targets]
    moved = near + generator.normal(0, 4, near.shape)
    moved[:, 2:] = np.maximum(moved[:, 2:], moved[:, :2] + 1)
    found = np.concatenate([moved, boxes(generator, generator.integers(0, 3))])
    kinds = generator.integers(0, classes, len(found))
    sure = np.flatnonzero(generator.random(len(targets)) < 0.7)
    kinds[sure] = labels[targets[sure]]
    scores = generator.random(len(found))
    return made(
        index,
        truth,
        labels,
        found,
        np.round(scores, 1) if ties else scores,
        kinds,
        generator.random(len(truth)) < 0.2 if crowds else np.zeros(len(truth), bool),
    )


def boxes(generator, count) -> np.ndarray:
    corners = generator.uniform(0, 60, (count, 2))
    return np.concatenate([corners, corners + generator.uniform(8, 40, (count, 2))], axis=1)


def made(index, truth, labels, found, scores, kinds, ignored=None) -> dict:
    ignored = np.zeros(len(truth), bool) if ignored is None else ignored
    return dict(
        img_id=index,
        img_path=f'{index}.jpg',
        ori_shape=(100, 100),
        instances=[
            dict(bbox=list(map(float, box)), bbox_label=int(label), ignore_flag=int(flag))
            for box, label, flag in zip(truth, labels, ignored, strict=True)
        ],
        gt_instances={},
        ignored_instances={},
        pred_instances=dict(
            bboxes=torch.tensor(np.reshape(found, (-1, 4)), dtype=torch.float32),
            scores=torch.tensor(np.asarray(scores), dtype=torch.float32),
            labels=torch.tensor(np.asarray(kinds), dtype=torch.long),
        ),
    )


def repeated(samples: list, weights) -> list:
    """Each image as often as its weight says, as images of their own."""
    drawn = [one for one, count in zip(samples, weights, strict=True) for _ in range(count)]
    return [{**one, 'img_id': index} for index, one in enumerate(drawn)]
