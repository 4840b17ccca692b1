"""Starting the processes of a run: on GPUs as mmengine does, on a CPU-only machine with gloo."""

import torch
from mmengine.config import Config
from mmengine.dist import init_dist
from mmengine.logging import print_log
from mmengine.utils.dl_utils import set_multi_processing

from mmkd.compat.detectors import normalise_yolov5_over_ranks


def prepare_launch(cfg: Config, launcher: str) -> None:
    """Set ``cfg.launcher``, and open the process group if there is one.

    mmengine's ``init_dist`` and model wrapper both ask for a GPU by its number. So where there
    is none, the group is opened without it, and the wrapper is told to use no device. MMYOLO's
    detectors are told to keep their BatchNorm: SyncBatchNorm, their default, asks for a GPU too.
    On any machine their loss is made to count the matches of all processes.

    Args:
        cfg: config of the run, changed in place.
        launcher: 'none', 'pytorch', 'slurm' or 'mpi'.

    Raises:
        ValueError: a launcher other than 'none' and 'pytorch' without a GPU.
    """
    cfg.launcher = launcher
    if launcher == 'none':
        return
    yolo = [
        model
        for model in (cfg.get('model'), (cfg.get('model') or {}).get('architecture'))
        if isinstance(model, dict) and str(model.get('type')).endswith('YOLODetector')
    ]
    if yolo:
        normalise_yolov5_over_ranks()
    if torch.cuda.is_available():
        if not torch.distributed.is_initialized():
            env_cfg = cfg.get('env_cfg') or {}
            set_multi_processing(**env_cfg.get('mp_cfg', {}), distributed=True)
            init_dist(launcher, **env_cfg.get('dist_cfg', {}))
        return
    if launcher != 'pytorch':
        raise ValueError(
            f"on a machine without a GPU the launcher must be 'none' or 'pytorch', but got "
            f"'{launcher}'. Use tools/dist_train.sh."
        )
    env_cfg = cfg.setdefault('env_cfg', {})
    env_cfg['dist_cfg'] = {**env_cfg.get('dist_cfg', {}), 'backend': 'gloo'}
    wrapper = dict(type='MMDistributedDataParallel', broadcast_buffers=False, device_ids=None)
    cfg.setdefault('model_wrapper_cfg', wrapper)
    for model in yolo:
        model['use_syncbn'] = False
    if not torch.distributed.is_initialized():
        torch.distributed.init_process_group('gloo')
        print_log('No GPU: training on the CPU, with gloo', 'current')
