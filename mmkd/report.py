"""The report on a teacher, its student alone and its student distilled: table and picture."""

import base64
import html
import json
import pickle
import statistics
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from pathlib import Path

import numpy as np

TITLES = {
    'teacher': 'Teacher',
    'student': 'Student alone',
    'distilled': 'Student distilled',
}


@dataclass(frozen=True)
class Run:
    """One trained and evaluated detector.

    Args:
        role (str): 'teacher', 'student' or 'distilled'.
        seed (int): Of the training.
        parameters (int): Of the detector that predicts.
        map (float): COCO mAP, IoU 0.5 to 0.95.
        map50 (float): COCO mAP at IoU 0.5.
        step_seconds (float): Median wall time of a training step.
    """

    role: str
    seed: int
    parameters: int
    map: float
    map50: float
    step_seconds: float


def _latest(folder: Path, pattern: str) -> Path:
    found = sorted(Path(folder).glob(pattern))  # mmengine names runs by their time
    if not found:
        raise FileNotFoundError(f'no {pattern} in {folder}: has that step run?')
    return found[-1]


def read_run(role: str, seed: int, parameters: int, train: Path, test: Path) -> Run:
    """Read a run from the folders that tools/train.py and tools/test.py wrote.

    Args:
        role (str): See :class:`Run`.
        seed (int): See :class:`Run`.
        parameters (int): See :class:`Run`.
        train (Path): Work dir of the training.
        test (Path): Work dir of the evaluation.
    """
    lines = _latest(train, '*/vis_data/scalars.json').read_text().splitlines()
    steps = [record['time'] for record in map(json.loads, lines) if 'loss' in record]
    metrics = json.loads(_latest(test, '*/*.json').read_text())
    return Run(
        role=role,
        seed=seed,
        parameters=parameters,
        map=metrics['coco/bbox_mAP'],
        map50=metrics['coco/bbox_mAP_50'],
        step_seconds=statistics.median(steps),
    )


def mean_interval(values: Sequence[float]) -> tuple[float, float]:
    """Mean and half width of its 95 % t interval (NaN for a single value).

    >>> mean, half = mean_interval([1.0, 2.0, 3.0])
    >>> round(mean, 3), round(half, 3)
    (2.0, 2.484)
    """
    from scipy.stats import t

    if len(values) < 2:
        return statistics.fmean(values), float('nan')
    spread = statistics.stdev(values) / len(values) ** 0.5
    return statistics.fmean(values), float(t.ppf(0.975, len(values) - 1)) * spread


def gains(runs: Sequence[Run]) -> dict[int, float]:
    """mAP of the distilled student over the student alone, by seed."""
    alone = {run.seed: run.map for run in runs if run.role == 'student'}
    return {
        run.seed: run.map - alone[run.seed]
        for run in runs
        if run.role == 'distilled' and run.seed in alone
    }


def table(runs: Sequence[Run]) -> list[list[str]]:
    """Header and one row per role; over several seeds each figure is a mean."""
    rows = [['', 'parameters', 'mAP', 'mAP50', 'gain over the student alone', 'seconds per step']]
    for role, title in TITLES.items():
        members = [run for run in runs if run.role == role]
        if not members:
            continue
        gain = list(gains(runs).values()) if role == 'distilled' else []
        rows.append(
            [
                title,
                f'{members[0].parameters:,}',
                _figure([run.map for run in members]),
                _figure([run.map50 for run in members]),
                _figure(gain, sign='+') if gain else '',
                f'{statistics.median(run.step_seconds for run in members):.3f}',
            ]
        )
    return rows


def _figure(values: Sequence[float], sign: str = '') -> str:
    mean, half = mean_interval(values)
    return f'{mean:{sign}.3f}' + ('' if len(values) < 2 else f' ± {half:.3f}')


def seed_table(runs: Sequence[Run]) -> list[list[str]]:
    """Header and one row per seed of the students."""
    rows = [['seed', 'student alone', 'student distilled', 'gain']]
    maps = {(run.role, run.seed): run.map for run in runs}
    for seed, gain in gains(runs).items():
        alone, distilled = maps['student', seed], maps['distilled', seed]
        rows.append([str(seed), f'{alone:.3f}', f'{distilled:.3f}', f'{gain:+.3f}'])
    return rows


def draw_picture(
    path: Path,
    annotations: Path,
    images: Path,
    predictions: dict[str, Path],
    count: int = 4,
    threshold: float = 0.3,
) -> None:
    """Draw the first images of a COCO split in rows: truth, then each detector's boxes.

    Args:
        path (Path): PNG to write.
        annotations (Path): COCO JSON.
        images (Path): Folder of the images.
        predictions (dict[str, Path]): Title to what ``tools/test.py --out`` wrote.
        count (int): Images shown. Defaults to 4.
        threshold (float): Score from which a box is drawn. Defaults to 0.3.
    """
    import matplotlib

    matplotlib.use('Agg')
    from matplotlib import pyplot as plt
    from matplotlib.patches import Rectangle

    coco = json.loads(Path(annotations).read_text())
    order = sorted(category['id'] for category in coco['categories'])
    names = {category['id']: category['name'] for category in coco['categories']}
    shown = coco['images'][:count]
    columns: dict[str, dict[int, list]] = {'Truth': {image['id']: [] for image in shown}}
    for item in coco['annotations']:
        if item['image_id'] in columns['Truth']:
            columns['Truth'][item['image_id']].append((item['bbox'], names[item['category_id']]))
    for title, file in predictions.items():
        with Path(file).open('rb') as stream:
            found = {item['img_id']: item['pred_instances'] for item in pickle.load(stream)}
        columns[title] = {
            image['id']: _boxes(found[image['id']], order, names, threshold) for image in shown
        }
    figure, axes = plt.subplots(
        len(shown), len(columns), figsize=(2.6 * len(columns), 2.6 * len(shown)), squeeze=False
    )
    for row, image in enumerate(shown):
        pixels = plt.imread(Path(images) / image['file_name'])
        for axis, (title, boxes) in zip(axes[row], columns.items(), strict=True):
            axis.imshow(pixels)
            axis.set_xticks([])
            axis.set_yticks([])
            if row == 0:
                axis.set_title(title)
            for (x, y, w, h), text in boxes[image['id']]:
                axis.add_patch(Rectangle((x, y), w, h, fill=False, color='white', linewidth=2.5))
                axis.add_patch(Rectangle((x, y), w, h, fill=False, color='crimson', linewidth=1.2))
                box = dict(facecolor='white', alpha=0.8, pad=0.8, linewidth=0)
                axis.text(x, max(y - 2, 7), text, fontsize=7, color='black', bbox=box, clip_on=True)
    figure.tight_layout(pad=0.6)
    figure.savefig(path, dpi=110, metadata={'Software': None})
    plt.close(figure)


def _boxes(instances: dict, order: list[int], names: dict[int, str], threshold: float) -> list:
    """((x, y, w, h), text) of the boxes that score enough."""
    boxes, scores, labels = (np.asarray(instances[key]) for key in ('bboxes', 'scores', 'labels'))
    return [
        ((x1, y1, x2 - x1, y2 - y1), f'{names[order[label]]} {score:.2f}')
        for (x1, y1, x2, y2), score, label in zip(boxes, scores, labels, strict=True)
        if score >= threshold
    ]


def markdown(rows: list[list[str]]) -> str:
    """A table in Markdown: the first row is its header."""
    lines = ['| ' + ' | '.join(row) + ' |' for row in rows]
    lines.insert(1, '| ' + ' | '.join(['---'] + ['---:'] * (len(rows[0]) - 1)) + ' |')
    return '\n'.join(lines) + '\n'


def _html_table(rows: list[list[str]]) -> str:
    def line(cells: list[str], tag: str) -> str:
        return ''.join(f'<{tag}>{html.escape(cell)}</{tag}>' for cell in cells)

    body = ''.join(f'<tr>{line(row, "td")}</tr>' for row in rows[1:])
    return f'<table><tr>{line(rows[0], "th")}</tr>{body}</table>'


_PAGE = """<!doctype html>
<html lang="en"><head><meta charset="utf-8"><title>{title}</title><style>
body {{ font: 16px/1.5 system-ui, sans-serif; max-width: 60rem; margin: 2rem auto; padding: 0 1rem;
color: #222; background: #fff }}
table {{ border-collapse: collapse; margin: 1rem 0 }}
th, td {{ padding: .3rem .8rem; border-bottom: 1px solid #ccc; text-align: right }}
th:first-child, td:first-child {{ text-align: left }}
img {{ max-width: 100% }} code {{ background: #eee; padding: 0 .2rem }}
</style></head><body><h1>{title}</h1><p>{summary}</p>{tables}
<p><img alt="{caption}" src="data:image/png;base64,{picture}"><br>{caption}</p>
<p>{notes}</p></body></html>
"""


def write_report(
    folder: Path, title: str, runs: Sequence[Run], picture: Path, caption: str, notes: str
) -> Path:
    """Write report.html (whole in itself), report.md and report.json into ``folder``.

    Args:
        folder (Path): Where to.
        title (str): Heading.
        runs (Sequence[Run]): What was trained.
        picture (Path): PNG, embedded in the page; it lies in ``folder``.
        caption (str): Of the picture.
        notes (str): How to get these figures.

    Returns:
        Path: The page.
    """
    folder = Path(folder)
    tables = [table(runs)]
    if len(gains(runs)) > 1:
        tables.append(seed_table(runs))
    text = summary(runs)
    page = _PAGE.format(
        title=html.escape(title),
        summary=html.escape(text),
        tables=''.join(map(_html_table, tables)),
        caption=html.escape(caption),
        picture=base64.b64encode(picture.read_bytes()).decode(),
        notes=html.escape(notes),
    )
    (folder / 'report.html').write_text(page, encoding='utf-8')
    parts = [f'# {title}\n', f'{text}\n', *map(markdown, tables)]
    parts += [f'![{caption}]({picture.name})\n', f'{notes}\n']
    (folder / 'report.md').write_text('\n'.join(parts), encoding='utf-8')
    mean, half = mean_interval(list(gains(runs).values()))
    content = dict(
        title=title,
        notes=notes,
        gain=dict(mean=round(mean, 4), interval95=None if half != half else round(half, 4)),
        runs=[asdict(run) for run in runs],
    )
    (folder / 'report.json').write_text(json.dumps(content, indent=2) + '\n')
    return folder / 'report.html'


def summary(runs: Sequence[Run]) -> str:
    """The result in a sentence."""
    gain = list(gains(runs).values())
    mean, half = mean_interval(gain)
    points = f'{100 * mean:+.1f}'
    if len(gain) > 1:
        return (
            f'Over {len(gain)} seeds the teacher changes the mAP of its student by {points} ± '
            f'{100 * half:.1f} points (mean and 95 % interval; same schedule, data order and seed).'
        )
    return (
        f'The teacher changes the mAP of its student by {points} points '
        '(same schedule, data order and seed).'
    )
