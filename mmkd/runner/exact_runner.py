"""The runner whose runs can be stopped anywhere and go on exactly."""

from collections.abc import Mapping
from typing import Any

from mmengine.config import Config
from mmengine.registry import RUNNERS
from mmengine.runner import EpochBasedTrainLoop, Runner
from torch.utils.data import BatchSampler

from mmkd.algorithms.build_teacher import begin_teaching
from mmkd.datasets.data_checks import name_classes
from mmkd.datasets.mixed_batches import mixed_loader
from mmkd.datasets.seeding import SeededSampler
from mmkd.distributed.unwrapped import unwrapped
from mmkd.hooks.data_report_hook import DataReportHook
from mmkd.hooks.early_end_hook import EarlyEndHook
from mmkd.hooks.exact_resume_hook import ExactResumeHook
from mmkd.hooks.interrupted_validation_hook import InterruptedValidationHook
from mmkd.hooks.lean_teacher_hook import LeanTeacherHook
from mmkd.hooks.new_loader_hook import NewLoaderHook, seeded
from mmkd.hooks.progress_bar_hook import ProgressBarHook
from mmkd.hooks.start_checks_hook import StartChecksHook
from mmkd.runner.shared_images import note_measured_images, note_shared_images
from mmkd.runner.short_console import ShortRunner


@RUNNERS.register_module()
class ExactRunner(ShortRunner):
    """mmengine's runner, whose runs end with the same weights however often they were stopped.

    What is drawn at random for an image follows from (seed, epoch, image), what is drawn in an
    iteration from (seed, iteration); everything else is in the checkpoint.
    """

    @classmethod
    def from_cfg(cls, cfg: Config) -> Runner:
        """Build the runner of a config.

        A pair is told what the classes of its data are called, and may name images without
        annotations.
        """
        name_classes(cfg)
        model = cfg.get('model')
        named = isinstance(model, Mapping) and model.get('unlabelled') not in (None, False)
        mixed = mixed_loader(cfg) if named else None
        runner = super().from_cfg(cfg)
        if mixed is not None:
            runner._train_dataloader = mixed
        return runner

    def build_train_loop(self, loop: Any) -> Any:
        """Build the loop on a data loader whose randomness follows from the seed."""
        loader: Any = self._train_dataloader  # type: ignore[has-type]
        configs = (loop, loader, loader.get('sampler') if isinstance(loader, Mapping) else None)
        if all(isinstance(config, Mapping) for config in configs) and 'dataset' in loader:
            self._train_dataloader = seeded(loader, loader['dataset'], self.seed)
        built = super().build_train_loop(loop)
        loader = getattr(built, 'dataloader', None)
        told = begin_teaching(unwrapped(self.model), loader)
        dataset = getattr(loader, 'dataset', None)
        for line in [*told, *note_shared_images(dataset)]:
            self.logger.info(line)
        for line in filter(None, [note_measured_images(dataset, self.cfg)]):
            self.logger.warning(line)
        return built

    def register_hooks(self, *args: Any, **kwargs: Any) -> None:
        """Register the config's hooks, those that make a resume exact, and a terminal's line."""
        super().register_hooks(*args, **kwargs)
        self.register_hook(ProgressBarHook())
        self.register_hook(ExactResumeHook())
        self.register_hook(InterruptedValidationHook())
        self.register_hook(EarlyEndHook())
        self.register_hook(NewLoaderHook())
        self.register_hook(StartChecksHook())
        self.register_hook(DataReportHook())
        self.register_hook(LeanTeacherHook())

    def resume(self, *args: Any, **kwargs: Any) -> None:
        """Go on from a checkpoint, also from within an epoch."""
        super().resume(*args, **kwargs)
        if not isinstance(self.train_loop, EpochBasedTrainLoop):
            return
        loader = self.train_dataloader
        done = self.iter - self.epoch * len(loader)
        if done == 0:
            return
        plain = type(loader.batch_sampler) is BatchSampler
        if 0 < done <= len(loader) and plain and isinstance(loader.sampler, SeededSampler):
            loader.sampler.start_at(done * loader.batch_size)
            self.logger.info(f'{done} iterations of epoch {self.epoch + 1} are done: left out')
        else:
            self.logger.warning(
                f'Resume is not exact: {self.iter} iterations in {self.epoch} epochs do not go '
                f'with {len(loader)} iterations an epoch, or a batch sampler of another kind. '
                'Give the batch size, the processes and the data that the run began with.'
            )
