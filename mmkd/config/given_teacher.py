"""Whether a pair's ``teacher`` is a network, or known by what it detects alone."""

import functools
import json
import os
from collections.abc import Mapping
from pathlib import Path
from typing import Any

#: The key of a file that holds COCO results among other things.
RESULTS = 'results'

#: What a ``dict`` without ``type`` names: a file of detections, an ONNX file, a function.
DOORS = (RESULTS, 'onnx', 'function')

#: Files that end so are configs, which need not be looked at.
_CONFIGS = ('.py', '.yaml', '.yml')


def is_given(source: Any) -> bool:
    """Whether a pair's ``teacher`` is no network of mmdet or MMYOLO.

    >>> is_given(dict(type='FCOS')), is_given(dict(results='teacher.json'))
    (False, True)
    """
    if isinstance(source, Mapping):
        return 'type' not in source and any(door in source for door in DOORS)
    return is_results(source) or str(source).lower().endswith('.onnx')


def files_of(source: Any) -> list[Path]:
    """The files that a teacher's detections come from."""
    named = [source]
    if isinstance(source, Mapping):
        named = [source.get(key) for key in (*DOORS[:2], 'description')]
    return [Path(one) for one in named if isinstance(one, str) and Path(one).is_file()]


def is_results(source: Any) -> bool:
    """Whether ``source`` names a file of detections: its content decides.

    A list in JSON is COCO results; an object with ``results`` and without ``model`` is what ``mmkd
    label`` writes; an object with ``model`` is a config. Its name may end with anything else than
    that of a config.
    """
    if not isinstance(source, str | os.PathLike) or str(source).lower().endswith(_CONFIGS):
        return False
    path = Path(source)
    try:
        with path.open('rb') as file:
            head = file.read(4096).lstrip(b'\xef\xbb\xbf \t\r\n')
        if head[:1] != b'{':
            return head[:1] == b'['
        content = content_of(*state_of(path))
    except (OSError, ValueError):
        return False
    return isinstance(content, dict) and RESULTS in content and 'model' not in content


def state_of(path: Path) -> tuple[str, int, int]:
    """A file, with what changes if it is written again."""
    status = path.stat()
    return str(path), status.st_mtime_ns, status.st_size


@functools.lru_cache(maxsize=1)
def content_of(path: str, *_: int) -> Any:
    """What a file in JSON holds; of the last one it is kept, since several ask."""
    return json.loads(Path(path).read_bytes())
