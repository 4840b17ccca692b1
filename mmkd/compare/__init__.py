"""The proof of a pair: its teacher, the baseline, the distilled student, and the control."""

from mmkd.compare.plan import ARMS, Comparison
from mmkd.compare.run import run_comparison

__all__ = ['ARMS', 'Comparison', 'run_comparison']
