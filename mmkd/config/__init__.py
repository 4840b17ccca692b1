"""Configs: how a pair is written, where a key is, and what its error means."""

from mmkd.config.pair_config import pair, set_classes

__all__ = ['pair', 'set_classes']
