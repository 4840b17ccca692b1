"""The result of a comparison in plain sentences."""

from collections.abc import Sequence

from mmkd.compare.report.runs import TITLES, Run, gains, gap, gap_closed, mean_interval


def summary(runs: Sequence[Run]) -> str:
    """What distillation did to the student's mAP, whatever it is, and what the control did."""
    taught = [arm for arm in ('kd', 'shuffled') if gains(runs, arm)]
    if not taught:
        return 'Nothing to compare: these runs hold no baseline beside a distilled student.'
    sentences = [_verdict(runs, arm) for arm in taught]
    if 'kd' in taught:
        sentences.append(_share(runs))
    if len(taught) == 2:
        difference = gains(runs, 'kd', over='shuffled')
        sentences.append(
            f'Taught on the right image the student is {_points(list(difference.values()))} '
            'points from the one that was taught on another image.'
        )
    sentences.append(
        'Points are hundredths of mAP; all students had the same schedule, data order and seeds'
        + ('; ± is the 95 % interval, paired by seed.' if len(gains(runs, taught[0])) > 1 else '.')
    )
    return ' '.join(sentence for sentence in sentences if sentence)


def _points(values: Sequence[float]) -> str:
    mean, half = mean_interval(values)
    return f'{100 * mean:+.1f}' + (f' ± {100 * half:.1f}' if len(values) > 1 else '')


def _verdict(runs: Sequence[Run], arm: str) -> str:
    found = list(gains(runs, arm).values())
    mean, half = mean_interval(found)
    what = 'Distillation' if arm == 'kd' else 'The control, a teacher that looks at another image,'
    change = f"{what} changes the student's mAP by {_points(found)} points"
    if len(found) < 2:
        return f'{change} with one seed, which cannot tell a gain from chance.'
    if abs(mean) > half:
        return f'{change} over {len(found)} seeds: a {"gain" if mean > 0 else "loss"}.'
    return f'{change} over {len(found)} seeds: no difference is shown, the interval holds 0.'


def _share(runs: Sequence[Run]) -> str:
    distance, share = gap(runs), gap_closed(runs)
    if distance is None:
        return ''
    if share is None:
        return (
            f'{TITLES["teacher"]} and baseline differ by {100 * distance:+.1f} points: there '
            'is no gap to close.'
        )
    return f'It closes {100 * share:.0f} % of the {100 * distance:.1f} points to the teacher.'
