"""The runner: exact resume, seeds, launch and precision."""

from mmkd.runner.amp import CpuAmpOptimWrapper
from mmkd.runner.exact_runner import ExactRunner

__all__ = ['CpuAmpOptimWrapper', 'ExactRunner']
