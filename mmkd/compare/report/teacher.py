"""Whether a teacher is worth having, in plain sentences."""

from math import isnan

from mmkd.compare.measure.evidence import Evidence
from mmkd.compare.report.results import Gain, gap_half, is_clear

#: What makes a teacher better, the cheapest and surest first.
_REMEDIES = (
    'weights: start it from weights of ImageNet or COCO (init_cfg, load_from)',
    'views: more augmentation than its student has (zoom, shift, colours, flips that suit)',
    'epochs: two or three times as many',
    'width: more channels or a deeper backbone',
    'another head',
)


def teacher_words(gap: Gain, evidence: Evidence | None = None) -> str:
    """How far it is above the baseline; where that is not clear, what to try, in which order."""
    half = gap_half(gap)
    interval = '' if half is None else f' ± {100 * half:.1f}'
    tested = tested_on(evidence) or 'the test images'
    where = '' if isnan(gap.images) else f' over {tested}'
    told = f'{100 * gap.mean:+.1f}{interval} points{where}'
    if is_clear(gap):
        return f'The teacher is above the baseline by {told}.'
    remedies = '; '.join(f'{i}. {text}' for i, text in enumerate(_REMEDIES, 1))
    return (
        f'The teacher is not clearly above the baseline: {told}. From such a teacher there is '
        f'little to learn. Make it better first; try, in this order: {remedies}.'
    )


def tested_on(evidence: Evidence | None) -> str:
    """'40 test images with 61 objects'; '' where they were not counted."""
    if evidence is None:
        return ''
    images, objects = evidence.images, evidence.objects
    return (
        f'{images} test image{"" if images == 1 else "s"} with {objects} '
        f'object{"" if objects == 1 else "s"}'
    )
