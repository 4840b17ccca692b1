"""The result of a comparison in plain sentences."""

from mmkd.compare.arms import Arm
from mmkd.compare.report.results import Gain, Results


def summary(results: Results) -> str:
    """What distillation did to the student's mAP, whatever it is, and what the control did."""
    if not results.gains:
        return 'Nothing to compare: these runs hold no baseline beside a distilled student.'
    sentences = [_verdict(arm, gain) for arm, gain in results.gains.items()]
    if Arm.DISTILLED in results.gains:
        sentences.append(_share(results))
        if Arm.SHUFFLED in results.gains and results.over_control is not None:
            sentences.append(
                f'Taught on the right image the student is {_points(results.over_control)} '
                'points from the one that was taught on another image.'
            )
    first = next(iter(results.gains.values()))
    sentences.append(
        'Points are hundredths of mAP; all students had the same schedule, data order and seeds'
        + ('; ± is the 95 % interval, paired by seed.' if first.has_interval else '.')
    )
    return ' '.join(sentence for sentence in sentences if sentence)


def _points(gain: Gain) -> str:
    interval = f' ± {100 * gain.half:.1f}' if gain.has_interval else ''
    return f'{100 * gain.mean:+.1f}{interval}'


def _verdict(arm: Arm, gain: Gain) -> str:
    control = arm is Arm.SHUFFLED
    what = 'The control, a teacher that looks at another image,' if control else 'Distillation'
    change = f"{what} changes the student's mAP by {_points(gain)} points"
    if not gain.has_interval:
        return f'{change} with one seed, which cannot tell a gain from chance.'
    seeds = len(gain.by_seed)
    if abs(gain.mean) > gain.half:
        return f'{change} over {seeds} seeds: a {"gain" if gain.mean > 0 else "loss"}.'
    return f'{change} over {seeds} seeds: no difference is shown, the interval holds 0.'


def _share(results: Results) -> str:
    distance, share = results.gap, results.gains[Arm.DISTILLED].gap_closed
    if distance is None:
        return ''
    if share is None:
        return (
            f'{Arm.TEACHER.heading} and baseline differ by {100 * distance:+.1f} points: there '
            'is no gap to close.'
        )
    return f'It closes {100 * share:.0f} % of the {100 * distance:.1f} points to the teacher.'
