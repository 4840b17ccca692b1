"""All checks of a pair, in order."""

import contextlib
import tempfile
import time
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

from mmengine.config import Config
from mmengine.runner import Runner

from mmkd.algorithms.build_teacher import begin_teaching
from mmkd.algorithms.detection_distill import DetectionDistill
from mmkd.datasets.data_checks import check_data, name_classes
from mmkd.datasets.data_samples import ground_truth
from mmkd.datasets.mixed_batches import mixed_loader
from mmkd.doctor import check_priors, models, step
from mmkd.doctor.check_accuracy import check_accuracy
from mmkd.doctor.check_layers import LAYER_COLUMNS, SharedNorms, check_layers
from mmkd.doctor.check_pictures import check_pictures
from mmkd.doctor.check_strides import Strides
from mmkd.doctor.check_time import check_time
from mmkd.doctor.report import Report, Section, finding_of
from mmkd.rules.batched_targets import wants_batched_targets
from mmkd.rules.schedule import check_schedule
from mmkd.rules.warm_up import long_warm_ups

#: Told the part that is examined, how much of it is done, and of how much.
Progress = Callable[[str, int, int], None]


def examine(
    cfg: Config,
    images: int = 64,
    show_dir: str | Path | None = None,
    progress: Progress = lambda part, done, total: None,
) -> Report:
    """Examine a pair before it is trained.

    Args:
        cfg: config of the pair; it is not changed.
        images: on how many validation images mAP is measured; 0 leaves it out.
        show_dir: where pictures of a few training images go. Defaults to None, no pictures.
        progress: see ``Progress``.
    """
    report = Report(str(cfg.filename))
    start = time.monotonic()
    with tempfile.TemporaryDirectory() as folder:
        _examine(cfg, images, show_dir, progress, report, folder)
    report.seconds = time.monotonic() - start
    return report


def _examine(
    cfg: Config,
    images: int,
    show_dir: str | Path | None,
    progress: Progress,
    report: Report,
    folder: str,
) -> None:
    @contextlib.contextmanager
    def part(title: str, *columns: str) -> Any:
        progress(title, 0, 1)
        with report.section(title, *columns) as section:
            yield section
        progress(title, 1, 1)

    with part('Build', 'data set', 'images', 'classes') as section:
        section.notes += check_data(cfg, ('train', 'val'))
        runner, pair, untaught = build_without(cfg, folder)
        batch, dataset, per_epoch = training_batch(section, cfg, runner)
    if section.findings:
        section.notes.append('What needs the built pair is left out.')
        return
    if untaught is not None:
        section.findings.append(finding_of(untaught))
        section.notes.append('All else is looked at with an untrained teacher.')
    for found in long_warm_ups(cfg, per_epoch):
        said, _, change = found.partition('. ')
        section.warn(f'{said}.', change)
    classes = dataset.metainfo.get('classes')
    with part('Weights', 'model', 'file', 'keys loaded', 'of', 'share') as section:
        models.check_weights(section, pair, runner.cfg, classes, told=untaught is not None)
    with part('Preprocessing', 'setting', 'student', 'teacher') as section:
        models.check_preprocessing(section, pair)
    with part('Models', 'part', 'student', 'teacher', 'equal') as section:
        models.check_heads(section, pair)
    if models.paired_classes(pair, classes):
        with part('Classes', 'class', 'taught by') as section:
            models.check_classes(section, pair, classes)
    with part('Priors against objects', *check_priors.COLUMNS) as section:
        check_priors.check_priors(section, pair.student, dataset, classes)
    title, teaches = 'mAP on validation images', True
    with part(title, 'model', 'input', 'mAP', 'images') as section:
        teaches = check_accuracy(
            section, pair, runner, images, lambda done, total: progress(title, done, total)
        )
    norms, strides = SharedNorms(), Strides()
    with contextlib.ExitStack() as watched:
        for side, model in (('student', pair.student), ('teacher', pair.teacher)):
            watched.enter_context(norms.watch(side, model))
            watched.enter_context(strides.watch(side, model))
        taken = step.take_step(pair, batch)
    with part('Layers', *LAYER_COLUMNS) as section:
        check_layers(section, pair.student)
        norms.tell(section)
        strides.tell(section)
    with part('Records', 'recorder', 'model', 'shapes') as section:
        step.check_records(section, taken)
    columns = ('loss', 'argument', 'model', 'recorder', 'connector', 'shapes')
    with part('Mappings', *columns) as section:
        step.check_mappings(section, pair, taken)
    if taken.error is not None:
        return
    with part('Losses', 'term', 'value', 'gradient', 'ratio to task', 'loss_weight') as section:
        step.check_losses(section, pair, taken, teaches)
    with part('Statistics', 'statistic', 'value', 'meaning') as section:
        step.check_statistics(section, pair, taken, teaches)
    with part('Parameters', 'of the student and connectors', 'count') as section:
        step.check_parameters(section, pair, taken, runner.cfg)
    if show_dir is not None:
        with part('Pictures', 'file', 'shows') as section:
            check_pictures(section, pair, taken, show_dir)
    del taken  # and with it the graph
    with part('Time of a step', 'part', 'seconds', 'share') as section:
        check_time(section, pair, batch)


def build_without(cfg: Config, folder: str) -> tuple[Runner, DetectionDistill, Exception | None]:
    """As :func:`build`; without the teacher's weights where these are what stops it.

    Returns:
        tuple: the runner, the pair, and why the teacher has no weights, if that is so.
    """
    try:
        return (*build(cfg, folder), None)
    except Exception as error:
        if not (cfg.get('model') or {}).get('teacher_ckpt'):
            raise
        bare = Config(cfg.to_dict(), filename=cfg.filename)
        bare.model.teacher_ckpt = None
        try:
            return (*build(bare, folder), error)
        except Exception:
            raise error from None


def build(cfg: Config, folder: str) -> tuple[Runner, DetectionDistill]:
    """The pair as a training would start it, with a runner that writes into ``folder`` only.

    Raises:
        FileNotFoundError, ValueError, TypeError: what the checks before a run refuse; a config
            that is no distillation pair.
    """
    if cfg.get('model', {}).get('type') is None or 'distiller' not in cfg.model:
        raise ValueError(
            'the config must be a distillation pair, whose model has a teacher, an architecture '
            f'and a distiller, but its model has {", ".join(cfg.get("model", {}))}. Give the '
            'config of the pair, not that of the student or the teacher.'
        )
    wants_batched_targets(cfg)
    check_schedule(cfg)
    cfg = Config(cfg.to_dict(), filename=cfg.filename)
    cfg.work_dir, cfg.log_level, cfg.launcher = folder, 'ERROR', 'none'
    cfg.experiment_name = f'check_pair_{time.time_ns()}'
    cfg.randomness = {'seed': 0, **cfg.get('randomness', {})}  # a second report says the same
    cfg.visualizer = cfg.default_hooks = cfg.custom_hooks = None
    cfg.model.pop('teacher_cache', None)  # the teacher itself is examined
    name_classes(cfg)
    runner = Runner.from_cfg(cfg)
    pair = runner.model
    if not isinstance(pair, DetectionDistill):
        raise ValueError(
            f'model.type must be DetectionDistill, but got {type(pair).__name__}. Its arguments '
            "are those of MMRazor's SingleTeacherDistill."
        )
    runner._init_model_weights()
    runner.load_or_resume()
    for name in ('epoch', 'iter'):  # some heads and preprocessors ask for them in each step
        runner.message_hub.update_info(name, 0)
    return runner, pair


def training_batch(
    section: Section, cfg: Config, runner: Runner
) -> tuple[Mapping[str, Any], Any, int]:
    """The first collated training batch with an object in it, the data set, batches in an epoch.

    Raises:
        ValueError: none of the first batches has an object.
    """
    loading = {**mixed_loader(cfg), 'num_workers': 0, 'persistent_workers': False}
    loading.pop('prefetch_factor', None)
    loader = Runner.build_dataloader(loading, seed=runner.seed)
    section.notes += begin_teaching(runner.model, loader)
    dataset: Any = loader.dataset
    classes = dataset.metainfo.get('classes')
    section.rows.append(['training', len(dataset), len(classes) if classes else None])
    count = 8
    for _, batch in zip(range(count), loader, strict=False):
        if len(ground_truth(batch['data_samples'])[0]):
            return batch, dataset, len(loader)
    raise ValueError(
        f'a training batch must have objects, but the first {count} have none. Compare '
        'metainfo.classes and ann_file with the annotations.'
    )
