"""A function that is another has another digest."""

import importlib
from functools import partial

import torch

from mmkd.teachers.function_digest import function_digest


def test_a_function_whose_file_changed_is_another(tmp_path, monkeypatch):
    monkeypatch.syspath_prepend(tmp_path)
    text = 'SCORE = 0.9\ndef detect(images):\n    return [], [], []\n'
    digests = set()
    for i, body in enumerate((text, text.replace('0.9', '0.2'), text.replace('[], []', '[], ()'))):
        scope = {}
        exec(compile(body, 'nowhere', 'exec'), scope)
        digests.add(function_digest(scope['detect']))
        (tmp_path / f'written{i}.py').write_text(body)
        named = importlib.import_module(f'written{i}').detect
        digests.add(function_digest(named))
        assert function_digest(named) == function_digest(partial(named).func)
    assert len(digests) == 5  # without a file a number that is not used does not count


class Caller:
    """An object that is called, or whose method is."""

    def __init__(self, weight, share=0.5):
        self.model = torch.nn.Linear(1, 1)
        torch.nn.init.constant_(self.model.weight, weight)
        torch.nn.init.zeros_(self.model.bias)
        self.share, self.count = share, 0

    def __call__(self, images):
        self.count += 1
        return images

    def detect(self, images):
        self.count += 1
        return images


def test_what_a_function_holds_decides():
    def by(function):
        return torch.no_grad()(lambda images: function(images))

    for form in (lambda one: one, lambda one: one.detect, by, lambda one: partial(one, images=1)):
        same, again, weights, share = (
            function_digest(form(Caller(*given))) for given in ((1,), (1,), (2,), (1, 0.6))
        )
        assert same == again and len({same, weights, share}) == 3
        used = Caller(1)
        used([])
        assert function_digest(form(used)) == same  # what it counts does not decide
