"""A pair written from the configs of two detectors: its method, its data, the file."""

from mmkd.pairing.methods import Method, read_methods
from mmkd.pairing.pair_text import Request
from mmkd.pairing.write_pair import write_pair

__all__ = ['Method', 'Request', 'read_methods', 'write_pair']
