"""The line in a terminal: there with its figures, gone afterwards, and in no log file."""

import io
import logging
import re
import sys

import pytest
import torch
from mmengine.model import BaseModel

from mmkd.runner.exact_runner import ExactRunner

rich = pytest.importorskip('rich')


class Terminal(io.StringIO):
    def isatty(self):
        return True


class Line(BaseModel):
    """A layer; with ``fail_at`` it raises in that iteration."""

    def __init__(self, fail_at: int | None = None):
        super().__init__()
        self.layer = torch.nn.Linear(1, 1)
        self.fail_at, self.seen = fail_at, 0

    def forward(self, inputs, mode='loss'):
        self.seen += 1
        if self.seen == self.fail_at:
            raise RuntimeError('out of luck')
        return dict(loss=self.layer(torch.stack(inputs)).square().mean())


@pytest.fixture
def train(tmp_path, monkeypatch):
    def call(out, model=None, **loop) -> str:
        monkeypatch.setattr(sys, 'stdout', out)
        monkeypatch.setenv('TERM', 'xterm')
        monkeypatch.setenv('COLUMNS', '120')
        monkeypatch.setattr(rich, '_console', None)  # an earlier one has another width
        loader = dict(
            dataset=[dict(inputs=torch.ones(1)) for _ in range(6)],
            sampler=dict(type='DefaultSampler', shuffle=False),
            batch_size=2,
        )
        runner = ExactRunner(
            model or Line(),
            str(tmp_path),
            loader,
            train_cfg=loop or dict(by_epoch=True, max_epochs=2),
            optim_wrapper=dict(optimizer=dict(type='SGD', lr=0.1)),
            default_hooks=dict(logger=dict(type='LoggerHook', interval=1)),
            experiment_name=str(tmp_path),
        )
        try:
            runner.train()
        finally:
            bars = [hook for hook in runner.hooks if type(hook).__name__ == 'ProgressBarHook']
            streams = [h.stream for h in runner.logger.handlers if type(h) is logging.StreamHandler]
            call.after = (bars, streams)
        assert sys.stdout is out and streams == [out], 'what was redirected is put back'
        return out.getvalue()

    return call


def plain(text: str) -> str:
    return re.sub(r'\x1b\[[0-9;?]*[a-zA-Z]', '', text)


def test_a_terminal_shows_what_is_done_and_left(train, tmp_path):
    shown = train(Terminal())
    line = r'Training: epoch 2/2, iteration .* 6/6 \d:\d\d:\d\d left'
    assert re.search(line, plain(shown))
    assert len(re.findall(r'Epoch\(train\) +\[2\]\[3/3\]', plain(shown))) == 1, 'the log stays'
    assert shown.count('\x1b[?25l') == shown.count('\x1b[?25h') == 1, 'the cursor comes back'
    [log] = tmp_path.glob('*/*.log')
    assert 'Training: epoch' not in log.read_text() and '\x1b' not in log.read_text()


def test_iterations_alone(train):
    assert re.search(
        r'Training: iteration .* 4/4 ', plain(train(Terminal(), by_epoch=False, max_iters=4))
    )


def test_a_pipe_gets_the_log_alone(train):
    shown = train(io.StringIO())
    assert '[2][3/3]' in shown and 'Training:' not in shown and '\x1b' not in shown


def test_an_error_ends_the_line(train):
    out = Terminal()
    with pytest.raises(RuntimeError, match='out of luck'):
        train(out, Line(fail_at=3))
    [hook], _ = train.after
    hook._open.close()  # which Python does at its end
    assert sys.stdout is out and out.getvalue().count('\x1b[?25h') == 1
