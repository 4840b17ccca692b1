"""Patches of how mmengine finds configs, merges and writes them."""

import copy
import functools
import os
import re
from os.path import isabs
from pathlib import Path
from typing import Any


def find_shipped_configs() -> None:
    """mmengine finds "package::..." in the packages that it lists, in folders only, mmkd in none.

    It also takes the name for a scope, which of mmkd none is: a shipped config has its own.
    """
    from mmengine import hub
    from mmengine.config import Config
    from mmengine.registry import MODELS, DefaultScope

    from mmkd_cli.shipped import PREFIX, shipped_config

    base, split = Config._get_cfg_path, hub.hub._get_package_and_cfg_path
    metainfo, get_model = hub.hub._get_cfg_metainfo, hub.get_model

    def base_path(cfg_path: str, filename: str) -> tuple[str, str | None]:
        if cfg_path.startswith(PREFIX):
            return str(shipped_config(cfg_path)), None
        return base(cfg_path, filename)

    def package_and_path(cfg_path: str) -> tuple[str, str]:
        if cfg_path.startswith(PREFIX):
            return 'mmkd', str(shipped_config(cfg_path))
        return split(cfg_path)

    def config_metainfo(package_path: str, cfg_path: str) -> dict[str, Any]:
        return {'Config': cfg_path} if isabs(cfg_path) else metainfo(package_path, cfg_path)

    @functools.wraps(get_model)
    def model(cfg_path: str, pretrained: bool = False, **kwargs: Any) -> Any:
        if not cfg_path.startswith(PREFIX):
            return get_model(cfg_path, pretrained, **kwargs)
        config = hub.get_config(cfg_path, pretrained)
        with DefaultScope.overwrite_default_scope(config.default_scope):
            return MODELS.build(config.model, default_args=kwargs)

    Config._get_cfg_path = staticmethod(base_path)
    hub.hub._get_package_and_cfg_path = package_and_path
    hub.hub._get_cfg_metainfo = config_metainfo
    hub.get_model = hub.hub.get_model = model


def write_paths_into_configs_as_python_does() -> None:
    """mmengine puts a config's path in the place of ``{{ fileDirname }}`` as it is.

    A quotation mark in it ends the string, and a backslash becomes another folder.
    """
    from mmengine.config import Config

    substitute = Config._substitute_predefined_vars

    def substituted(filename: str, temp_config_name: str) -> None:
        path = Path(filename)
        values = dict(
            fileDirname=os.path.dirname(filename),
            fileBasename=path.name,
            fileBasenameNoExtension=path.stem,
            fileExtname=path.suffix,
        )
        if os.sep == '\\':
            values = {key: value.replace('\\', '/') for key, value in values.items()}
        if path.suffix != '.py' or not _ENDS_STRINGS.search(filename):
            substitute(filename, temp_config_name)
            return
        text = re.sub(
            rf'{{{{\s*({"|".join(values)})\s*}}}}',
            lambda found: _ENDS_STRINGS.sub(_escaped, values[found[1]]),
            path.read_text(encoding='utf-8-sig'),
        )
        Path(temp_config_name).write_text(text, encoding='utf-8')

    Config._substitute_predefined_vars = staticmethod(substituted)


#: What has a meaning of its own between quotation marks, or between mmengine's braces.
_ENDS_STRINGS = re.compile('[\'"\\\\{}\\x00-\\x1f]')


def _escaped(found: re.Match[str]) -> str:
    return f'\\x{ord(found[0]):02x}'


def read_configs_past_byte_order_marks() -> None:
    """mmengine takes the mark that some editors put before UTF-8 for a fault of the syntax."""
    from mmengine.config import config

    def opened(path: Any, mode: Any = 'r', encoding: Any = None, **kwargs: Any) -> Any:
        reads = mode == 'r' and str(encoding).lower() == 'utf-8'
        return open(path, mode, encoding='utf-8-sig' if reads else encoding, **kwargs)

    vars(config)['open'] = opened


def lay_out_configs_once() -> None:
    """A run asks six times for the text of one config, and yapf takes up to a second each time.

    Here the last text is kept. It is of the config's content, so a changed config gets another.
    """
    from mmengine.config import Config

    text_of = Config.pretty_text.fget
    last: dict[tuple[str, bool], str] = {}

    @functools.wraps(text_of)
    def pretty_text(self: Any) -> str:
        key = repr(self.to_dict()), self._format_python_code
        if key not in last:
            text = text_of(self)
            last.clear()
            last[key] = text
        return last[key]

    Config.pretty_text = property(pretty_text)


def keep_scopes_from_functions() -> None:
    """mmengine marks what a config inherits from another package with that package's scope.

    It takes the mark out of what it builds, but not of the functions of a data loader, which get it
    as an argument: a config that inherits one of MMYOLO's would fail at its first batch.
    """
    from mmengine.runner import Runner

    build = Runner.build_dataloader

    @functools.wraps(build)
    def build_dataloader(dataloader: Any, *args: Any, **kwargs: Any) -> Any:
        if isinstance(dataloader, dict):
            dataloader = copy.copy(dataloader)
            for key in ('collate_fn', 'worker_init_fn'):
                function = dataloader.get(key)
                if isinstance(function, dict):
                    dataloader[key] = {k: v for k, v in function.items() if k != '_scope_'}
        return build(dataloader, *args, **kwargs)

    Runner.build_dataloader = staticmethod(build_dataloader)


def put_arguments_in_the_place_of_auto() -> None:
    """mmengine merges a dict into a dict only, and shipped pairs say ``lean_teacher='auto'``.

    Arguments in a config that is built on such a pair, or in ``--cfg-options``, take its place.
    """
    from mmengine.config import Config, ConfigDict

    merge = Config._merge_a_into_b

    def merged(a: dict[str, Any], b: Any, allow_list_keys: bool = False) -> Any:
        before = b.get('lean_teacher', {}) if isinstance(b, dict) else {}
        if isinstance(a.get('lean_teacher'), dict) and not isinstance(before, dict):
            b = b.copy()
            b['lean_teacher'] = ConfigDict()
        return merge(a, b, allow_list_keys)

    Config._merge_a_into_b = staticmethod(merged)
