"""List the configs that come with mmkd, or copy one to change it."""

import argparse
import ast
import sys
from pathlib import Path

from mmkd_cli.shipped import PREFIX, shipped, shipped_config


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Without a subcommand it lists."""
    parser.set_defaults(run=list_configs)
    actions = parser.add_subparsers(metavar='ACTION')
    copy = actions.add_parser(
        'copy',
        help='copy a config with those that it is made of',
        description='Copy a config, with its bases and the teacher that it names, so that the '
        'copy is complete and can be changed.',
    )
    copy.add_argument('name', metavar='NAME', help='as "mmkd configs" lists it')
    copy.add_argument('--out', type=Path, default=Path('configs'), help='folder; default: configs')
    copy.add_argument('--force', action='store_true', help='overwrite files that differ')
    copy.set_defaults(run=copy_config)


def list_configs(args: argparse.Namespace) -> None:
    """Print each name with the first line of the file."""
    names = sorted(path for path in shipped('configs').glob('*.py'))
    width = max(len(path.stem) for path in names)
    for path in names:
        text = ast.get_docstring(_parse(path)) or ''
        print(f'{PREFIX}{path.stem:{width}}  {text.splitlines()[0]}')


def copy_config(args: argparse.Namespace) -> int:
    """Copy a config and all files that it is made of, or none."""
    folder = shipped('configs')
    try:
        first = shipped_config(args.name)
    except FileNotFoundError as error:
        print(error, file=sys.stderr)
        return 1
    files = {args.out / path.relative_to(folder): path.read_bytes() for path in made_of(first)}
    for target, content in files.items():
        if target.exists() and target.read_bytes() != content and not args.force:
            print(
                f'A copy must not replace a file that was changed, but {target} exists and '
                'differs. Name another --out, or --force to overwrite it.',
                file=sys.stderr,
            )
            return 1
    for target, content in files.items():
        target.parent.mkdir(parents=True, exist_ok=True)
        target.write_bytes(content)
        print(target)
    return 0


def made_of(config: Path) -> list[Path]:
    """A shipped config and the shipped files that it names: its bases and its teacher."""
    found = [config]
    for path in found:
        for node in ast.walk(_parse(path)):
            if isinstance(node, ast.Constant) and str(node.value).endswith('.py'):
                named = path.parent / str(node.value).replace('{{ fileDirname }}/', '')
                if named.is_file() and named.resolve() not in found:
                    found.append(named.resolve())
    return found


def _parse(path: Path) -> ast.Module:
    return ast.parse(path.read_text())
