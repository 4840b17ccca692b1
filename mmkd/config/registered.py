"""The class that a config's ``type`` names, without building it."""

from collections.abc import Mapping
from typing import Any

from mmengine.config import Config
from mmengine.registry import Registry


def registered(registry: Registry, part: Any, cfg: Config) -> Any:
    """The class of a part of ``cfg``, looked up as its builder would; None if it has none."""
    kind = part.get('type') if isinstance(part, Mapping) else None
    if not isinstance(kind, str):
        return kind
    scope = part.get('_scope_', cfg.get('default_scope'))
    with registry.switch_scope_and_registry(scope) as found:
        return found.get(kind)
