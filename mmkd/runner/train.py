"""The training of a config: what is checked before it, and the hooks that each one has."""

from mmengine.config import Config

from mmkd.cache import draw_cached_views
from mmkd.config.config_errors import ConfigError, config_errors
from mmkd.config.pair_config import is_distillation
from mmkd.datasets.data_checks import check_data
from mmkd.distributed.unwrapped import unwrapped
from mmkd.rules.batched_targets import wants_batched_targets
from mmkd.rules.schedule import check_schedule
from mmkd.runner.exact_runner import ExactRunner
from mmkd.runner.kept_memory import keep_memory
from mmkd.runner.launch import prepare_launch
from mmkd.targets.batch_targets import batch_targets


def train(cfg: Config, launcher: str = 'none') -> None:
    """Train a pair, or a detector on its own.

    Args:
        cfg: config of the run with its ``work_dir``, changed in place.
        launcher: 'none', 'pytorch', 'slurm' or 'mpi'. Defaults to 'none'.

    Raises:
        ConfigError: a key of the config is at fault; the message names it.
    """
    with config_errors(cfg):
        hooks = dict(non_finite=dict(type='NonFiniteHook'))
        if is_distillation(cfg):
            hooks['pair_report'] = dict(type='PairReportHook')
            hooks['export_student'] = dict(type='ExportStudentHook')
        cfg.default_hooks = {**hooks, **(cfg.get('default_hooks') or {})}
        prepare_launch(cfg, launcher)
        kept = keep_memory()
        whole_batch = wants_batched_targets(cfg)
        notes = check_data(cfg, ('train', 'val')) + check_schedule(cfg)
        runner = ExactRunner.from_cfg(cfg)
        draw_cached_views(runner)
        for line in batch_targets(unwrapped(runner.model)) if whole_batch else ():
            runner.logger.info(line)
        if kept:
            runner.logger.info('What steps free is kept for the next: MALLOC_ variables change it')
        for note in notes:
            runner.logger.warning(note)
        runner.train()
    if runner.iter == 0:
        raise ConfigError(
            'train_cfg and train_dataloader must make at least one iteration, but there was none: '
            'is max_epochs or max_iters 0, or the data set smaller than a batch with drop_last?'
        )
