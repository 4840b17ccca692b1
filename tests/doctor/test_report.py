"""What an examination says, in tables and in a log."""

import tests.tiny  # noqa: F401  (imports mmkd first)
from mmkd.doctor.report import Section


def test_a_log_gets_so_many_rows_of_a_section_at_most():
    """Eighty classes would fill two screens before the first step."""
    section = Section('Classes', ('class', 'taught by'), [[f'c{i}', [i]] for i in range(80)])
    section.notes.append('The teacher knows more.')
    section.warn('All is left out.', 'Name them.')
    assert len(section.lines()) == 82
    assert section.lines(2) == [
        'Classes: c0: taught by [0]',
        'Classes: c1: taught by [1]',
        'Classes: and 78 more',
        'Classes: The teacher knows more.',
        'Classes: warning: All is left out. Name them.',
    ]
    assert section.lines(80) == section.lines()
