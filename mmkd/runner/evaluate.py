"""The evaluation of a detector: what is checked before it, and whose weights it has."""

from typing import Any

from mmengine.config import Config
from mmengine.runner import Runner

from mmkd.checkpoints.data_origin import check_data_origin
from mmkd.checkpoints.detector_checkpoint import load_detector
from mmkd.config.config_errors import config_errors
from mmkd.datasets.data_checks import check_data
from mmkd.distributed.unwrapped import unwrapped
from mmkd.hooks.quantize_hook import QuantizeHook
from mmkd.runner.launch import prepare_launch


def evaluate(cfg: Config, checkpoint: str, launcher: str = 'none') -> dict[str, Any]:
    """Evaluate a detector with the weights of a checkpoint.

    Args:
        cfg: config of the detector with its ``work_dir``, changed in place; of a pair it is what
            :func:`mmkd.export.student_config.student_config` makes of it.
        checkpoint: a file or a URL.
        launcher: 'none', 'pytorch', 'slurm' or 'mpi'. Defaults to 'none'.

    Returns:
        dict: the evaluator's figures by name.

    Raises:
        ConfigError: a key of the config is at fault; the message names it.
    """
    with config_errors(cfg):
        prepare_launch(cfg, launcher)
        notes = check_data(cfg, ('test',))
        runner = Runner.from_cfg(cfg)
        for note in notes:
            runner.logger.warning(note)
        model = unwrapped(runner.model)
        load_detector(model, checkpoint, 'checkpoint')
        for hook in runner.hooks:
            if isinstance(hook, QuantizeHook):
                hook.load(model, checkpoint)
        classes = getattr(runner.test_dataloader.dataset, 'metainfo', {}).get('classes')
        check_data_origin(model, cfg, classes)
        return runner.test()
