"""What eight bits cost a student, quantised after or in its training, with a teacher or without.

    python benchmarks/int8.py run configs/ssd_kd_r18_to_r18w8_digits.py --work-dir work_dirs/int8
    python benchmarks/int8.py table work_dirs/int8

"run" trains the teacher, the baseline and the distilled student of each seed ("mmkd compare"). Then
each goes on from its own weights for a few epochs at a tenth of the rate (the baseline alone, the
student by the teacher), once in float and once with fake quantisers, so that all lines of the table
are of equally long trainings. The first is exported with ranges of training images, the second with
the ranges that it has learned. What is there is not made again: a run that was stopped goes on.
"table" prints mean and 95 % interval over the seeds of the mAP on the validation set, by
onnxruntime, as "mmkd export" keeps it beside each file.
"""

import argparse
import json
import statistics
import subprocess
import sys
from pathlib import Path

from mmengine.config import Config
from scipy import stats

ARMS = ('baseline', 'kd')
#: Of the table: the file's report, its precision there, and the name.
LINES = (
    ('float', 'float32', 'float32'),
    ('float', 'int8', 'INT8, quantised after training'),
    ('quantize', 'int8', 'INT8, trained with quantize'),
)


def command(*words: object) -> None:
    """Run ``mmkd``; an export that fails its check is a result, too."""
    found = subprocess.run([sys.executable, '-m', 'mmkd_cli', *map(str, words)], cwd=Path.cwd())
    if found.returncode and words[0] != 'export':
        raise SystemExit(f'mmkd {" ".join(map(str, words))} ended with {found.returncode}')


def last(folder: Path) -> Path:
    """The file with the detector at the end of a training."""
    student = folder / 'student.pth'
    if student.exists():
        return student
    return folder / Path((folder / 'last_checkpoint').read_text().strip()).name


def export(checkpoint: Path, out: Path, *words: object) -> None:
    if not out.with_suffix('.parity.json').exists():
        command('export', checkpoint, '--format', 'onnx', '--int8', '--out', out, *words)


def fine_tuning(config: Path, start: Path, seed: int, quantize: bool) -> str:
    """A config that goes on from a trained student."""
    own = Config.fromfile(config)
    lines = [f'_base_ = {str(config.resolve())!r}', f'randomness = dict(seed={seed})']
    lines.append(f'optim_wrapper = dict(optimizer=dict(lr={own.optim_wrapper.optimizer.lr / 10}))')
    lines.append("default_hooks = dict(export_student=dict(type='ExportStudentHook'))")
    where = repr(str(start.resolve()))
    if 'architecture' in own.model:
        more = ', quantize=dict(freeze_norm=True)' if quantize else ''
        lines.append(f'model = dict(student_ckpt={where}{more})')
    else:
        hooks = [dict(hook) for hook in own.get('custom_hooks') or ()]
        hooks += [dict(type='QuantizeHook', freeze_norm=True)] if quantize else []
        lines += [f'custom_hooks = {hooks!r}', f'load_from = {where}']
    return '\n'.join(lines) + '\n'


def run(args: argparse.Namespace) -> None:
    work = args.work_dir
    work.mkdir(parents=True, exist_ok=True)
    compared = args.compared or work / 'compare'
    words = ['--epochs', args.epochs] if args.epochs else []
    for place, seed in enumerate(args.seeds):
        if not (compared / f'logs/kd_seed{seed}-test.done').exists():
            seeds = ['--seeds', *args.seeds[: place + 1], '--arms', *ARMS]
            options = [*seeds, '--workers', 1, '--val-interval', 999, *words]
            command('compare', args.config, '--work-dir', compared, *options)
        for arm in ARMS:
            name = f'{arm}_seed{seed}'
            start = last(compared / name)
            limits = ['--map-images', args.map_images] if args.map_images else []
            for kind in ('float', 'quantize'):
                config, folder = work / f'{name}_{kind}.py', work / f'{name}_{kind}'
                if not (folder / 'student.pth').exists():
                    own = compared / f'configs/{arm}.py'
                    config.write_text(fine_tuning(own, start, seed, kind == 'quantize'))
                    command('train', config, '--work-dir', folder, '--epochs', args.tune)
                ranges = ['--calibration', args.calibration] if kind == 'float' else []
                out = work / f'{name}_{kind}.onnx'
                export(folder / 'student.pth', out, *ranges, *limits)
            print(name, 'done', flush=True)


def points(work: Path, arm: str, kind: str, precision: str) -> dict[int, dict]:
    """By seed, the line of a report."""
    found = {}
    for path in work.glob(f'{arm}_seed*_{kind}.parity.json'):
        seed = int(path.name.split('_seed')[1].split('_')[0])
        rows = json.loads(path.read_text())['table']
        found[seed] = next(row for row in rows if row['precision'] == precision)
    return found


def interval(values: list[float]) -> str:
    """Mean and half of the 95 % interval."""
    if len(values) < 2:
        return f'{values[0]:.1f}' if values else '-'
    half = stats.t.ppf(0.975, len(values) - 1) * statistics.stdev(values) / len(values) ** 0.5
    return f'{statistics.mean(values):.1f} ± {half:.1f}'


def table(args: argparse.Namespace) -> None:
    print('| | baseline | distilled | gain | MB | ms |\n| --- | ---: | ---: | ---: | ---: | ---: |')
    rows = {}
    for kind, precision, title in LINES:
        arms = [points(args.work_dir, arm, kind, precision) for arm in ARMS]
        seeds = sorted(set(arms[0]) & set(arms[1]))
        if not seeds:
            raise SystemExit(f'{args.work_dir} has no seed of which both students are done')
        values = [[arm[seed]['points'] for seed in seeds] for arm in arms]
        gains = [b - a for a, b in zip(*values, strict=True)]
        cells = [interval(cell) for cell in (*values, gains)]
        lines = [arm[seed] for arm in arms for seed in seeds]
        size = statistics.median(line['size'] for line in lines) / 1e6
        ms = statistics.median(line['ms'] for line in lines)
        print(f'| {title} | {" | ".join(cells)} | {size:.2f} | {ms:.2f} |')
        rows[title] = values
    exact, _, trained = rows.values()
    print(f'\nSeeds: {", ".join(map(str, seeds))}. Of the distilled INT8 student, paired by seed:')
    for title, other in (('float32 distilled', exact[1]), ('float32 baseline', exact[0])):
        away = [a - b for a, b in zip(trained[1], other, strict=True)]
        print(f'- against the {title}: {interval(away)} points')


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    commands = parser.add_subparsers(required=True)
    one = commands.add_parser('run')
    one.add_argument('config')
    one.add_argument('--work-dir', type=Path, required=True)
    one.add_argument('--seeds', type=int, nargs='+', default=[0, 1, 2])
    one.add_argument('--compared', type=Path, help='a comparison that is there already')
    one.add_argument('--epochs', type=int, help='of the training; default: those of the config')
    one.add_argument('--tune', type=int, default=2, help='epochs of fine-tuning; default: 2')
    one.add_argument('--calibration', type=int, default=200)
    one.add_argument('--map-images', type=int, help='default: all of the validation set')
    one.set_defaults(run=run)
    other = commands.add_parser('table')
    other.add_argument('work_dir', type=Path)
    other.set_defaults(run=table)
    args = parser.parse_args()
    args.run(args)


if __name__ == '__main__':
    main()
