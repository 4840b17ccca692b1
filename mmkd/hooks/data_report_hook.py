"""What the data and the schedule of a training have to do with its head, said at its start."""

from typing import Any

from mmengine.dist import is_main_process
from mmengine.hooks import Hook
from mmengine.runner import Runner

from mmkd.algorithms.detection_distill import DetectionDistill
from mmkd.distributed.unwrapped import unwrapped
from mmkd.doctor import check_priors
from mmkd.doctor.report import Report
from mmkd.rules.warm_up import long_warm_ups

#: Images and seconds that the look at the objects may take.
IMAGES, SECONDS = 32, 5.0


class DataReportHook(Hook):
    """Log the share of the objects that the head can be taught, and a warm-up without end.

    It stops no training: what cannot be looked at is left out.
    """

    priority = 'VERY_LOW'

    def before_train(self, runner: Runner) -> None:
        """Log it, on the first rank; a resumed run has said it."""
        if not is_main_process() or runner.iter > 0:
            return
        loader = runner.train_loop.dataloader
        model: Any = unwrapped(runner.model)
        if isinstance(model, DetectionDistill):
            model = model.student
        dataset: Any = loader.dataset
        report = Report('')
        with report.section('Priors against objects', *check_priors.COLUMNS) as section:
            classes = getattr(dataset, 'metainfo', {}).get('classes')
            check_priors.check_priors(section, model, dataset, classes, IMAGES, SECONDS)
        for line in check_priors.told(section):
            log = runner.logger.info if line.startswith('Priors: ') else runner.logger.warning
            log(line)
        for note in long_warm_ups(runner.cfg, len(loader)):
            runner.logger.warning(note)
