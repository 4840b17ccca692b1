"""A run ends with its result: early stops, checkpoints at any interval, the student for mmdet."""

from pathlib import Path

import pytest
import torch
from mmdet.registry import MODELS
from mmengine.config import Config
from mmengine.evaluator import Evaluator
from mmengine.hooks import EarlyStoppingHook, EMAHook

from mmkd.runner.exact_runner import ExactRunner
from tests.tiny import raw_batch, tiny_pair, tiny_runner, tiny_ssd

pytestmark = pytest.mark.usefixtures('mmdet_scope')
BEST = 'best_score_epoch_1.pth'
WAYS = {
    'an interval that does not divide': (dict(interval=2), 3, 'epoch_3.pth'),
    'not the last': (dict(interval=2, save_last=False), 3, 'epoch_2.pth'),
    'one is kept': (dict(interval=1, max_keep_ckpts=1), 3, 'epoch_3.pth'),
    'the best alone': (dict(save_best='score', rule='less', save_last=False), 3, BEST),
    'by iterations': (dict(by_epoch=False, interval=4), 3, 'iter_6.pth'),
    'nothing': (None, 2, None),
}


class Score(Evaluator):
    """Stands for a validation: the score of each in turn."""

    def __init__(self, scores):
        super().__init__([])
        self.scores = iter(scores)

    def process(self, *args, **kwargs):
        """Nothing to do."""

    def evaluate(self, size):
        return {'score': next(self.scores)}


def run(work_dir, hook, epochs=3, scores=None, runner=None, **changes):
    """Train a tiny pair or detector on two images an epoch; returns its runner."""
    torch.manual_seed(0)
    config = changes.pop('model', None) or tiny_pair()
    default = dict(
        logger=dict(type='LoggerHook', interval=1),
        checkpoint=hook and dict(type='CheckpointHook', **hook),
    )
    settings = dict(
        cfg=Config(dict(model=config)),
        default_hooks=default,
        custom_hooks=[dict(type='ExportStudentHook')],
        train_cfg=dict(by_epoch=True, max_epochs=epochs),
    )
    if scores is not None:
        item = raw_batch(1)
        item = dict(inputs=item['inputs'][0], data_samples=item['data_samples'][0])
        sampler = dict(type='DefaultSampler', shuffle=False)
        settings.update(
            val_dataloader=dict(dataset=[item], batch_size=1, num_workers=0, sampler=sampler),
            val_cfg=dict(type='ValLoop'),
            val_evaluator=Score(scores),
        )
    batches = [raw_batch(1, seed=seed) for seed in range(2)]
    model = MODELS.build(config)
    built = tiny_runner(model, batches, work_dir, runner=runner, **{**settings, **changes})
    built.train()
    return built


def weights(path) -> dict:
    return torch.load(path, weights_only=False)['state_dict']


def logged(work_dir: Path) -> str:
    return sorted(work_dir.glob('2*/2*.log'))[-1].read_text()


def same(first: dict, second: dict) -> bool:
    assert first.keys() == second.keys()
    return all(torch.equal(value, second[key]) for key, value in first.items())


@pytest.mark.parametrize('way', WAYS)
def test_the_student_is_exported_whatever_is_saved(tmp_path, way):
    hook, epochs, saved = WAYS[way]
    scores = range(epochs) if 'best' in way else None
    runner = run(tmp_path, hook, epochs, scores)
    assert same(weights(tmp_path / 'student.pth'), runner.model.student.state_dict())
    found = sorted(path.name for path in tmp_path.glob('*.pth') if path.name != 'student.pth')
    assert (found or [None])[-1] == saved
    line = logged(tmp_path).rpartition('The student alone')[2]
    assert f'the weights at the end of training, epoch {epochs} of {epochs}' in line
    assert (BEST in line) is ('best' in way)
    assert not list(tmp_path.glob('.*.partial'))


def test_a_student_that_cannot_be_written_stops_the_start(tmp_path):
    lost = Config(dict(model=dict(tiny_pair(), architecture='lost.py')))
    with pytest.raises(FileNotFoundError, match=r'lost\.py'):
        run(tmp_path, None, 1, cfg=lost)
    assert not list(tmp_path.glob('*.pth'))


def test_by_iterations(tmp_path):
    loop = dict(type='IterBasedTrainLoop', max_iters=3)
    runner = run(tmp_path, dict(by_epoch=True, interval=5), train_cfg=loop)
    assert same(weights(tmp_path / 'student.pth'), runner.model.student.state_dict())
    assert 'iteration 3 of 3' in logged(tmp_path)


def test_an_early_stop_leaves_the_student_and_the_last_checkpoint(tmp_path):
    """The first score is never beaten: two validations later the run ends, in epoch 3 of 9."""
    stop = EarlyStoppingHook('score', rule='greater', patience=2)
    hooks = [stop, EMAHook(momentum=0.5), dict(type='ExportStudentHook')]
    hook = dict(interval=2, save_best='score', rule='greater')
    runner = run(tmp_path, hook, 9, [5, 1, 1], ExactRunner, custom_hooks=hooks)
    assert runner.epoch == 3
    line = logged(tmp_path).rpartition('The student alone')[2]
    assert 'the averaged weights at the end of training, epoch 3 of 9, where it was stopped' in line
    assert 'best_score_epoch_1.pth, is exported by "mmkd export"' in line
    last = torch.load(tmp_path / 'epoch_3.pth', weights_only=False)
    assert (tmp_path / 'last_checkpoint').read_text() == str(tmp_path / 'epoch_3.pth')
    assert last['stopped_early'] and last['meta']['epoch'] == 3 and 'optimizer' in last
    student = {
        key.removeprefix('architecture.'): value
        for key, value in last['state_dict'].items()
        if key.startswith('architecture.')
    }
    exported = weights(tmp_path / 'student.pth')
    assert same(exported, student)
    assert not same(exported, runner.model.student.state_dict())  # the average is exported

    # It has ended: to resume it trains nothing more, and writes the student again.
    (tmp_path / 'student.pth').unlink()
    stop = EarlyStoppingHook('score', rule='greater', patience=2)
    hooks = [stop, EMAHook(momentum=0.5), dict(type='ExportStudentHook')]
    resume = dict(resume=True, load_from=str(tmp_path / 'epoch_3.pth'))
    again = run(tmp_path, hook, 9, [1], ExactRunner, custom_hooks=hooks, **resume)
    assert again.epoch == 3 and 'This run has ended already' in logged(tmp_path)
    assert same(weights(tmp_path / 'student.pth'), exported)


def test_an_early_stop_counts_on_in_a_resumed_run(tmp_path):
    """The best, 5, and the first validation without improvement came before the interruption."""

    def hooks() -> list:
        return [EarlyStoppingHook('score', rule='greater', patience=3)]

    run(tmp_path, dict(interval=1), 2, [5, 1], ExactRunner, custom_hooks=hooks())
    resume = dict(resume=True, load_from=str(tmp_path / 'epoch_2.pth'))
    scores = [1, 2, 3, 4]
    runner = run(tmp_path, None, 5, scores, ExactRunner, custom_hooks=hooks(), **resume)
    assert runner.epoch == 4, 'the second epoch is validated again; 3 and 4 are the other two'


def test_a_detector_on_its_own_is_written_as_it_is(tmp_path):
    """What a comparison asks for where the last checkpoint has no name that is known before."""
    hook = dict(type='ExportStudentHook', filename='detector.pth')
    runner = run(tmp_path, None, 1, model=tiny_ssd(), custom_hooks=[hook])
    assert same(weights(tmp_path / 'detector.pth'), runner.model.state_dict())
    assert Config.fromfile(tmp_path / 'detector.py').model.type == 'SingleStageDetector'
    assert 'is of an earlier run' not in logged(tmp_path)
    run(tmp_path, None, 1, model=tiny_ssd(), custom_hooks=[hook])
    assert 'detector.pth is of an earlier run: it stays as it is until' in logged(tmp_path)
