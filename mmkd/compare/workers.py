"""Where the steps of a job run: each on a GPU of its own, or on its share of the cores."""

import os
from pathlib import Path
from typing import Any

import torch

ROOT = Path(__file__).resolve().parents[2]


def worker_environments(count: int | None, most: int) -> list[dict[str, str]]:
    """The environment of each step that may run at once, for :func:`mmkd.compare.job.run_steps`.

    Args:
        count (int | None): How many; None for one per GPU, or without GPUs one per core.
        most (int): More than these would have nothing to do.
    """
    gpus, own = _gpus(), cores()
    count = count or min(len(gpus) or own, most)
    # Small models gain more from a second process than from a second thread. Waiting threads must
    # not spin: beside other work that costs a multiple.
    env = dict(OMP_NUM_THREADS=str(min(max(own // count, 1), 4)), OMP_WAIT_POLICY='PASSIVE')
    env.update(os.environ)
    env['PYTHONPATH'] = os.pathsep.join(filter(None, [str(ROOT), os.environ.get('PYTHONPATH')]))
    return [
        {**env, 'CUDA_VISIBLE_DEVICES': gpus[i % len(gpus)]} if gpus else dict(env)
        for i in range(count)
    ]


def describe_machine(workers: list[dict[str, str]]) -> dict[str, Any]:
    """What a reader needs to judge times and rounding: hardware, versions, threads."""
    from importlib.metadata import packages_distributions, version

    found = packages_distributions()
    names = ('torch', 'mmengine', 'mmcv', 'mmdet', 'mmrazor', 'mmyolo')
    packages = [found[name][0] for name in names if name in found]
    return dict(
        cores=cores(),
        gpus=[torch.cuda.get_device_name(i) for i in range(len(_gpus()))],
        workers=len(workers),
        threads=int(workers[0]['OMP_NUM_THREADS']),
        versions={name: version(name) for name in packages},
    )


def cores() -> int:
    """How many this process may use."""
    if hasattr(os, 'sched_getaffinity'):
        return len(os.sched_getaffinity(0))
    return os.cpu_count() or 1


def _gpus() -> list[str]:
    """What CUDA_VISIBLE_DEVICES calls the GPUs that this process may use."""
    count = torch.cuda.device_count() if torch.cuda.is_available() else 0
    visible = os.environ.get('CUDA_VISIBLE_DEVICES')
    names = visible.split(',') if visible else [str(i) for i in range(count)]
    return names[:count]
