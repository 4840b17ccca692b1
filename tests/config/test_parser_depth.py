"""Text on which the parser of Python 3.10 overflows the stack is told before it is parsed."""

import ast
import sys

import pytest
from mmengine.config import Config

from mmkd.config.config_literals import ConfigTextError, read_literals
from mmkd.config.parser_depth import nests_too_deep
from tests.shipped import ROOT

MANY = 200_000
DEEP = {
    'sum': 'a = 1' + ' + 1' * MANY,
    'attributes': 'a = b' + '.c' * MANY,
    'attributes on lines': 'a = (b' + '\n.c' * MANY + ')',
    'signs': 'a = ' + '-' * MANY + '1',
    'calls with commas': 'a = b' + '(c, d)' * (MANY // 2),
    'items': 'a = b' + '[0]' * MANY,
    'not': 'a = ' + 'not ' * MANY + 'b',
    'functions': 'a = ' + 'lambda b, c: ' * (MANY // 10) + 'd',
    'conditions': 'if a:\n b\n' + 'elif a:\n b\n' * (MANY // 10),
    'else': 'a = ' + 'b if c else ' * (MANY // 10) + 'd',
}


@pytest.mark.parametrize('name', DEEP)
def test_text_without_end_is_told(name):
    assert nests_too_deep(DEEP[name])


@pytest.mark.skipif(sys.version_info >= (3, 11), reason='later parsers limit this themselves')
@pytest.mark.parametrize('name', DEEP)
def test_it_is_an_error(name):
    with pytest.raises(ConfigTextError, match='RecursionError'):
        read_literals(DEEP[name])


@pytest.mark.parametrize('path', sorted(ROOT.glob('configs/*.py')), ids=lambda path: path.stem)
def test_configs_are_not(path):
    assert not nests_too_deep(path.read_text())


def test_long_and_whole_configs_are_not():
    text = Config.fromfile(ROOT / 'configs/ssd_kd_vgg_to_mbv2.py').pretty_text
    assert not nests_too_deep(text)
    assert not nests_too_deep('a = [' + '[0.5, -1e-3], ' * 5_000 + ']')
    assert not nests_too_deep('a = 1\n' * 5_000)
    assert ast.parse(text).body


@pytest.mark.parametrize('text', ['a = (', 'a = )', '  b\n a', "a = '", '\x00', ''])
def test_what_is_no_python_is_left_to_the_parser(text):
    assert not nests_too_deep(text)
