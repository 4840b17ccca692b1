"""A teacher paid for once: its records of fixed augmented views, kept on the disk.

:mod:`views` fixes what is seen, :mod:`record` what is kept of it, :mod:`codecs` in which bytes,
:mod:`store` where, :mod:`key` for what it holds; :mod:`fill` runs the teacher, :mod:`teacher`
stands in for it.
"""

from mmkd.cache.cached_teacher import CachedTeacher
from mmkd.cache.fill import fill_cache
from mmkd.cache.views import draw_cached_views

__all__ = ['CachedTeacher', 'draw_cached_views', 'fill_cache']
