"""What losses and connectors take from the two models of a pair."""

from mmkd.binding.bind import bind

__all__ = ['bind']
