"""The rooms of ``mmkd/`` are those of CONTRIBUTING.md, and arrows between them go one way."""

import ast
import re
import sys

from tests.tiny import ROOT


def room_of(dotted: str) -> str | None:
    """The room of ``mmkd.room.module``; None for the package itself and its lone modules."""
    parts = dotted.split('.')
    return parts[1] if len(parts) > 1 and (ROOT / 'mmkd' / parts[1]).is_dir() else None


def names_of(nodes) -> set[str]:
    """What import statements among the nodes name."""
    names = set()
    for node in nodes:
        if isinstance(node, ast.ImportFrom) and node.module:
            names |= {f'{node.module}.{alias.name}' for alias in node.names}
        elif isinstance(node, ast.Import):
            names |= {alias.name for alias in node.names}
    return names


def imported(path) -> set[str]:
    names = names_of(ast.walk(ast.parse(path.read_text())))
    return {name for name in names if name.startswith('mmkd.')}


def arrows() -> set[tuple[str, str]]:
    found = set()
    for path in (ROOT / 'mmkd').rglob('*.py'):
        here = room_of('.'.join(path.relative_to(ROOT).with_suffix('').parts))
        if here is not None:
            found |= {(here, room) for room in map(room_of, imported(path)) if room}
    return {(a, b) for a, b in found if a != b}


def listed() -> list[str]:
    """The rooms of CONTRIBUTING.md, from the top down."""
    text = (ROOT / 'CONTRIBUTING.md').read_text()
    return re.findall(r'^\| `(\w+)/` \|', text, re.M)


def test_each_room_is_on_the_map():
    rooms = {path.name for path in (ROOT / 'mmkd').iterdir() if (path / '__init__.py').exists()}
    assert sorted(listed()) == sorted(rooms)


def test_arrows_go_down():
    order = {room: place for place, room in enumerate(listed())}
    up = {(a, b) for a, b in arrows() if order[a] >= order[b]}
    assert not up


def test_a_room_holds_more_than_one_module():
    for room in listed():
        modules = [p for p in (ROOT / 'mmkd' / room).rglob('*.py') if p.name != '__init__.py']
        assert len(modules) > 1, room


def test_tests_mirror_the_rooms():
    folders = {
        path.parent.relative_to(ROOT / 'tests') for path in (ROOT / 'tests').rglob('test_*.py')
    }
    known = {'.', 'cli', *listed()}
    assert {folder.parts[0] if folder.parts else '.' for folder in folders} <= known


def test_the_command_imports_mmkd_only_when_it_runs():
    """At the top of its modules there are Python's own and its own: so ``--help`` is quick."""
    for path in (ROOT / 'mmkd_cli').glob('*.py'):
        names = names_of(ast.parse(path.read_text()).body)
        foreign = {name.split('.')[0] for name in names} - sys.stdlib_module_names
        assert foreign <= ({'mmkd_cli'} if path.stem != 'shipped' else set()), path


def test_mmkd_knows_one_module_of_the_command():
    """But for ``python -m mmkd``, which is the command: parsed as it is located, then run."""
    found = {}
    for path in (ROOT / 'mmkd').rglob('*.py'):
        names = names_of(ast.walk(ast.parse(path.read_text())))
        modules = {'.'.join(n.split('.')[:2]) for n in names if n.split('.')[0] == 'mmkd_cli'}
        if modules:
            found[path.relative_to(ROOT / 'mmkd').as_posix()] = modules
    command = {'mmkd_cli.main'}
    assert found == {
        'compat/configs.py': {'mmkd_cli.shipped'},
        '__init__.py': command,
        '__main__.py': command,
    }
