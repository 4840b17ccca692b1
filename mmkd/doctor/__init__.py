"""Is this pair worth training? What ``mmkd check`` and the start of a training examine.

A check is a function that fills a :class:`Section` with rows (facts) and findings.
"""

from mmkd.doctor.examine import Progress, examine
from mmkd.doctor.report import Finding, Report, Section, show

__all__ = ['Finding', 'Progress', 'Report', 'Section', 'examine', 'show']
