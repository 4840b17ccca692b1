"""The evaluation of a detector: what is checked before it, and whose weights it has."""

from typing import Any

from mmengine.config import Config

from mmkd.checkpoints.data_origin import check_data_origin
from mmkd.checkpoints.detector_checkpoint import load_detector
from mmkd.config.config_errors import config_errors
from mmkd.datasets.data_checks import check_data
from mmkd.distributed.unwrapped import unwrapped
from mmkd.doctor.check_accuracy import with_own_classes
from mmkd.hooks.quantize_hook import QuantizeHook
from mmkd.runner.detections_on_data import DetectionsOnData
from mmkd.runner.launch import prepare_launch
from mmkd.runner.short_console import ShortRunner
from mmkd.runner.teacher_on_data import Classes


def evaluate(
    cfg: Config, checkpoint: str, launcher: str = 'none', classes: Classes | None = None
) -> dict[str, Any]:
    """Evaluate a detector with the weights of a checkpoint.

    Args:
        cfg: config of the detector with its ``work_dir``, changed in place; of a pair it is what
            :func:`mmkd.export.student_config.student_config` makes of it.
        checkpoint: a file or a URL; not looked at of a teacher that is known by its detections.
        launcher: 'none', 'pytorch', 'slurm' or 'mpi'. Defaults to 'none'.
        classes: of a detector with its weights which of its classes are which of the data.
            Defaults to None, they are those of the data.

    Returns:
        dict: the evaluator's figures by name.

    Raises:
        ConfigError: a key of the config is at fault; the message names it.
    """
    with config_errors(cfg):
        prepare_launch(cfg, launcher)
        own = {key: value for key, value in cfg.items() if key != 'model'}
        notes = check_data(cfg if classes is None else Config(own), ('test',))
        runner = ShortRunner.from_cfg(cfg)
        for note in notes:
            runner.logger.warning(note)
        model = unwrapped(runner.model)
        if isinstance(model, DetectionsOnData):
            trained = (cfg.get('train_dataloader') or {}).get('dataset')
            for line in model.begin(runner.test_dataloader.dataset, trained):
                runner.logger.info(line)
            return runner.test()
        load_detector(model, checkpoint, 'the checkpoint')  # no key: not default_hooks.checkpoint
        for hook in runner.hooks:
            if isinstance(hook, QuantizeHook):
                hook.load(model, checkpoint)
        named = getattr(runner.test_dataloader.dataset, 'metainfo', {}).get('classes')
        found = None if classes is None else classes(model)
        check_data_origin(model, cfg, named if found is None else None)
        if found is not None:
            model.register_forward_hook(lambda _, __, samples: with_own_classes(samples, found))
        return runner.test()
