"""A config's text is read as data: all that mmengine writes comes back, and nothing runs."""

import keyword
import math
import re
import sys
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from mmengine.config import Config
from yapf.yapflib import yapf_api

from mmkd.config.config_literals import MAX_DEPTH, MAX_TEXT, ConfigTextError, read_literals
from mmkd.config.parser_depth import nests_too_deep
from tests.shortcuts import lay_out
from tests.tiny import ROOT

NAMES = st.from_regex(r'[a-z][a-zA-Z0-9_]{0,8}', fullmatch=True).filter(
    lambda name: not keyword.iskeyword(name)
)
LEAVES = st.one_of(
    st.none(), st.booleans(), st.integers(), st.floats(allow_nan=False), st.text(max_size=12)
)
KEYS = st.one_of(NAMES, st.from_regex(r'[a-z]{1,4}[-.][a-z]{1,4}', fullmatch=True))
VALUES = st.recursive(
    LEAVES,
    lambda inner: st.one_of(
        st.lists(inner, max_size=3),
        st.lists(inner, max_size=3).map(tuple),
        st.dictionaries(KEYS, inner, max_size=3),
    ),
    max_leaves=10,
)


@settings(max_examples=60)
@given(st.dictionaries(NAMES, VALUES, max_size=3))
def test_what_mmengine_writes_is_read_as_it_was(config):
    text = Config(config, format_python_code=False).pretty_text
    read = read_literals(text)
    assert read.values == Config(config).to_dict() and read.unread == ()


def test_the_layout_of_yapf_makes_no_difference(monkeypatch):
    monkeypatch.setattr(yapf_api, 'FormatCode', lay_out)
    config = Config.fromfile(ROOT / 'configs/ssd_kd_vgg_to_mbv2.py')
    config.only_here = True  # no other test has had this text laid out
    assert read_literals(config.pretty_text).values == config.to_dict()


def test_numbers_that_are_no_literals_of_python():
    values = read_literals('a = [inf, -inf, float("inf"), float("-inf"), -1e-5]\nb = nan').values
    assert values['a'] == [math.inf, -math.inf, math.inf, -math.inf, -1e-5]
    assert math.isnan(values['b'])


def test_names_of_the_text_stand_for_what_they_were_assigned():
    read = read_literals(
        'norm = dict(mean=[1], std=f())\ntype = "A"\n'
        'pipeline = [dict(type="Normalize", **norm), dict({"a-b": type}, c=())]\n'
        'late = undefined\nmodel = dict(type=mmdet.models.RetinaNet, w=late)'
    )
    assert read.values['pipeline'] == [{'type': 'Normalize', 'mean': [1]}, {'a-b': 'A', 'c': ()}]
    assert read.values['model'] == {'type': 'mmdet.models.RetinaNet'}
    assert read.unread == ('norm.std', 'pipeline.0', 'late', 'model.w')
    assert not read.reads('model') and not read.reads('norm') and read.reads('type')


@pytest.mark.parametrize(
    'value',
    [
        'open("{file}", "w")', '__import__("os").mkdir("{file}")', '[open("{file}", "w")]',
        '(lambda: open("{file}", "w"))()', 'f"{{open(chr(47))}}"', '1 + 1', '2 ** 10 ** 10',
        '[i for i in (1,)]', 'x if True else y', 'os.environ', '"{{{{ fileBasename }}}}".upper()',
        'dict([("a", 1)])', 'tuple([1])', 'float("1_0")', 'b"x"', '1j', '...', '{{[]: 1}}',
        '{{[1]}}', '-True', 'not 1', 'dict(**1)', '*a', 'eval("1")', 'dict.fromkeys("ab")',
    ],
)  # fmt: skip
def test_what_would_have_to_be_executed_is_left_out(value, tmp_path):
    file = tmp_path / 'ran'
    text = f'first = 1\nimport os\nmodel = dict(bad={value.format(file=file)}, good=2)\nlast = 3'
    try:
        read = read_literals(text)
    except ConfigTextError:
        assert value == '*a'
        return
    assert read.values == {'first': 1, 'model': {'good': 2}, 'last': 3}
    assert read.unread == ('model.bad',)
    assert not file.exists()


def test_statements_are_not_followed(tmp_path):
    read = read_literals(
        f'_base_ = "x.py"\nfor i in (1,):\n    a = i\nb.c = 1\nd = e = 2\n'
        f'custom_imports = dict(imports=["evil"])\ndict = 3\nf = dict(a=1)\n'
        f'def g(): open({str(tmp_path / "x")!r}, "w")\n'
    )
    assert set(read.values) == {'_base_', 'custom_imports', 'dict'}
    assert read.unread == ('b', 'f')


@pytest.mark.parametrize(
    'text, told',
    [
        ('a = (', 'SyntaxError'),
        ('a = 1\0', 'must be Python'),
        ('a = ' + '[' * 150 + ']' * 150, f'at most {MAX_DEPTH} levels'),
        ('a = ' + '[' * 5000 + ']' * 5000, 'must be Python'),
        ('a = ' + '-' * 200_000 + '1', 'must be Python|levels'),
        ('a = ' + '9' * 10_000, 'must be Python'),
        ('a0 = [1]\n' + ''.join(f'a{i} = [a{i - 1}]\n' for i in range(1, 99)), 'levels deep'),
        (
            'a0 = [1]\n' + ''.join(f'a{i} = [a{i - 1}, a{i - 1}]\n' for i in range(1, 60)),
            'values l',
        ),
        (
            'a0 = dict(b=1)\n'
            + ''.join(f'a{i} = dict(b=a{i - 1}, c=a{i - 1})\n' for i in range(1, 60)),
            'values long',
        ),
        ('#' * (MAX_TEXT + 1), 'characters long'),
    ],
)
def test_what_is_no_config(text, told):
    with pytest.raises(ConfigTextError, match=told):
        read_literals(text)


@pytest.mark.parametrize('text', ['a = 1' + ' + 1' * 100_000, 'a = b' + '.b' * 100_000])
def test_a_long_expression_is_no_value(text):
    """It ended the process: see ``_bounded_recursion``. Python 3.10 parses it."""
    try:
        read = read_literals(text)
    except ConfigTextError as error:
        assert 'RecursionError' in str(error)
    else:
        assert 'a' not in read.values and read.unread


def test_many_names_of_what_is_not_read_take_no_longer_than_others():
    lines = (f'a{i} = f()\nb{i} = dict(c=1, d=f())\ne{i} = b{i}\n' for i in range(5000))
    read = read_literals(''.join(lines))
    assert len(read.unread) == 15_000 and read.values['e4999'] == {'c': 1}


def test_it_needs_the_standard_library_alone():
    """And what tells how deep a text is, which needs no more."""
    files = [function.__code__.co_filename for function in (read_literals, nests_too_deep)]
    source = '\n'.join(Path(file).read_text() for file in files)
    imported = re.findall(r'^(?:from|import) ([\w.]+)', source, re.M)
    own = {'mmkd.config.parser_depth'}
    assert {name.split('.')[0] for name in {*imported} - own} <= sys.stdlib_module_names
