"""Arguments that several commands share."""

import argparse

import pytest
from hypothesis import given
from hypothesis import strategies as st
from mmengine.config import Config, DictAction

from mmkd_cli.main import main
from mmkd_cli.options import ConfigOptions, prepare_run


@given(
    st.dictionaries(
        st.text('abc.', min_size=1),
        st.text('ab1.,=()[] ', max_size=8).filter(
            lambda text: text.count('(') == text.count(')') and text.count('[') == text.count(']')
        ),
    )
)
def test_config_options_are_read_as_mmengine_reads_them(pairs):
    words = ['-o', *(f'{key}={value}' for key, value in pairs.items())]

    def read(action):
        parser = argparse.ArgumentParser()
        parser.add_argument('-o', nargs='*', action=action, default={})
        try:
            return parser.parse_args(words).o
        except (AssertionError, RecursionError, SystemExit):
            return 'refused'

    assert read(ConfigOptions) == read(DictAction)


@pytest.mark.parametrize(
    ('word', 'message'),
    [('train_cfg', 'but got "train_cfg"'), ('a=[(1,2]', 'brackets in pairs')],
)
def test_a_bad_option_is_named(word, message, capsys):
    with pytest.raises(SystemExit):
        main(['train', 'a.py', '--cfg-options', word])
    assert message in capsys.readouterr().err


@pytest.mark.parametrize(
    ('given', 'own', 'work_dir'),
    [
        ('a', 'b', 'a'),
        (None, 'b', 'b'),
        (None, None, 'work_dirs/pair'),
        (None, '', 'work_dirs/pair'),
    ],
)
def test_where_a_run_writes(given, own, work_dir, monkeypatch):
    monkeypatch.setenv('LOCAL_RANK', '1')  # a launcher's word counts before the argument
    cfg = Config(dict(work_dir=own))
    prepare_run(cfg, argparse.Namespace(config='my/pair.py', work_dir=given, local_rank=0))
    assert cfg.work_dir == work_dir
