"""The text of a config is laid out once, however often a run asks for it."""

import pytest
from mmengine.config import Config
from yapf.yapflib import yapf_api


@pytest.fixture
def laid_out(monkeypatch):
    """The texts that yapf was given."""
    texts: list[str] = []

    def lay_out(text, **style):
        texts.append(text)
        return f'{text}\n', True

    monkeypatch.setattr(yapf_api, 'FormatCode', lay_out)
    return texts


def test_the_patch_is_needed(laid_out):
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
