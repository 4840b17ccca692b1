"""A pair written for a data set of one's own: its parts, what suits it, the files."""

from mmkd.scaffold.new_request import NewRequest
from mmkd.scaffold.write_new import WrittenNew, write_new

__all__ = ['NewRequest', 'WrittenNew', 'write_new']
