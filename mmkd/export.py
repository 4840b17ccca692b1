"""The student on its own: an ordinary mmdet checkpoint with its config beside it."""

from collections.abc import Mapping
from inspect import signature
from pathlib import Path
from typing import Any

from mmengine.config import Config
from mmengine.hooks import EMAHook, Hook
from mmengine.registry import HOOKS, OPTIM_WRAPPERS, DefaultScope
from mmengine.runner import EpochBasedTrainLoop, Runner
from mmrazor.registry import HOOKS as RAZOR_HOOKS

from mmkd.algorithm import DetectionDistill, build_detector
from mmkd.checkpoint import load_detector, read_checkpoint, save_whole
from mmkd.config_keys import RUNNER_KEYS, dicts
from mmkd.state_keys import STUDENT_PREFIX, student_state_dict
from mmkd.whole import PARTIAL, write_whole


def is_distillation(config: Config) -> bool:
    """Whether a config's model is a distillation algorithm with a student inside."""
    return isinstance(config.get('model'), dict) and 'architecture' in config.model


def student_config(config: Config) -> Config:
    """The student's own config: that of the pair, with the student for its model.

    Everything else (data, schedule, evaluation) stays, so mmdet's own tools can test the student
    and go on training it. What belongs to the distillation, or to mmkd, does not: no type of mmkd
    is named.
    """
    config = Config(config.to_dict()) if hasattr(config, 'to_dict') else Config(dict(config))
    while is_distillation(config):
        pair = config.pop('model')
        for key in [key for key in config if key not in RUNNER_KEYS]:
            if key in _ARGUMENTS or _is_of_pair(config[key], pair):
                config.pop(key)
        student = pair.architecture
        config.model = Config.fromfile(student).model if isinstance(student, str) else student
    hooks = config.get('default_hooks') or {}
    for name in [name for name, hook in hooks.items() if _is_of_mmkd(hook)]:
        hooks.pop(name)
    if config.get('custom_hooks'):
        config.custom_hooks = [hook for hook in config.custom_hooks if not _is_of_mmkd(hook)]
    if _is_of_mmkd(config.get('optim_wrapper')):
        config.optim_wrapper.type = 'OptimWrapper'
    # DetInferencer and DetVisualizationHook draw with mmdet's own.
    if not config.get('visualizer'):
        backends = [dict(type='LocalVisBackend')]
        config.visualizer = dict(type='mmdet.DetLocalVisualizer', vis_backends=backends)
    # How the run was started, and where from, is of no concern to the student.
    for key in ('load_from', 'resume', 'launcher'):
        config.pop(key, None)
    if str(config.get('runner_type')).split('.')[-1] == 'ExactRunner':
        config.pop('runner_type')
    return config


#: A variable of a config that is named like one belongs to the distillation.
_ARGUMENTS = set(signature(DetectionDistill).parameters) - {'kwargs'}


def _is_of_pair(value: Any, pair: Mapping) -> bool:
    """Whether a pair is built from this variable: its student, or a dict inside its distiller."""
    if not isinstance(value, Mapping) or not value:
        return False
    inside = dicts([pair.get('distiller'), pair.get('balance')])
    return value == pair['architecture'] or any(
        all(key in node and node[key] == item for key, item in value.items()) for node in inside
    )


def _is_of_mmkd(part: Any) -> bool:
    """Whether a hook or an optimizer wrapper is what mmdet alone does not have."""
    kind = part.get('type') if isinstance(part, Mapping) else None
    if isinstance(kind, str):
        name = kind.split('.')[-1]
        found = [
            registry.module_dict.get(name) for registry in (HOOKS, OPTIM_WRAPPERS, RAZOR_HOOKS)
        ]
        return any(map(_comes_from_here, found))
    return _comes_from_here(kind)


def _comes_from_here(kind: Any) -> bool:
    return getattr(kind, '__module__', '').split('.')[0] in ('mmkd', 'mmrazor')


def export_student(
    checkpoint: str, config: Config, out: str | Path, overwrite: bool = False
) -> Path:
    """Write the student of a distillation checkpoint as an ordinary mmdet checkpoint.

    Beside ``out`` (``NAME.pth``) the student's config is written as ``NAME.py``.

    Args:
        checkpoint: what a distillation run saved.
        config: the config of that run.
        out: the file to write; it appears whole or not at all.
        overwrite: whether ``out`` may exist. Defaults to False.

    Raises:
        ValueError: ``checkpoint`` holds no student, or ``out`` is no name for one.
        FileExistsError: ``out`` or its config exists.
    """
    out = Path(out)
    beside = out.with_suffix('.py')
    _check_name(out)
    for path in (out, beside):
        if path.exists() and not overwrite:
            raise FileExistsError(
                f'the exported student must not replace a file, but {path} exists. '
                'Name another file, or allow it (--force).'
            )
    loaded = read_checkpoint(checkpoint, 'the checkpoint to export')
    weights = loaded['state_dict']
    if not any(key.removeprefix('module.').startswith(STUDENT_PREFIX) for key in weights):
        raise ValueError(
            f'the checkpoint to export must come from a distillation run, but no key of '
            f'"{checkpoint}" starts with "{STUDENT_PREFIX}". A plain checkpoint needs no export.'
        )
    _write_student(loaded, config, out)
    return out


def _check_name(out: Path) -> None:
    if out.suffix not in ('.pth', '.pt'):
        raise ValueError(f'the exported student must be named NAME.pth, but got "{out}".')


def _write_student(loaded: Mapping, config: Config, out: Path) -> None:
    text = student_config(config).pretty_text  # it takes a second
    meta = {**loaded.get('meta', {}), 'cfg': text}
    save_whole({'state_dict': student_state_dict(loaded['state_dict']), 'meta': meta}, out)
    write_whole(out.with_suffix('.py'), text.encode())


def check_student(checkpoint: str, config: Config) -> None:
    """Check that a distillation checkpoint holds the student of a config, before it is exported.

    Raises:
        FileNotFoundError, ValueError: its keys are others, or mean something else there.
    """
    own = student_config(config)
    with DefaultScope.overwrite_default_scope(own.get('default_scope', 'mmdet')):
        student = build_detector(own.model, 'the student')
    load_detector(student, checkpoint, 'the checkpoint to export')


@HOOKS.register_module()
class ExportStudentHook(Hook):
    """Write the student to the work directory, with the weights that it has when training ends.

    They are what a checkpoint would hold then, so the average where an ``EMAHook`` keeps one.
    Neither the interval of checkpoints nor an early stop matters. A detector that is trained on
    its own is written as it is.

    Args:
        filename (str): name of the checkpoint; the config gets the same name with ``.py``.
            Defaults to 'student.pth'.

    Raises:
        ValueError, IsADirectoryError: ``filename`` is no name for a checkpoint, or of a folder.
    """

    # After CheckpointHook (VERY_LOW), whose checkpoints are whole if there is no room for this one.
    priority = 'LOWEST'

    def __init__(self, filename: str = 'student.pth') -> None:
        _check_name(Path(filename))
        self.filename = filename

    def before_run(self, runner: Runner) -> None:
        """Look whether the files can be written at the end."""
        out = Path(runner.work_dir, self.filename)
        for path in (out, out.with_suffix('.py')):
            if path.is_dir():
                raise IsADirectoryError(
                    f'the student is to be written to "{path}", but there is a folder of that '
                    'name. Move it, or give ExportStudentHook another filename.'
                )

    def before_train(self, runner: Runner) -> None:
        """Say that an earlier student will be replaced."""
        out = Path(runner.work_dir, self.filename)
        if runner.rank == 0 and runner.iter == 0 and out.exists():
            runner.logger.warning(
                f'{out} is of an earlier run: it stays as it is until this one ends, which '
                'replaces it. To keep it, move it or give this run another --work-dir.'
            )

    def after_train(self, runner: Runner) -> None:
        """Export on the first rank."""
        if runner.rank != 0:
            return
        out = Path(runner.work_dir, self.filename)
        now = out.with_name(f'.{out.name}{PARTIAL}')
        try:
            runner.save_checkpoint(
                str(now.parent),
                now.name,
                save_optimizer=False,
                save_param_scheduler=False,
                meta=dict(epoch=runner.epoch, iter=runner.iter),
            )
            _write_student(read_checkpoint(str(now), 'the state to export'), runner.cfg, out)
        finally:
            now.unlink(missing_ok=True)
        runner.logger.info(f'The student alone, for mmdet: {out} with {out.stem}.py: {_of(runner)}')


def _of(runner: Runner) -> str:
    """Which weights those of the end of training are, and where others are."""
    loop: Any = runner.train_loop
    if isinstance(loop, EpochBasedTrainLoop):
        when = f'epoch {loop.epoch} of {loop.max_epochs}'
    else:
        when = f'iteration {loop.iter} of {loop.max_iters}'
    stopped = ', where it was stopped early' if getattr(loop, 'stop_training', False) else ''
    averaged = any(isinstance(hook, EMAHook) for hook in runner.hooks)
    text = f'the {"averaged " if averaged else ""}weights at the end of training, {when}{stopped}'
    best = [
        str(path)
        for hook in runner.hooks
        for path in (
            getattr(hook, 'best_ckpt_path', None),
            *getattr(hook, 'best_ckpt_path_dict', {}).values(),
        )
        if path
    ]
    if best:
        text += f'. The best so far, {", ".join(best)}, is exported by tools/export_student.py'
    return text
