"""``DetectionDistill``: a detector taught by a detector."""

from collections.abc import Mapping, Sequence
from contextlib import nullcontext
from typing import Any

import torch
from mmengine.model import BaseModel
from mmrazor.models.algorithms import SingleTeacherDistill
from mmrazor.registry import MODELS
from torch import Tensor

from mmkd.algorithms.build_detector import Detector, build_detector
from mmkd.algorithms.class_names import check_origins
from mmkd.algorithms.distill_terms import (
    active_losses,
    distill_terms,
    joint_factors,
    let_overwrite,
)
from mmkd.algorithms.gradient_balance import GradientBalance, check_balanced
from mmkd.algorithms.labelled_loss import LabelledLoss, copied, tell_bare, warn_of_left_out
from mmkd.algorithms.loss_watch import LossWatch
from mmkd.algorithms.missed_objects import MissedObjects
from mmkd.algorithms.student_terms import StudentTerms
from mmkd.algorithms.teachers import Teachers, build_teachers
from mmkd.algorithms.term_statistics import statistics_of
from mmkd.checkpoints.detector_checkpoint import load_detector
from mmkd.checkpoints.state_keys import name_the_students
from mmkd.losses.log_keys import DISTILL, STUDENT
from mmkd.quantization import Quantize, quantize_again
from mmkd.quantization import quantize as put_quantizers
from mmkd.teachers.crop import crop_records
from mmkd.teachers.frozen_teacher import FrozenTeacher
from mmkd.teachers.lean_teacher import is_open, plain_records
from mmkd.teachers.several import SeveralModels
from mmkd.teachers.teacher_list import read_teachers


@MODELS.register_module()
class DetectionDistill(SingleTeacherDistill):
    """Train a student detector on its own losses and on what a frozen teacher shows it.

    Recorders, connectors, deliveries, ``loss_forward_mappings`` and losses work as in MMRazor's
    :class:`SingleTeacherDistill`. Beyond it: the teacher is wholly in eval, without grad, behind
    its own preprocessing, and runs only the forward that the recorders need; it is in no
    checkpoint, EMA copy, DDP wrapper or ``parameters()``; weights load strictly; each term is
    logged; prediction is the student's alone. An attribute that the algorithm lacks (``bbox_head``,
    ``set_epoch``) is the student's, so that hooks for detectors work.

    Log keys are those of :mod:`mmkd.losses.log_keys`: ``student.<term>`` for the student's own
    losses, ``distill.<name>`` for each distillation loss, and ``distill.<name>_<part>`` for what a
    loss reports in its ``logs``: parts and statistics, not back-propagated. A loss at weight 0
    (:class:`DistillWeightHook`, its ``loss_weight``, MMRazor's ``StopDistillHook``) is not
    computed; with all at 0 the teacher is not run.

    Args:
        architecture (dict | str | BaseModel): the student: a model config, the path of a config
            file (its ``model`` is built) or a built detector.
        teacher (dict | str | BaseModel | list): the teacher, likewise; a file of detections, a dict
            with ``results``, ``onnx`` or ``function``; or several, as dicts for
            :class:`mmkd.teachers.teacher_list.TeacherEntry` (docs/any_teacher.md).
        distiller (dict): config of an MMRazor distiller. What it leaves out and the two models tell
            (classes, priors, coders, channels) is taken from them: :func:`mmkd.binding.bind`.
        teacher_ckpt (str, optional): the teacher's plain mmdet checkpoint, path or URL. Without
            it the teacher is untrained, which is good for tests only. Defaults to None.
        teacher_ckpt_strict (bool): whether each key must fit. Defaults to True.
        class_map (dict, optional): by name of a teacher's class the student's class that it is, or
            None, where the names differ: ``dict(car='vehicle', truck='vehicle')``; see
            docs/any_teacher.md. Defaults to None.
        classes (list[str], optional): names of the student's classes, in order. Defaults to None:
            "mmkd train" and the other commands take those of the data.
        student_ckpt (str, optional): what the student starts from, in plain mmdet layout.
            Defaults to None, the student's own ``init_cfg``.
        student_ckpt_strict (bool): whether each key must fit. Defaults to True.
        student_loss_weights (dict, optional): factors of the student's own terms by name, for
            example ``dict(loss_cls=0.7)``. Terms that are not named count once. Defaults to None.
        balance (dict, optional): arguments of
            :class:`mmkd.algorithms.gradient_balance.GradientBalance`, which keeps the gradient of
            each term at a set share of the task's, for example
            ``dict(shares=0.5)``. Defaults to None: the terms weigh what their ``loss_weight`` says.
        lean_teacher (dict | str, optional): arguments of
            :class:`mmkd.teachers.lean_teacher.LeanTeacher`: BatchNorm folded,
            channels last, reduced precision, compiled; a ``.json`` file with them; or 'auto':
            :class:`mmkd.hooks.LeanTeacherHook` takes the fastest that teaches the same.
        shuffle_teacher (bool): the control: the teacher looks at another image of the batch than
            the student, so that what is gained is not what the teacher sees. Defaults to False.
        teacher_cache (str | dict, optional): folder of a cache that ``mmkd cache`` filled, in the
            place of the running teacher, or ``dict(folder=..., codecs=...)``: docs/cache.md.
        unlabelled (dict | str, optional): images without annotations, which the teacher's terms
            see and the student's own loss does not (docs/any_teacher.md). Defaults to None.
        missed_objects (dict | float, optional): arguments of
            :class:`mmkd.algorithms.missed_objects.MissedObjects`. Defaults to None.
        quantize (dict, optional): arguments of :class:`mmkd.quantization.Quantize`: the student
            learns to compute in eight bits, and is exported with the ranges that it has learned.
            Defaults to None, in float.
        kwargs: as for :class:`SingleTeacherDistill`: ``data_preprocessor``,
            ``calculate_student_loss``, ``init_cfg``...

    Raises:
        FileNotFoundError, ValueError, TypeError: a checkpoint that is missing or does not fit, a
            recorder source that does not exist, a mapping that the loss's forward does not take,
            classes, priors or coders that differ where a loss needs them equal, a loss that would
            teach something else than meant by what it is fed (:mod:`mmkd.rules.loss_rules`, and
            in a step :mod:`mmkd.algorithms.loss_watch`).
    """

    def __init__(
        self,
        architecture: Detector,
        teacher: Detector | Sequence[Mapping[str, Any]],
        distiller: dict[str, Any],
        teacher_ckpt: str | None = None,
        teacher_ckpt_strict: bool = True,
        student_ckpt: str | None = None,
        student_ckpt_strict: bool = True,
        student_loss_weights: Mapping[str, float] | None = None,
        balance: Mapping[str, Any] | None = None,
        lean_teacher: Mapping[str, Any] | str | None = None,
        shuffle_teacher: bool = False,
        teacher_cache: str | Mapping[str, Any] | None = None,
        class_map: Mapping[str, str | None] | None = None,
        classes: Sequence[str] | None = None,
        unlabelled: Mapping[str, Any] | str | None = None,
        missed_objects: Mapping[str, Any] | float | None = None,
        quantize: Mapping[str, Any] | None = None,
        **kwargs: Any,
    ) -> None:
        if kwargs.get('teacher_trainable'):
            raise ValueError(
                'the teacher of DetectionDistill is frozen, but teacher_trainable=True was given. '
                "Use MMRazor's SingleTeacherDistill to train both."
            )
        quantized = Quantize.of(quantize)
        student_model = build_detector(architecture, 'architecture')
        # The student starts from the weights of its baseline, with the same seed.
        with torch.random.fork_rng(devices=[]):
            entries = read_teachers(teacher, teacher_ckpt, teacher_ckpt_strict, class_map)
            taught = build_teachers(entries, student_model, classes, class_map)
            teachers = Teachers(taught, student_model, distiller)
            models = dict(architecture=student_model, teacher=teachers.model)
            super().__init__(distiller=teachers.distiller, **models, **kwargs)
            teachers.check(self.distiller, self.student)
            teachers.fill_untrained()
        #: By teacher which of its classes is which of the student's; None where they are the same.
        self.class_maps = teachers.maps
        self.class_names = {one.entry.name: one.names for one in teachers.taught}
        #: Factors of the losses of one of several teachers.
        self.teacher_factors = teachers.factors
        #: What fills the teacher's recorders for a batch.
        self.teacher_source = teachers.source(
            self.distiller,
            self.student,
            self.data_preprocessor,
            lean_teacher,
            shuffle_teacher,
            teacher_cache,
        )
        #: Whether the run is to choose the teacher's form.
        self.lean_teacher_is_open = is_open(lean_teacher) and teachers.may_be_lean(teacher_cache)
        missed = MissedObjects.of(missed_objects, self.student, self.distiller)
        self.labelled_loss = LabelledLoss.of(self.data_preprocessor, unlabelled, missed)
        warn_of_left_out(unlabelled, self.distiller, self.student)
        let_overwrite(self.distiller)
        self.loss_watch = LossWatch(self.distiller, teachers.distiller)
        self.student_terms = StudentTerms(student_loss_weights)
        self.balance: GradientBalance | None = None
        if balance is not None:
            check_balanced(self.calculate_student_loss)
            shares = teachers.balanced(balance)
            self.balance = GradientBalance(self.distiller.distill_losses, **shares)
        self.distill_factors: dict[str, float] = {}  # of DistillWeightHook, this iteration's
        if student_ckpt:
            load_detector(self.student, student_ckpt, 'student_ckpt', student_ckpt_strict)
            self.student.is_init = True  # or the runner's init_weights would undo it
        self.quantize = quantized
        if quantized is not None:
            put_quantizers(self.student, quantized)

    @property
    def teacher(self) -> BaseModel:
        """The frozen teacher."""
        return self.teacher_source.model

    @property
    def teachers(self) -> dict[str, BaseModel]:
        """The frozen teachers by name, a single one as 'teacher'."""
        model = self.teacher
        if isinstance(model, SeveralModels):
            return dict(model.models.items())
        return dict.fromkeys(self.class_maps, model)

    def check_data_origin(self, config: Mapping[str, Any], classes: Sequence[str] | None) -> None:
        """Compare the data that the models' files were trained on with that of a run.

        Args:
            config: of the run.
            classes: names of the data set's classes, in order.

        Raises:
            ValueError: a teacher scores the classes in another order, and its scores are taught;
                ``classes`` of the config are not those of the data.
        """
        check_origins(self, config, classes)

    def __setattr__(self, name: str, value: Any) -> None:
        # SingleTeacherDistill would make the teacher a submodule: keep it out of the module tree.
        if name == 'teacher':
            object.__setattr__(self, 'teacher_source', FrozenTeacher(value))
        else:
            super().__setattr__(name, value)

    def __getattr__(self, name: str) -> Any:
        # What works on a plain detector works on its pair: hooks and the like that reach into
        # ``runner.model.bbox_head``, or call ``runner.model.set_epoch``, mean the student.
        try:
            return super().__getattr__(name)
        except AttributeError:
            student = self.__dict__.get('_modules', {}).get('architecture')
            if student is None or name.startswith('_') or not hasattr(student, name):
                raise
        return getattr(student, name)

    def _apply(self, fn: Any, *args: Any, **kwargs: Any) -> 'DetectionDistill':
        self.teacher._apply(fn, *args, **kwargs)  # to(device) and the like must reach it
        return super()._apply(fn, *args, **kwargs)

    def train(self, mode: bool = True) -> 'DetectionDistill':
        """Set the student's mode. The teacher stays in eval."""
        super().train(mode)
        if self.__dict__.get('quantize') is not None:
            quantize_again(self.student, self.quantize)
        return self

    def loss(self, batch_inputs: Tensor, data_samples: Any = None) -> dict[str, Tensor]:
        """The student's own terms and the distillation terms of a batch.

        Args:
            batch_inputs: the student's normalised batch (B, C, H, W).
            data_samples: a list of ``DetDataSample``, or MMYOLO's fast-collate dict.
        """
        distiller = self.distiller
        losses: dict[str, Tensor] = {}
        stopped = self.distillation_stopped
        active = [] if stopped else active_losses(distiller, self.distill_factors)
        if active:
            distiller.set_deliveries_override(False)
            with distiller.teacher_recorders, distiller.deliveries:
                self.teacher_source(batch_inputs, data_samples)
            if self.teacher_source.parts:  # a cache's are laid out as read
                plain_records(distiller.teacher_recorders)

        distiller.set_deliveries_override(bool(active))
        with torch.set_grad_enabled(torch.is_grad_enabled() and self.student_trainable):
            student_losses = self._student_losses(batch_inputs, data_samples, bool(active))
        plain_records(distiller.student_recorders)
        for owner, divisor in self.teacher_source.crops if active else ():
            recorders = distiller.teacher_recorders
            seen = recorders if owner is None else recorders.of(owner)
            crop_records(seen, distiller.student_recorders, batch_inputs.shape[-2:], divisor)
        if self.calculate_student_loss:
            weighted = self.student_terms(self.student, student_losses)
            losses.update({f'{STUDENT}{name}': value for name, value in weighted.items()})

        factors = joint_factors(self.teacher_factors, self.distill_factors)
        terms = distill_terms(distiller, factors, active, batch_inputs, self.loss_watch)
        if self.balance is not None and active:
            weights = [p for p in self.student.parameters() if p.requires_grad]
            taught = {name: terms[name] for name in active}
            terms.update(self.balance(losses, taught, factors, weights))
        found = {**terms, **statistics_of(distiller, active, factors, self.balance)}
        losses.update({f'{DISTILL}{name}': value for name, value in found.items()})
        self._release_records()
        return losses

    def _student_losses(self, inputs: Tensor, samples: Any, recorded: bool) -> dict[str, Any]:
        """The student's own terms, while it is recorded."""
        own = self.labelled_loss
        if own is None or recorded:
            with (
                self.distiller.student_recorders,
                self.distiller.deliveries,
                nullcontext() if own is None else own.watch(self.student),
            ):
                seen = samples if own is None else copied(samples)
                losses = self.student(inputs, seen, mode='loss')
            tell_bare(self.distiller, own)
        return losses if own is None else own(self.student, inputs, samples)

    def _release_records(self) -> None:
        # Records hold the graph: kept until the next step they would double the memory.
        for manager in (self.distiller.teacher_recorders, self.distiller.student_recorders):
            for recorder in manager.recorders.values():
                recorder.reset_data_buffer()

    def _load_from_state_dict(
        self, state_dict: dict[str, Tensor], prefix: str, *args: Any, **kwargs: Any
    ) -> None:
        name_the_students(state_dict, self.student, prefix)
        super()._load_from_state_dict(state_dict, prefix, *args, **kwargs)
