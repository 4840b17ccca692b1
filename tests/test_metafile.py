"""The index of models, as OpenMMLab's tools read it, says what the configs and the logs say."""

import json
import re
from collections import defaultdict
from pathlib import Path
from statistics import mean

import pytest
import yaml

from mmkd_cli.configs import made_of
from tests.tiny import ROOT

PATHS = yaml.safe_load((ROOT / 'model-index.yml').read_text())['Import']
METAFILE = yaml.safe_load((ROOT / PATHS[0]).read_text())
MODELS = METAFILE['Models']


def test_every_pair_is_listed():
    pairs = {f'configs/{path.name}' for path in (ROOT / 'configs').glob('*_kd_*.py')}
    assert {model['Config'] for model in MODELS} == pairs and len(MODELS) == len(pairs)
    collections = {collection['Name'] for collection in METAFILE['Collections']}
    assert {model['In Collection'] for model in MODELS} == collections
    assert [str(path.relative_to(ROOT)) for path in ROOT.glob('configs/**/metafile.yml')] == PATHS


@pytest.mark.parametrize('model', MODELS, ids=lambda model: model['Name'])
def test_a_pair_is_listed_with_its_own_models_and_figures(model):
    assert model['Config'] == f'configs/{model["Name"]}.py'
    named = {path.relative_to(ROOT).as_posix() for path in made_of(ROOT / model['Config'])}
    # Installed ones, and what a file of detections or an exported one is made with.
    text = (ROOT / model['Config']).read_text()
    named |= set(re.findall(r'\w+::[\w/.-]+|configs/[\w/.-]+', text))
    about = model['Metadata']
    assert {about['Teacher']['Config'], about['Student']['Config']} <= named
    assert ('Results' in model) == ('Log' in about), 'a figure has a log'
    if 'Log' not in about:
        return
    log = json.loads((ROOT / about['Log']).read_text())
    figures = defaultdict(list)
    for run in log['runs']:
        figures[run['arm']].append(100 * run['map'])
    [result] = model['Results']
    assert result['Dataset'] == about['Training Data']
    assert result['Metrics']['box AP'] == pytest.approx(mean(figures['kd']), abs=0.051)
    assert about['Baseline box AP'] == pytest.approx(mean(figures['baseline']), abs=0.051)
    gain = mean(figures['kd']) - mean(figures['baseline'])
    assert about['Gain box AP'] == pytest.approx(gain, abs=0.051)
    results = (ROOT / 'docs/results.md').read_text()
    assert f'[{Path(about["Log"]).stem}]' in results
