"""What each of several configs gains over the one before it, over seeds, on the test images.

    python benchmarks/gains.py configs/retinanet_r18w8_bccd_quarter.py \\
        configs/retinanet_kd_r18_to_r18w8_bccd_quarter.py \\
        configs/retinanet_kd_r18_to_r18w8_bccd_unlabelled.py \\
        --seeds 0 1 2 3 4 --control 0 1 2 --work-dir work_dirs/unlabelled --log unlabelled.txt

"mmkd compare" has one pair and its own baseline. This takes any configs of one student, whose
schedules and images may differ: a student alone, distilled, distilled with more images or by more
teachers. The first is the baseline; the last is trained once more with a teacher that looks at
another image (--control). Each run is tested on the baseline's test images. What is there is not
made again: stopped, it goes on. Means, and 95 % t intervals paired by seed, in points of mAP.
"""

import argparse
import importlib.metadata
import json
import statistics
import subprocess
import sys
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

from mmengine.config import Config
from scipy import stats

METRIC = 'coco/bbox_mAP'


def mmkd(log: Path, *words: object) -> None:
    """Run ``mmkd``, whose output goes to a file."""
    with log.open('w') as out:
        command = [sys.executable, '-m', 'mmkd_cli', *map(str, words)]
        found = subprocess.run(command, stdout=out, stderr=subprocess.STDOUT)
    if found.returncode:
        raise SystemExit(f'mmkd {" ".join(map(str, words))} failed, see {log}')


def points(args: argparse.Namespace, config: Path, seed: int, shuffled: bool) -> float:
    """Train and test a student, unless that was done."""
    name = f'{config.stem}{"_shuffled" if shuffled else ""}_seed{seed}'
    folder = args.work_dir / name
    result = args.work_dir / f'{name}.json'
    if not result.exists():
        epochs = Config.fromfile(config).train_cfg.max_epochs
        options = [f'randomness.seed={seed}', f'train_cfg.val_interval={epochs}']
        options += ['model.shuffle_teacher=True'] if shuffled else []
        words = ['--work-dir', folder, '--resume', '--cfg-options', *options]
        mmkd(args.work_dir / f'{name}-train.txt', 'train', config, *words)
        student = folder / 'student.pth'
        if not student.exists():
            student = folder / Path((folder / 'last_checkpoint').read_text().strip()).name
        own = folder / 'test'
        log = args.work_dir / f'{name}-test.txt'
        mmkd(log, 'test', args.configs[0], student, '--work-dir', own)
        found = max(own.glob('*/*.json'), key=lambda path: path.stat().st_mtime)
        result.write_text(json.dumps(json.loads(found.read_text())))
        print(f'{name}: {100 * json.loads(result.read_text())[METRIC]:.1f}', flush=True)
    return 100 * json.loads(result.read_text())[METRIC]


def interval(values: list[float]) -> str:
    """Mean and half of the 95 % interval."""
    if len(values) < 2:
        return f'{values[0]:.1f}'
    half = stats.t.ppf(0.975, len(values) - 1) * statistics.stdev(values) / len(values) ** 0.5
    return f'{statistics.mean(values):.1f} ± {half:.1f}'


def against(values: dict[int, float], other: dict[int, float]) -> str:
    return interval([values[seed] - other[seed] for seed in values if seed in other])


def table(args: argparse.Namespace) -> str:
    """Train and test all of them, and what came of it."""
    jobs = [(config, seed, False) for seed in args.seeds for config in args.configs]
    jobs += [(args.configs[-1], seed, True) for seed in args.control]
    with ThreadPoolExecutor(args.workers) as pool:
        found = list(pool.map(lambda job: points(args, *job), jobs))
    arms: dict[str, dict[int, float]] = {}
    for (config, seed, shuffled), value in zip(jobs, found, strict=True):
        arms.setdefault(config.stem + (' (shuffled)' if shuffled else ''), {})[seed] = value
    baseline = next(iter(arms.values()))
    lines = ['| config | mAP | over the first | over the one before | by seed |']
    lines.append('| --- | ---: | ---: | ---: | --- |')
    before = baseline
    for name, values in arms.items():
        gains = [against(values, other) for other in (baseline, before)]
        first = values is baseline
        cells = [interval(list(values.values())), *(['', ''] if first else gains)]
        each = ', '.join(f'{seed}: {value:.1f}' for seed, value in values.items())
        lines.append(f'| {name} | {" | ".join(cells)} | {each} |')
        before = values
    return '\n'.join(lines)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument('configs', type=Path, nargs='+')
    parser.add_argument('--seeds', type=int, nargs='+', default=[0, 1, 2, 3, 4])
    parser.add_argument('--control', type=int, nargs='*', default=[])
    parser.add_argument('--workers', type=int, default=2)
    parser.add_argument('--work-dir', type=Path, required=True)
    parser.add_argument('--log', type=Path, help='gets the table, and what made it')
    args = parser.parse_args()
    args.work_dir.mkdir(parents=True, exist_ok=True)
    text = table(args)
    print(text)
    if args.log is not None:
        words = sys.argv[1 : sys.argv.index('--work-dir')]
        versions = [f'{name} {importlib.metadata.version(name)}' for name in ('torch', 'mmkd')]
        made = f'python benchmarks/gains.py {" ".join(words)}\n{", ".join(versions)}\n'
        args.log.write_text(made + 'mAP on the test images, points\n\n' + text + '\n')


if __name__ == '__main__':
    main()
