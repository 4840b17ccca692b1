"""docs/parts.md lists all that is registered, with what it needs."""

from tests.parts_page import PAGE, tables


def test_the_tables_are_those_of_the_registries():
    """``python -m tests.parts_page`` writes them anew."""
    assert '## Methods' + PAGE.read_text().split('## Methods')[1] == f'{tables()}\n'
