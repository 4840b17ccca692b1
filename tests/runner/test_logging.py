"""The backends that docs/logging.md shows; TensorBoard's gets the figures of a run."""

import re
from pathlib import Path

import pytest
from mmengine.config import Config
from mmengine.registry import VISBACKENDS
from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

from tests.cli.test_tools import project, run, scalars  # noqa: F401  (a fixture)
from tests.tiny import ROOT

BLOCKS = re.findall(r'```python\n(.*?)```', (ROOT / 'docs/logging.md').read_text(), re.S)


@pytest.mark.parametrize('block', BLOCKS, ids=['tensorboard', 'wandb', 'mlflow'])
def test_each_backend_has_the_arguments_that_are_shown(block, tmp_path):
    """wandb and mlflow themselves are imported by the first figure only."""
    config = Config.fromstring(block, '.py')
    assert config.visualizer.vis_backends[0].type == 'LocalVisBackend'
    for backend in config.visualizer.vis_backends:
        assert VISBACKENDS.build({**backend, 'save_dir': str(tmp_path)})


def test_tensorboard_gets_the_figures(project):  # noqa: F811
    Path('logged.py').write_text('_base_ = "my_student.py"\n' + BLOCKS[0])
    run('train', 'logged.py')
    [folder] = Path('work_dirs/logged').glob('*/vis_data')
    events = EventAccumulator(str(folder)).Reload()
    steps = [line for line in scalars('work_dirs/logged') if 'loss' in line]
    assert [event.value for event in events.Scalars('loss')] == pytest.approx(
        [line['loss'] for line in steps]
    )
