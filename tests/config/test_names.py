from hypothesis import given
from hypothesis import strategies as st

from mmkd.config.names import first_of, nearest
from tests.tiny import ROOT


@given(items=st.lists(st.integers()), count=st.integers(1, 4))
def test_what_is_shown_and_what_is_counted_are_all(items, count):
    shown, _, rest = first_of(items, count, counted=True).partition(' and ')
    names = [int(name) for name in shown.split(', ') if name]
    assert names == items[:count]
    assert len(names) + int((rest or '0 more').removesuffix(' more')) == len(items)
    assert first_of(iter(items), count).endswith(', ...') == (len(items) > count)


def test_nothing_else_looks_for_the_nearest_name():
    assert nearest('x', {}) == []
    for path in (ROOT / 'mmkd').rglob('*.py'):
        if path != ROOT / 'mmkd/config/names.py':
            assert 'difflib' not in path.read_text(), path
