"""Files that are missing, and what is there that may be meant: told in the error, never taken."""

import os
import unicodedata
from collections.abc import Iterable, Iterator
from urllib.parse import unquote

_FOLDERS = 50  # looked into, in each place


def absent(folder: str, names: Iterable[str]) -> list[str]:
    """Those of ``names``, which may name folders too, that are not in ``folder``."""
    listed: dict[str, set[str]] = {}
    absent = []
    for name in names:
        parent, base = os.path.split(os.path.join(folder, name))
        if parent not in listed:  # listing a folder once is faster than asking for each file
            listed[parent] = set(os.listdir(parent)) if os.path.isdir(parent) else set()
        # A file system may take names for the same that are written differently.
        if base not in listed[parent] and not os.path.exists(os.path.join(parent, base)):
            absent.append(name)
    return absent


def nearby(folder: str, name: str) -> str | None:
    r"""The path of what exists and differs from ``name`` in what programs and systems change.

    These are the case of letters, the Unicode form (composed or not), ``\`` for ``/``, ``%20`` for
    a blank, blanks at the ends, the suffix, and one folder more, less or another in between.
    """
    parts = _parts(name)
    if not os.path.isdir(folder):
        parts = _parts(os.path.abspath(folder)) + parts
        found = _walk('/', parts)
    elif parts:
        above = os.path.dirname(os.path.abspath(folder))
        found = _walk(folder, parts)
        for place in (folder, above, *_folders(folder), *_folders(above)):
            found = found or _entry(place, parts[-1])
    else:
        found = None
    return found and os.path.normpath(found)


def hint(folder: str, names: Iterable[str]) -> str:
    """A sentence for an error about ``names``, which are not in ``folder``; '' if none is nearby.

    Only the first three names are looked for.
    """
    found = [(name, nearby(folder, name)) for name in list(names)[:3]]
    told = [
        f'"{os.path.relpath(path, folder or ".")}" for "{name}"{_unicode(name, path)}'
        for name, path in found
        if path is not None
    ]
    return f' Seen from "{folder}" there is {", ".join(told)}.' if told else ''


def _parts(name: str) -> list[str]:
    return [part for part in name.replace('\\', '/').split('/') if part not in ('', '.')]


def _walk(here: str, parts: list[str]) -> str | None:
    """Down from ``here``, a part of the path at a time; the last one with any suffix."""
    for number, part in enumerate(parts, 1):
        entry = _entry(here, part) or (number == len(parts) and _entry(here, part, suffix=False))
        if not entry:
            return None
        here = entry
    return here


def _entry(folder: str, name: str, suffix: bool = True) -> str | None:
    """What ``folder`` has for ``name``, compared with its suffix or without."""
    wanted = _plain(name, suffix)
    entries = [entry for entry in _listed(folder) if _plain(entry, suffix) == wanted]
    # The very name before its variants.
    return os.path.join(folder, name if name in entries else entries[0]) if entries else None


def _plain(name: str, suffix: bool) -> str:
    stem, end = os.path.splitext(unicodedata.normalize('NFC', unquote(name)).casefold().strip())
    return stem.strip() + (end if suffix else '')


def _listed(folder: str) -> list[str]:
    try:
        return sorted(os.listdir(folder))
    except OSError:
        return []


def _folders(folder: str) -> Iterator[str]:
    paths = (os.path.join(folder, entry) for entry in _listed(folder))
    yield from [path for path in paths if os.path.isdir(path)][:_FOLDERS]


def _unicode(name: str, path: str) -> str:
    names = {os.path.basename(name), os.path.basename(path)}
    same = len(names) == 2 and len({unicodedata.normalize('NFC', each) for each in names}) == 1
    return ' (the same letters in another Unicode form, composed or not)' if same else ''
