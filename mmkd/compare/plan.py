"""What a comparison will do and how long that takes, before it begins."""

from collections.abc import Mapping, Sequence
from dataclasses import replace

from mmkd.compare.arms import Arm
from mmkd.compare.comparison import Comparison
from mmkd.compare.detector import Detector
from mmkd.compare.pace import Pace
from mmkd.compare.step import Step


def timed(comparison: Comparison, steps: Sequence[Step], pace: Pace) -> list[Step]:
    """The steps with the seconds that they are expected to take."""
    seconds: dict[str, float] = {}
    for detector in comparison.detectors:
        arm, name = detector.arm, detector.folder.name
        config = comparison.configs.get(Arm.BASELINE if arm is Arm.LONGER else arm)
        if config is not None:
            seconds[f'{name}-train'] = pace.training(arm, config)
        seconds[f'{name}-test'] = pace.evaluation(arm)
    return [replace(step, seconds=seconds.get(step.name, step.seconds)) for step in steps]


def plan_of(
    comparison: Comparison, steps: Sequence[Step], done: int, at_once: int, is_timed: bool
) -> str:
    """What will be done, for how long, and where it can be watched.

    Args:
        comparison: which runs.
        steps: its steps that have not run yet.
        done: how many have.
        at_once: how many run side by side.
        is_timed: whether the steps know how long they take.
    """
    by_arm: dict[Arm, list[Detector]] = {}
    for detector in comparison.detectors:
        by_arm.setdefault(detector.arm, []).append(detector)
    trainings, evaluations = (
        len([step for step in steps if step.name.endswith(end)]) for end in ('-train', '-test')
    )
    to_run = f'{_count(trainings, "training")} and {_count(evaluations, "evaluation")}'
    kept = f', {_count(done, "step")} done before' if done else ''
    lines = [
        f'{to_run} to be run{kept}; up to {at_once} at once.'
        if steps
        else f'All {done} steps are done; the report is written anew.',
        of_teacher(comparison),
        f'Students: {", ".join(arm.heading for arm in by_arm if arm is not Arm.TEACHER)}; '
        f'{_seeds(comparison.seeds)} each.',
    ]
    lines += comparison.rescheduled
    if steps:
        lines.append(_duration(steps, at_once, is_timed))
    lines += [
        f'Logs: {comparison.work_dir}/logs/; what is printed here, also in '
        f'{comparison.work_dir}/compare.log; at the end {comparison.work_dir}/report.html.',
        'Ctrl-C stops it; the same command goes on, and finished trainings are kept.',
    ]
    return '\n'.join(lines)


def of_teacher(comparison: Comparison) -> str:
    """What becomes of the teacher, or of the teachers, in a sentence."""
    teacher, several = comparison.teacher, comparison.pair.model.teacher
    if isinstance(several, list | tuple):
        return (
            f'Teachers: {len(several)}, given; they are neither trained nor evaluated here. "mmkd '
            'test --teacher NAME" measures each.'
        )
    if teacher is None:
        return (
            'Teacher: known by its detections; it is neither trained nor evaluated here. "mmkd '
            'test --teacher" measures it.'
        )
    given = 'trained here first' if teacher.trained else f'given, {teacher.checkpoint}'
    return f'Teacher: {given}; compared with the first baseline as soon as both are evaluated.'


def _duration(steps: Sequence[Step], at_once: int, is_timed: bool) -> str:
    if not is_timed:
        return 'How long it takes shows once the first training runs.'
    whole = max(sum(step.seconds for step in steps) / at_once, max(s.seconds for s in steps))
    parts: dict[str, float] = {}
    for step in steps:
        name = step.name.partition('_seed')[0].removesuffix('-train').removesuffix('-test')
        parts[name] = parts.get(name, 0.0) + step.seconds
    told = ', '.join(f'{name} {_long(seconds)}' for name, seconds in _arms(parts).items())
    return f'About {_long(whole)} by a step timed just now (one after the other: {told}).'


def _count(number: int, what: str) -> str:
    return f'{number} {what}' if number == 1 else f'{number} {what}s'


def _arms(parts: Mapping[str, float]) -> dict[str, float]:
    return {name: seconds for name, seconds in parts.items() if name in tuple(Arm)}


def _long(seconds: float) -> str:
    if seconds < 90:
        return f'{seconds:.0f} s'
    return f'{seconds / 60:.0f} min' if seconds < 5400 else f'{seconds / 3600:.1f} h'


def _seeds(seeds: Sequence[int]) -> str:
    return f'seed {seeds[0]}' if len(seeds) == 1 else f'seeds {", ".join(map(str, seeds))}'
