"""The proof of a pair: its teacher, the baseline, the distilled student, and the control."""

from mmkd.compare.arms import ARMS
from mmkd.compare.comparison import Comparison
from mmkd.compare.run_comparison import run_comparison

__all__ = ['ARMS', 'Comparison', 'run_comparison']
