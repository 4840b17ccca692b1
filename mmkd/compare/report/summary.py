"""The result of a comparison in plain sentences."""

from math import isnan

from mmkd.compare.arms import Arm
from mmkd.compare.report.results import Gain, Results, is_clear
from mmkd.compare.report.sample_size import what_would_show
from mmkd.compare.report.teacher import teacher_words, tested_on

#: Fewer objects than these, and the first sentence says so.
FEW_OBJECTS = 200

_WHAT = {
    Arm.DISTILLED: 'Distillation',
    Arm.SHUFFLED: 'The control, a teacher that looks at another image,',
    Arm.LONGER: 'Training without a teacher for as long as distillation takes',
}
_OVER = {
    Arm.SHUFFLED: 'Taught on the right image the student is {} points from the one that was '
    'taught on another image.',
    Arm.LONGER: 'The distilled student is {} points from the one that was trained as long '
    'without a teacher.',
}


def summary(results: Results) -> str:
    """What distillation did to the student's mAP, whatever it is, and what the control did."""
    return ' '.join(sentences(results))


def sentences(results: Results) -> list[str]:
    """The summary sentence by sentence, or so; the first is the verdict."""
    if not results.gains:
        return ['Nothing to compare: these runs hold no baseline beside a distilled student.']
    first = next(iter(results.gains))
    found = []
    for arm, gain in results.gains.items():
        found.append(_verdict(arm, gain, results, is_first=arm is first))
        if arm is first:
            found.append(_next(gain, results))
        if arm is Arm.DISTILLED:
            found.append(_gap(results))
    for arm, gain in results.over.items():
        if arm in results.gains:
            found.append(_OVER[arm].format(_points(gain)))
    found.append(_units(results, results.gains[first]))
    return [sentence for sentence in found if sentence]


def _points(gain: Gain) -> str:
    interval = f' ± {100 * gain.half:.1f}' if gain.has_interval else ''
    return f'{100 * gain.mean:+.1f}{interval}'


def _verdict(arm: Arm, gain: Gain, results: Results, is_first: bool) -> str:
    what, tested = _WHAT[arm], tested_on(results.evidence)
    if is_first and results.evidence is not None and results.evidence.objects < FEW_OBJECTS:
        what, tested = f'On few objects, {tested}, {what[0].lower()}{what[1:]}', ''
    on = f' on {tested}' if is_first and tested else ''
    change = f"{what} changes the student's mAP by {_points(gain)} points"
    if not gain.has_interval:
        chance = 'which cannot tell a gain from chance'
        if not isnan(gain.images):
            chance += f' (± {100 * gain.images:.1f} for the choice of the test images alone)'
        return f'{change} with one seed{on}, {chance}.'
    over = f'{change} over {len(gain.by_seed)} seeds{on}'
    if gain.is_shown:
        return f'{over}: a {"gain" if gain.mean > 0 else "loss"}.'
    return f'{over}: no difference is shown, the interval holds 0.'


def _next(gain: Gain, results: Results) -> str:
    """What would show it, where nothing is shown."""
    if gain.is_shown:
        return ''
    if not any(run.map for run in results.runs if run.arm is not Arm.TEACHER):
        return 'No student detects an object yet (mAP 0): train longer (epochs, --epochs).'
    if not gain.has_interval:
        return 'Run three seeds or more (--seeds 0 1 2): the finished one is kept.'
    if not gain.mean and not gain.half:
        return 'They have the same mAP with each seed: see that loss weights are not 0.'
    return what_would_show(gain, results.evidence.images if results.evidence else 0)


def _gap(results: Results) -> str:
    """How much of the way to the teacher was gone, or that the teacher is none."""
    share = results.share_of_gap(Arm.DISTILLED)
    if results.gap is None:
        return ''
    if share is not None:
        points = 100 * results.gap.mean
        return f'It closes {100 * share:.0f} % of the {points:.1f} points to the teacher.'
    if is_clear(results.gap) and results.evidence is None:
        return ''
    return teacher_words(results.gap)


def _units(results: Results, first: Gain) -> str:
    same = 'Points are hundredths of mAP; all students had the same schedule, data order and seeds'
    if Arm.LONGER in results.gains:
        same = f'{same}, but for the longer one'
    if not first.has_interval:
        return f'{same}.'
    over = 'paired by seed' + ('' if isnan(first.images) else ', over seeds and test images')
    return f'{same}; ± is the 95 % interval, {over}.'
