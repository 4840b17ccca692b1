"""What README and docs say is there is there, and their examples run."""

import argparse
import ast
import importlib
import importlib.util
import json
import re
import shlex

import pytest
from mmengine.config import Config
from mmengine.registry import HOOKS

from mmkd.compare.report.results import mean_interval
from mmkd_cli.main import build_parser
from tests.tiny import ROOT

TOP = [ROOT / f'{name}.md' for name in ('README', 'CONTRIBUTING', 'CHANGELOG')]
PAGES = [*TOP, *sorted((ROOT / 'docs').glob('*.md'))]


@pytest.mark.parametrize('page', PAGES, ids=lambda page: page.name)
def test_files_that_are_named_exist(page):
    text = page.read_text()
    named = set(re.findall(r'\b(?:configs|tools|tests|benchmarks|docs|mmkd)/[\w/]+\.\w+', text))
    links = {link for link in re.findall(r'\]\(([^)#]+)\)', text) if '://' not in link}
    lost = [name for name in named if not (ROOT / name).exists()]
    lost += [link for link in links if not (page.parent / link).exists()]
    assert [name for name in lost if '/my_' not in name and '/test_my_' not in name] == []


def test_the_how_tos_name_what_the_code_has():
    """In CONTRIBUTING.md each name in code style is one of the code."""
    text = (ROOT / 'CONTRIBUTING.md').read_text().split('\n## A loss')[1]
    named = re.findall(r'`([^`]+)`', text)
    words = {
        word for name in named if '/' not in name for word in re.findall(r'[A-Za-z_]{4,}', name)
    }
    source = '\n'.join(path.read_text() for path in (ROOT / 'mmkd').rglob('*.py'))
    source += (ROOT / 'tests/losses/test_contract.py').read_text()
    assert len(words) > 20
    assert {word for word in words if not re.search(rf'\b{word}\b', source)} == set()


def test_modules_that_docstrings_name_exist():
    for path in (ROOT / 'mmkd').rglob('*.py'):
        for module in re.findall(r':mod:`(mmkd[\w.]*)`', path.read_text()):
            assert importlib.util.find_spec(module), f'{path.name}: {module}'


def test_each_test_of_the_reliability_page_exists():
    rows = (ROOT / 'docs/reliability.md').read_text().splitlines()
    rows = [row for row in rows if row.startswith('| ') and not row.startswith(('| what', '| ---'))]
    for row in rows:
        named = re.findall(r'`([\w/]+\.py)::(\w+)`', row)
        assert named, row
        for file, test in named:
            assert f'def {test}(' in (ROOT / 'tests' / file).read_text(), f'{file}::{test}'


def commands(text: str) -> list[list[str]]:
    """The words of each ``mmkd COMMAND`` and ``python tools/TOOL.py`` of a page, without comments.

    Of a tool they are those of the command that it is a door to.
    """
    blocks = '\n'.join(re.findall(r'```bash\n(.*?)```', text, re.S)).replace('\\\n', '')
    lines = [*blocks.splitlines(), *re.findall(r'`([^`\n]+)`', text)]
    found = []
    for line in lines:
        call = re.match(r'(?:mmkd|python tools/(\w+)\.py|torchrun .*-m mmkd_cli) (.+)', line)
        if call:
            door = []
            if call[1]:
                source = (ROOT / f'tools/{call[1]}.py').read_text()
                door = re.findall(r"'([\w-]+)', ", source.split('main([')[1])
            found.append([*door, *shlex.split(call[2], comments=True)])
    return found


def subcommands(parser: argparse.ArgumentParser) -> dict[str, argparse.ArgumentParser]:
    groups = [a for a in parser._actions if isinstance(a, argparse._SubParsersAction)]
    return dict(groups[0].choices) if groups else {}


@pytest.mark.parametrize('page', PAGES, ids=lambda page: page.name)
def test_commands_that_are_named_exist(page):
    """Each with its options; a word in capitals stands for any."""
    for words in commands(page.read_text()):
        parser = build_parser()
        while words and words[0] in subcommands(parser):
            parser, words = subcommands(parser)[words[0]], words[1:]
        if parser.prog == 'mmkd mmdet-tool' or words[:1] == ['COMMAND']:
            continue
        told = f'{page.name}: {parser.prog} {" ".join(words)}'
        # Only "mmkd configs" is whole without one of its subcommands.
        assert not subcommands(parser) or not words or words[0].startswith('-'), told
        for option in (word.split('=')[0] for word in words if word.startswith('--')):
            assert option in parser._option_string_actions, told


@pytest.mark.parametrize(
    'text', ['`mmkd trian x.py`', '`mmkd train x.py --resum`', '```bash\nmmkd data cut x\n```']
)
def test_a_command_that_is_not_there_is_noticed(tmp_path, text):
    page = tmp_path / 'page.md'
    page.write_text(text)
    with pytest.raises(AssertionError, match=r'page\.md: mmkd'):
        test_commands_that_are_named_exist(page)


@pytest.mark.parametrize('page', PAGES, ids=lambda page: page.name)
def test_options_of_benchmarks_exist(page):
    for path, rest in re.findall(r'python (benchmarks/\w+\.py)([^\n`#]*)', page.read_text()):
        for option in re.findall(r'--[a-z-]+', rest):
            assert option in (ROOT / path).read_text(), f'{page.name}: {path} has no {option}'


def test_the_pairs_that_the_readme_names_are_shipped():
    table = (ROOT / 'README.md').read_text().split('\n## What is here')[1].split('\n| loss |')[0]
    for row in re.findall(r'^\| .*`.*$', table, re.M):
        name, *others = re.findall(r'`([\w.]+)`', row)
        stem = re.sub('_(digits|bccd)$', '', name)
        for other in [name, *(found.replace('...', stem) for found in others)]:
            assert (ROOT / f'configs/{other}.py').is_file(), other


def test_the_variant_is_a_config(tmp_path):
    blocks = re.findall(r'```python\n(.*?)```', (ROOT / 'docs/pairs.md').read_text(), re.S)
    [variant] = [block for block in blocks if '.update(' in block]
    path = tmp_path / 'variant.py'
    path.write_text(variant.replace("'./", f"'{ROOT}/configs/"))
    config = Config.fromfile(path)
    assert config.distiller.distill_losses.loss_soft.temperature == 2.0


def test_the_hooks_are_built(tmp_path):
    blocks = re.findall(r'```python\n(.*?)```', (ROOT / 'docs/pairs.md').read_text(), re.S)
    blocks = [block for block in blocks if '_hooks' in block]
    path = tmp_path / 'hooks.py'
    path.write_text('\n'.join(blocks))
    config = Config.fromfile(path)
    hooks = [HOOKS.build(hook) for hook in [*config.custom_hooks, *config.default_hooks.values()]]
    assert [type(hook).__name__ for hook in hooks] == ['DistillWeightHook'] * 3 + ['NonFiniteHook']


def test_python_blocks_parse():
    for page in PAGES:
        for block in re.findall(r'```python\n(.*?)```', page.read_text(), re.S):
            ast.parse(block)


def row(name: str, runs: list[dict]) -> str:
    """The line of docs/results.md that the kept log ``name`` gives."""
    by_arm: dict[str, dict[int, float]] = {}
    for run in runs:
        by_arm.setdefault(run['arm'], {})[run['seed']] = 100 * run['map']
    baseline, distilled = by_arm['baseline'], by_arm['kd']
    assert baseline.keys() == distilled.keys()
    gains = [
        {seed: found[seed] - baseline[seed] for seed in found}
        for found in (distilled, by_arm.get('shuffled', {}))
    ]
    cells = []
    for values in (*gains, baseline, distilled, by_arm['teacher']):
        mean, half = mean_interval(list(values.values())) if values else (0, 0)
        interval = f' ± {half:.1f}' if len(values) > 1 else ''
        cells.append(f'{mean:.1f}{interval}' if values else 'not run')
    return f'| [{name}](logs/{name}.log) | {len(baseline)} | ' + ' | '.join(cells) + ' |'


LOGS = sorted((ROOT / 'docs/logs').glob('*.json'))


@pytest.mark.parametrize('path', LOGS, ids=lambda path: path.stem)
def test_results_are_what_the_kept_logs_say(path):
    content = json.loads(path.read_text())
    # later versions say more
    assert list(content)[:6] == ['title', 'summary', 'notes', 'settings', 'gains', 'runs']
    assert row(path.stem, content['runs']) in (ROOT / 'docs/results.md').read_text()
    log = path.with_suffix('.log').read_text()
    for run in content['runs']:
        section = log.split(f'== {run["arm"]} seed {run["seed"]}\n')[1].split('\n== ')[0]
        figures = re.findall(r'mAP: ([\d.]+)', section)
        assert float(figures[-1]) == run['map']


GAINS = {  # log, the section of the page that has its table, and the column of gains there
    'bccd_unlabelled': ('## Unlabelled images', 4),
    'bccd_unlabelled_second': ('## Unlabelled images', 4),
    'cards_unlabelled': ('## Unlabelled images', 4),
    'bccd_other_teachers': ('## What such teachers gained', 3),
}


@pytest.mark.parametrize('name', GAINS)
def test_what_other_teachers_and_images_gain_is_what_the_kept_log_says(name):
    log = (ROOT / f'docs/logs/{name}.txt').read_text()
    heading, column = GAINS[name]
    page = (ROOT / 'docs/any_teacher.md').read_text().split(heading)[1].split('\n## ')[0]
    rows = [line.split('|') for line in log.splitlines() if re.match(r'\| \w+_r18', line)]
    assert len(rows) == 4 and f'logs/{name}.txt' in page
    for row in rows:
        points, gain = row[2].strip(), row[column].strip()
        assert f'| {points} | {gain} |'.replace('|  |', '| |') in page
    for config in re.findall(r'configs/\w+\.py', log.splitlines()[0]):
        assert config in page


@pytest.mark.parametrize(
    'name', ['int8_digits_ssd', 'int8_bccd_ssd', 'int8_bccd_yolov5', 'int8_digits_yolov5']
)
def test_what_eight_bits_cost_is_what_the_kept_log_says(name):
    log = (ROOT / f'docs/logs/{name}.txt').read_text()
    page = (ROOT / 'docs/use_the_student.md').read_text().replace('`quantize`', 'quantize')
    rows = re.findall(r'^\|.*±.*\|$', log, re.M)
    assert len(rows) == 3 and f'logs/{name}.txt' in page
    for row in rows:
        assert row in page


def test_the_readme_shows_the_same_figures():
    readme = (ROOT / 'README.md').read_text()
    shown = re.findall(r'^\| \[.*\]\(docs/logs/(\w+)\.log\) \|(.*)$', readme, re.M)
    assert len(shown) >= 7
    for name, rest in shown:
        content = json.loads((ROOT / f'docs/logs/{name}.json').read_text())
        assert row(name, content['runs']).split('|', 2)[2] == rest


def costs(log: str) -> list[tuple[str, str]]:
    """Each row of a kept log of benchmarks/run.py and its figure."""
    return re.findall(r'^(\S.*?) +[\d.]+ +([\d.]+)  (?:met|missed)$', log, re.M)


def test_the_costs_on_a_gpu_are_those_of_the_kept_log():
    log = (ROOT / 'docs/logs/performance_h200.txt').read_text()
    section = (ROOT / 'docs/performance.md').read_text().split('## On a GPU')[1].split('\n## ')[0]
    rows = [line.split('|') for line in section.splitlines() if line.startswith('| ')]
    cells = [cell for row in rows for cell in row[3:-1]]
    assert len(costs(log)) >= 18
    for what, found in costs(log):
        assert any(found in cell for cell in cells), f'{what} {found}'
    missed = [
        figure
        for row in rows[2:]
        for figure in re.findall(r'[\d.]+', ' '.join(row[3:-1]))
        if float(figure) > float(row[2])
    ]
    assert len(missed) == log.count('missed') == 5


def test_the_costs_of_the_teacher_alone_are_those_of_the_kept_log():
    log = (ROOT / 'docs/logs/performance_teacher.txt').read_text()
    page = (ROOT / 'docs/performance.md').read_text().split('## The teacher alone')[1]
    parts = dict(zip(('ssd', 'yolov5'), log.split('yolov5_kd_m_to_s', 1), strict=True))
    tables = dict(zip(parts, page.split('| YOLOv5m to YOLOv5s', 1), strict=True))
    for name, part in parts.items():
        rows = costs(part)
        assert len(rows) >= 8, 'the log has a row for each target'
        for what, found in rows:
            assert found in (page if 'memory' in what else tables[name]), f'{name}: {what} {found}'


def test_the_costs_are_those_of_the_kept_log(monkeypatch):
    monkeypatch.syspath_prepend(ROOT / 'benchmarks')
    tables = importlib.import_module('tables')
    log, page = (ROOT / 'docs' / name for name in ('logs/performance.txt', 'performance.md'))
    assert tables.fill(page.read_text(), log.read_text(), log.name) == page.read_text()
    found = [rows for pair in tables.PAIRS if (rows := tables.table(log.read_text(), pair))]
    assert found, 'a table for each pair that the log has'
    for rows in found:
        assert rows in page.read_text() and rows.count('\n') >= 12, 'a row for each target'
    readme = (ROOT / 'README.md').read_text()
    for what in (
        "student's own step / mmdet's",
        "cached / mmdet's",
        "shipped, float32 / MMRazor's",
    ):
        [figure] = re.findall(re.escape(what) + r'.*? \| [\d.]+ \| ([\d.]+)', found[0])
        assert figure in readme, what
