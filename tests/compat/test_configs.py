"""What a config that is built on a shipped pair may say; its text is laid out once."""

import inspect

import pytest
from mmengine.config import Config, ConfigDict
from mmengine.config import config as config_module
from yapf.yapflib import yapf_api

from mmkd.compat.configs import (
    put_arguments_in_the_place_of_auto,
    read_configs_past_byte_order_marks,
    write_paths_into_configs_as_python_does,
)

PAIR = 'mmkd::ssd_kd_vgg_to_mbv2.py'
ARGUMENTS = dict(dtype='bfloat16')


@pytest.mark.parametrize('value', [ARGUMENTS, {}, None, 'auto', 'form.json'])
def test_a_config_that_is_built_on_a_pair_says_how_the_teacher_runs(value, tmp_path):
    child = tmp_path / 'child.py'
    child.write_text(f'_base_ = {PAIR!r}\nmodel = dict(lean_teacher={value!r})\n')
    model = Config.fromfile(child).model
    assert model.lean_teacher == value and model.type.endswith('DetectionDistill')
    again = tmp_path / 'again.py'
    again.write_text("_base_ = './child.py'\nmodel = dict(lean_teacher=dict(fold_bn=False))\n")
    inherited = value if isinstance(value, dict) else {}
    assert Config.fromfile(again).model.lean_teacher == {**inherited, 'fold_bn': False}


def test_so_does_an_option_of_the_command():
    cfg = Config(dict(model=dict(lean_teacher='auto')))
    cfg.merge_from_dict({'model.lean_teacher.dtype': 'bfloat16'})
    assert cfg.model == dict(lean_teacher=ARGUMENTS) and type(cfg.model) is ConfigDict
    cfg.merge_from_dict({'model.lean_teacher': None})
    assert cfg.model.lean_teacher is None
    cfg.merge_from_dict({'model.lean_teacher': dict(ARGUMENTS, _delete_=True)})
    assert cfg.model.lean_teacher == ARGUMENTS
    cfg = Config(dict(parts=[dict(lean_teacher='auto'), 1]))
    cfg.merge_from_dict({'parts.0.lean_teacher.dtype': 'bfloat16'})
    assert cfg.parts == [dict(lean_teacher=ARGUMENTS), 1]


def test_arguments_in_the_place_of_auto_need_the_patch(monkeypatch):
    patched = Config._merge_a_into_b
    original = inspect.getclosurevars(patched).nonlocals['merge']
    monkeypatch.setattr(Config, '_merge_a_into_b', staticmethod(original))
    new, old = dict(lean_teacher=ARGUMENTS), dict(lean_teacher='auto')
    with pytest.raises(TypeError, match='cannot inherit from base'):
        Config._merge_a_into_b(new, old)
    put_arguments_in_the_place_of_auto()
    assert Config._merge_a_into_b(new, old) == new and old == dict(lean_teacher='auto')
    with pytest.raises(TypeError, match='cannot inherit from base'):
        Config._merge_a_into_b(dict(other={}), dict(other='text'))


@pytest.fixture
def laid_out(monkeypatch):
    """The texts that yapf was given."""
    texts: list[str] = []

    def lay_out(text, **style):
        texts.append(text)
        return f'{text}\n', True

    monkeypatch.setattr(yapf_api, 'FormatCode', lay_out)
    return texts


def test_laying_out_once_is_needed(laid_out):
    config = Config(dict(only_here=1))
    for _ in range(2):
        Config.pretty_text.fget.__wrapped__(config)
    assert len(laid_out) == 2, 'lay_out_configs_once is no longer needed: remove it'


def test_a_text_is_kept_while_the_config_stays_the_same(laid_out):
    config = Config(dict(only_here=2, part=dict(a=1)))
    first = config.pretty_text
    assert Config(config.to_dict()).pretty_text == first and len(laid_out) == 1
    config.part.a = 2
    assert 'a=2' in config.pretty_text and len(laid_out) == 2
    plain = Config(config.to_dict(), format_python_code=False)
    assert plain.pretty_text != config.pretty_text and len(laid_out) == 3


def test_a_text_that_fails_is_asked_for_again(laid_out, monkeypatch):
    config = Config(dict(only_here=3))
    with monkeypatch.context() as patch:
        patch.setattr(yapf_api, 'FormatCode', None)
        with pytest.raises(SyntaxError):
            _ = config.pretty_text
    assert 'only_here=3' in config.pretty_text


NAMES = (
    "it's",
    'say "hi"',
    r'a\users',
    r'a\b',
    '{x}',
    '{{ fileBasename }}',
    'Bär 日本',
    'a\nb',
    'x"""',
)


@pytest.mark.parametrize('name', NAMES)
def test_a_config_may_lie_anywhere(name, tmp_path):
    path = tmp_path / name / f'{name}.py'
    path.parent.mkdir()
    path.write_text(
        '"""At {{ fileDirname }}."""\na = \'{{fileDirname}}/b\'\nb = "{{ fileBasename }}"\n'
        "c = '{{ fileBasenameNoExtension }}{{ fileExtname }}'\n"
    )
    config = Config.fromfile(path)
    assert config.a == f'{path.parent}/b' and config.b == config.c == path.name


def test_only_with_the_patch_may_it(monkeypatch, tmp_path):
    patched = Config._substitute_predefined_vars
    original = inspect.getclosurevars(patched).nonlocals['substitute']
    monkeypatch.setattr(Config, '_substitute_predefined_vars', staticmethod(original))
    path = tmp_path / "it's.py"
    path.write_text("a = '{{ fileBasename }}'\n")
    with pytest.raises(SyntaxError):
        Config.fromfile(path)
    write_paths_into_configs_as_python_does()
    assert Config.fromfile(path).a == "it's.py"


def test_other_forms_of_configs_are_left_to_mmengine(tmp_path):
    path = tmp_path / "it's.yaml"
    path.write_text('a: {{ fileBasename }}\n')
    assert Config.fromfile(path).a == "it's.yaml"


def test_a_config_may_have_a_byte_order_mark(tmp_path, monkeypatch):
    for name, text in (
        ('base.py', 'a = 1\n'),
        ('child.py', "_base_ = './base.py'\nb = _base_.a\n"),
    ):
        (tmp_path / name).write_text(text, encoding='utf-8-sig')
    assert Config.fromfile(tmp_path / 'child.py').b == 1
    monkeypatch.delattr(config_module, 'open')
    with pytest.raises(SyntaxError, match='U\\+FEFF'):
        Config.fromfile(tmp_path / 'child.py')
    read_configs_past_byte_order_marks()
    assert Config.fromfile(tmp_path / 'child.py').b == 1
