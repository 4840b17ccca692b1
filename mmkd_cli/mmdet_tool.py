"""Run a tool of mmdet's own, with the ops that it needs in place.

mmkd mmdet-tool analyze_logs plot_curve work_dirs/my_pair/.../scalars.json --keys loss
"""

import argparse
import runpy
import sys
from importlib.util import find_spec
from pathlib import Path


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """The tool, and what is passed to it as it is."""
    parser.add_argument('tool', nargs='?', help='its name; without one the tools are listed')
    parser.add_argument('arguments', nargs=argparse.REMAINDER, help="the tool's own; try --help")
    parser.set_defaults(run=run)


def mmdet_tools() -> dict[str, Path]:
    """mmdet's tools by name: ``analyze_logs`` or, where two have one name, the first by path."""
    spec = find_spec('mmdet')
    folder = Path(spec.origin).parent / '.mim/tools' if spec and spec.origin else Path()
    tools: dict[str, Path] = {}
    for path in sorted(folder.rglob('*.py'), key=lambda path: (len(path.parts), path)):
        tools.setdefault(path.stem, path)
    return tools


def run(args: argparse.Namespace) -> int:
    """Run the tool."""
    tools = mmdet_tools()
    if not tools:
        sys.exit('mmdet must be installed with its tools (.mim/tools), but it has none.')
    if args.tool is None:
        print('\n'.join(sorted(tools)))
        return 0
    name = Path(args.tool).stem
    if name not in tools:
        sys.exit(f'"{args.tool}" must be one of mmdet\'s tools: {", ".join(sorted(tools))}.')
    import mmkd  # noqa: F401  (mmdet needs its ops)

    sys.argv = [str(tools[name]), *args.arguments]
    runpy.run_path(str(tools[name]), run_name='__main__')
    return 0
