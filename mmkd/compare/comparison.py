"""The plan of a comparison: what is trained and evaluated, and the steps that do it."""

import os
from collections.abc import Mapping, Sequence
from logging import WARNING
from pathlib import Path
from typing import Any

from mmengine.config import Config
from mmengine.logging import print_log

from mmkd.algorithms.detection_distill import DetectionDistill
from mmkd.compare.arms import ARMS, USUAL_ARMS, Arm
from mmkd.compare.configs import (
    LONGER_CHECKPOINT,
    baseline,
    keep_last,
    last_checkpoint,
    read_pair,
    taught,
    teacher_training,
    text_of,
    with_model,
)
from mmkd.compare.detector import Detector
from mmkd.compare.job import mmkd_command, python
from mmkd.compare.pair_teachers import (
    check_no_weights,
    has_other_classes,
    is_apart,
    taught_from,
    write_out_models,
)
from mmkd.compare.rehearse import rehearse
from mmkd.compare.step import Step
from mmkd.config.scaled_schedule import TrainingLength
from mmkd.datasets.data_checks import annotation_files, check_data, check_fit
from mmkd.export.student_config import model_config
from mmkd.rules.batched_targets import wants_batched_targets
from mmkd.rules.schedule import check_schedule
from mmkd.teachers.lean_teacher import is_open

_PACKAGE = Path(__file__).resolve().parents[1]
_TEST_SECONDS = 10
#: What draws and runs comparisons; a change there trains nothing anew.
_NOT_TRAINING = ('compare/', 'visualization/', 'datasets/digits/')


class Comparison:
    """A pair's teacher, baseline, distilled student and control over seeds.

    Args:
        config (str | Path): The pair.
        work_dir (Path): Gets configs, logs, checkpoints and the report.
        seeds (Sequence[int]): Of the students; the first is that of a teacher to be trained, too.
        arms (Sequence[str]): Of ``ARMS``. Defaults to ``USUAL_ARMS``.
        teacher_ckpt (str, optional): The teacher's weights, a file or a URL. Defaults to those
            that the pair names, if they are there; else the teacher is trained.
        train_teacher (bool): Train it anyway. Defaults to False.
        options (Mapping, optional): Merged into the pair's config and, but for the model's, into
            that of the teacher. Defaults to None.
        val_interval (int, optional): Epochs between validations. Defaults to the config's own,
            but at least ten validations in all.
        epochs (int, optional): How many the students are trained; a teacher with a schedule of its
            own is trained longer or shorter by the same factor. Defaults to the config's own.

    Attributes:
        rescheduled: what ``epochs`` changes, a line each.

    Raises:
        ValueError: an unknown arm, or a config that cannot be compared.
        FileNotFoundError: ``teacher_ckpt`` is not there.
    """

    def __init__(
        self,
        config: str | Path,
        work_dir: Path,
        seeds: Sequence[int],
        arms: Sequence[str] = USUAL_ARMS,
        teacher_ckpt: str | None = None,
        train_teacher: bool = False,
        options: Mapping[str, Any] | None = None,
        val_interval: int | None = None,
        epochs: int | None = None,
    ) -> None:
        unknown = [arm for arm in arms if arm not in ARMS]
        if unknown or Arm.BASELINE not in arms:
            raise ValueError(
                f'arms must be baseline, against which all is measured, and any of '
                f'{", ".join(ARMS)}, but got {", ".join(arms)}. Correct --arms.'
            )
        if Arm.LONGER in arms and Arm.DISTILLED not in arms:
            raise ValueError(
                'arms with longer must have kd, too, as it trains for the time that kd took, but '
                f'got {", ".join(arms)}. Add kd to --arms.'
            )
        teacher_ckpt = teacher_ckpt and os.path.expanduser(teacher_ckpt)
        if teacher_ckpt and '://' not in teacher_ckpt and not Path(teacher_ckpt).is_file():
            raise FileNotFoundError(
                f'teacher_ckpt must be an existing file or a URL, but there is no file '
                f'"{teacher_ckpt}". Correct the path, or leave it out to have the teacher trained.'
            )
        self.name, self.work_dir = Path(config).stem, Path(work_dir)
        self.seeds = list(dict.fromkeys(seeds))
        options = dict(options or {})
        length = TrainingLength(epochs)
        self.pair = pair = read_pair(config, options, val_interval, length)
        given = teacher_ckpt or os.path.expanduser(pair.model.get('teacher_ckpt') or '')
        apart = is_apart(pair)  # there is no one network to train and to evaluate
        check_no_weights(pair, given, train_teacher)
        there = given and ('://' in given or Path(given).is_file())
        train_teacher = not apart and (train_teacher or not there)
        training = teacher_training(pair, options, length) if train_teacher else None
        self.rescheduled = length.lines
        write_out_models(pair)
        folder = self.work_dir / 'teacher'
        weights = str(given) if training is None else str(folder / last_checkpoint(training))
        self.taught_from = taught_from(pair, weights)
        #: The teacher, trained here or given; None where there is no one network.
        teacher = Detector(Arm.TEACHER, self.seeds[0], folder, weights, trained=train_teacher)
        self.teacher = None if apart else teacher
        self.detectors = [] if apart else [teacher]
        #: Config of each training.
        self.configs: dict[str, Config] = {}
        self.configs |= {} if training is None else {Arm.TEACHER: keep_last(training)}
        students = [arm for arm in Arm if arm in arms]
        #: The file with the teacher's form that all arms and seeds share, if it is to be chosen.
        self.form: Path | None = None
        fixed = apart or pair.model.get('teacher_cache')
        if is_open(pair.model.get('lean_teacher')) and not fixed:
            self.form = self.work_dir / 'lean_teacher.json'
        for arm in students:
            if arm is Arm.LONGER:
                continue  # a step writes it, when the others have been timed
            self.configs[arm] = (
                taught(pair, weights or None, self.form, shuffled=arm is Arm.SHUFFLED)
                if arm.is_taught
                else keep_last(baseline(pair))
            )
        for seed in self.seeds:
            for arm in students:
                folder = self.work_dir / f'{arm}_seed{seed}'
                last = last_checkpoint(self.configs[arm]) if arm in self.configs else None
                checkpoint = str(folder / (last or LONGER_CHECKPOINT))
                self.detectors.append(Detector(arm, seed, folder, checkpoint))
        #: The pair, by which its teacher is evaluated if it has other classes than the student.
        other = not apart and has_other_classes(pair, weights)
        self.mapped = taught(pair, weights) if other else None
        #: Config of each evaluation: one test set for all.
        known = {} if apart else dict(teacher=with_model(pair, model_config(pair.model.teacher)))
        self.tests = dict(**known, student=baseline(pair))

    def path(self, name: str) -> Path:
        """Where a config of the comparison lies."""
        return self.work_dir / f'configs/{name}.py'

    def write_configs(self) -> None:
        """Write the configs that the steps run."""
        self.path('x').parent.mkdir(parents=True, exist_ok=True)
        for name, config in self.configs.items():
            self.path(name).write_text(text_of(config))
        for name, config in self.tests.items():
            self.path(f'test_{name}').write_text(text_of(config))
        if self.mapped is not None:
            self.path('pair').write_text(text_of(self.mapped))

    def check_data(self) -> None:
        """Check each training and evaluation before anything runs; files of several once."""
        for config in self.configs.values():
            wants_batched_targets(config)
            check_schedule(config)
        checked: list[list[Any]] = []
        trained = [(config, ('train', 'val', 'test')) for config in self.configs.values()]
        tests = [t for name, t in self.tests.items() if name != 'teacher' or self.mapped is None]
        for config, phases in [*trained, *((test, ('test',)) for test in tests)]:
            data = [
                config.get(f'{phase}_{part}')
                for phase in phases
                for part in ('dataloader', 'evaluator')
            ]
            check = check_fit if data in checked else check_data
            checked += [data, data[-2:]]
            for note in check(config, phases):
                print_log(note, 'current', WARNING)

    def check_pair(self) -> DetectionDistill | None:
        """Build the pair once, without weights: what its rules refuse is told before hours pass.

        Returns:
            DetectionDistill: None where no arm is taught.

        Raises:
            ConfigError: it cannot be built; the key comes first.
        """
        taught_arms = [arm for arm in self.configs if Arm(arm).is_taught]
        if not taught_arms:
            return None
        config = Config(self.configs[taught_arms[0]].to_dict())
        named = self.mapped is not None and Path(config.model.teacher_ckpt).is_file()
        unread = ['student_ckpt', 'teacher_cache', 'init_cfg']
        unread += [] if named else ['teacher_ckpt']  # it may tell what its classes are called
        for key in [*unread, 'lean_teacher'] if self.form else unread:
            config.model.pop(key, None)
        return rehearse(config)

    def steps(self, inputs: Sequence[Path] = ()) -> list[Step]:
        """The job: training and evaluation of each detector; writes the configs.

        Args:
            inputs (Sequence[Path]): More files that every step depends on.
        """
        self.write_configs()
        code = [
            path
            for path in sorted(_PACKAGE.rglob('*.py'))
            if not path.relative_to(_PACKAGE).as_posix().startswith(_NOT_TRAINING)
        ]
        common = [*code, *inputs, *annotation_files(self.pair, ('train', 'test'))]
        # A step waits for those before it only. The first baseline tells what the teacher is worth.
        steps = [] if self.teacher is None else self._steps(self.teacher, common)
        students = [d for d in self.detectors if d is not self.teacher]
        for place, detector in enumerate(students):
            if place == 1 and self.teacher is not None:
                steps += self._choice(common)
            if detector.arm is Arm.LONGER and detector.seed == self.seeds[0]:
                steps.append(self._lengthening())
            steps += self._steps(detector, common)
        return steps

    def _lengthening(self) -> Step:
        """The step that finds how long plain training lasts in the time of distillation."""
        first = {d.arm: d for d in self.detectors if d.seed == self.seeds[0]}
        pair, out = [first[Arm.DISTILLED], first[Arm.BASELINE]], self.path(Arm.LONGER)
        config = self.path(Arm.BASELINE)
        folders = [detector.folder for detector in pair]
        return Step(
            'longer-length',
            'How long plain training may last',
            python('-m', 'mmkd.compare.lengthen', config, out, *folders),
            outputs=[out],
            inputs=[config, *(Path(detector.checkpoint) for detector in pair)],
        )

    def _choice(self, common: list[Path]) -> list[Step]:
        """The step that chooses the teacher's form, if some arm is taught by one that is open."""
        taught_arms = [arm for arm in self.configs if Arm(arm).is_taught]
        if self.form is None or not taught_arms:
            return []
        path = self.path(taught_arms[0])
        return [
            Step(
                'lean-teacher',
                "Choosing the teacher's form",
                python('-m', 'mmkd.runner.choose_teacher', path, self.form, self.seeds[0]),
                outputs=[self.form],
                inputs=[path, *common, *self.taught_from],
                seconds=20,
            )
        ]

    def _steps(self, detector: Detector, common: list[Path]) -> list[Step]:
        arm, seed, folder = detector.arm, detector.seed, detector.folder
        title = arm.heading + (f', seed {seed}' if len(self.seeds) > 1 else '')
        weights = [] if '://' in detector.checkpoint else [Path(detector.checkpoint)]
        steps = []
        if detector.trained:
            config = self.configs.get(arm, self.configs[Arm.BASELINE])
            inputs = [self.path(arm), *common]
            if arm.is_taught:
                inputs += [*self.taught_from, *([self.form] if self.form else [])]
            command = ['train', self.path(arm), '--work-dir', folder]
            steps.append(
                Step(
                    f'{folder.name}-train',
                    f'{title}: training',
                    mmkd_command(*command, '--cfg-options', f'randomness.seed={seed}'),
                    outputs=weights,
                    inputs=inputs,
                    seconds=arm.seconds,
                    epochs=config.train_cfg.get('max_epochs', 1),
                    resume=['--resume'],
                    scratch=[folder / 'last_checkpoint'],
                )
            )
        mapped = detector is self.teacher and self.mapped is not None
        config_path = self.path('pair' if mapped else f'test_{detector.test}')
        command = ['test', config_path, detector.checkpoint, *(['--teacher'] if mapped else [])]
        out = detector.predictions
        steps.append(
            Step(
                f'{folder.name}-test',
                f'{title}: evaluation',
                mmkd_command(*command, '--work-dir', folder / 'test', '--out', out),
                outputs=[out],
                inputs=[config_path, *common, *weights],
                seconds=_TEST_SECONDS,
            )
        )
        return steps
