"""The CPU time of ``import mmkd`` beside that of the models that it builds on.

    python benchmarks/import_time.py [--rounds 5]

Each import has a process of its own, and all take turns in each round. ``models`` are those of
mmdet and mmrazor, with no more of mmkd than what makes them importable at all beside current
packages: mmcv's ops, and what mmrazor asks for.
"""

import argparse
import os
import statistics
import subprocess
import sys
from pathlib import Path

ROOT = Path(__file__).resolve().parents[1]
MODELS = f"""
import sys, types
for name in ('mmkd', 'mmkd.compat'):  # without what importing the package brings
    sys.modules[name] = types.ModuleType(name)
    sys.modules[name].__path__ = [{str(ROOT)!r} + '/' + name.replace('.', '/')]
from mmkd.compat import mmcv_ops, packages
packages.require_pkg_resources()
mmcv_ops.supply_mmcv_ops()
packages.accept_mmcv_version()
packages.placeholder_quantization()
import mmdet.models, mmrazor.models
"""
PROGRAMS = dict(
    nothing='',
    torch='import torch',
    models=MODELS,
    mmkd='import mmkd',
    command='import mmkd_cli.main; mmkd_cli.main.build_parser()',
)


def cpu_seconds(program: str) -> float:
    """User and system time of a Python process, with its children."""
    before = os.times()
    env = {**os.environ, 'PYTHONPATH': str(ROOT), 'OMP_NUM_THREADS': '1'}
    subprocess.run([sys.executable, '-W', 'ignore', '-c', program], env=env, check=True)
    after = os.times()
    return sum(after[2:4]) - sum(before[2:4])


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument('--rounds', type=int, default=5, help='after one to warm up')
    rounds = parser.parse_args().rounds
    seconds: dict[str, list[float]] = {name: [] for name in PROGRAMS}
    for number in range(rounds + 1):
        for name, program in PROGRAMS.items():
            found = cpu_seconds(program)
            if number:
                seconds[name].append(found)
    for name, found in seconds.items():
        print(f'{name:10} {statistics.median(found):5.2f} s of CPU')
    pairs = zip(seconds['mmkd'], seconds['models'], strict=True)
    ratio = statistics.median(own / models for own, models in pairs)
    print(
        f'ratio of mmkd to models: {ratio:.2f}, target 1.3: {"met" if ratio <= 1.3 else "missed"}'
    )


if __name__ == '__main__':
    main()
