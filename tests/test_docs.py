"""What README and docs say is there is there, and their examples run."""

import ast
import re

import pytest
from mmengine.config import Config

from tests.tiny import ROOT

PAGES = [ROOT / 'README.md', *sorted((ROOT / 'docs').glob('*.md'))]


@pytest.mark.parametrize('page', PAGES, ids=lambda page: page.name)
def test_files_that_are_named_exist(page):
    text = page.read_text()
    named = set(re.findall(r'\b(?:configs|tools|tests|benchmarks|docs|mmkd)/[\w/]+\.\w+', text))
    links = {link for link in re.findall(r'\]\(([^)#]+)\)', text) if '://' not in link}
    lost = [name for name in named if not (ROOT / name).exists()]
    lost += [link for link in links if not (page.parent / link).exists()]
    examples = {'mmkd/losses/my_loss.py', 'tests/losses/test_my_loss.py'}
    examples.add('configs/_base_/methods/my_method.py')
    assert set(lost) <= examples


@pytest.mark.parametrize('page', PAGES, ids=lambda page: page.name)
def test_options_that_are_named_exist(page):
    for tool, rest in re.findall(
        r'python (tools/\w+\.py|benchmarks/\w+\.py)([^\n`#]*)', page.read_text()
    ):
        source = (ROOT / tool).read_text()
        for option in re.findall(r'--[a-z-]+', rest):
            assert option in source, f'{page.name}: {tool} has no {option}'


def test_the_variant_is_a_config(tmp_path):
    blocks = re.findall(r'```python\n(.*?)```', (ROOT / 'docs/pairs.md').read_text(), re.S)
    [variant] = [block for block in blocks if '.update(' in block]
    path = tmp_path / 'variant.py'
    path.write_text(variant.replace("'./", f"'{ROOT}/configs/"))
    config = Config.fromfile(path)
    assert config.distiller.distill_losses.loss_soft.temperature == 2.0


def test_python_blocks_parse():
    for page in PAGES:
        for block in re.findall(r'```python\n(.*?)```', page.read_text(), re.S):
            ast.parse(block)
