"""The text of a pair's config, and of its teacher's."""

import os
import shlex
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from mmengine.config import Config
from torch import nn

from mmkd.checkpoints.fetch import is_address
from mmkd.config.given_teacher import is_given
from mmkd.config.read_config import read_config
from mmkd.pairing.data_lines import data_lines
from mmkd.pairing.methods import Method
from mmkd.pairing.needs import head_name
from mmkd.pairing.own_data import OwnData

#: Of the written file, as mmengine reads it.
_FOLDER = '{{ fileDirname }}/'


@dataclass(frozen=True)
class Request:
    """What a pair is asked for with.

    Args:
        teacher: config, a file or ``package::...``; or a file of detections, or an ONNX file.
        student: config, likewise.
        out: the file to write.
        configs: the folder of the configs that come with mmkd.
        teacher_ckpt: file or address; may be None with ``data``, for a teacher yet to be trained,
            and is None for one that is known by its detections.
        method: its name. Defaults to None, the best supported.
        data: folder of a data set of one's own. Defaults to None, the student's.
        classes: of the data, in order. Defaults to None, all of its categories.
        force: overwrite files that are there. Defaults to False.
        description: a JSON file that describes an ONNX file of another program. Defaults to None.
    """

    teacher: str
    student: str
    out: Path
    configs: Path
    teacher_ckpt: str | None = None
    method: str | None = None
    data: Path | None = None
    classes: Sequence[str] | None = None
    force: bool = False
    description: Path | None = None

    @property
    def given(self) -> Any:
        """The teacher, if it is known by its detections, as a pair names it; else None."""
        if self.description is not None:
            return dict(onnx=self.teacher, description=str(self.description))
        return self.teacher if is_given(self.teacher) else None


def method_distiller(configs: Path, method: Method) -> Any:
    """The distiller of a method, as its file says it."""
    return read_config(configs / f'_base_/methods/{method.name}.py').distiller


def at_necks(distiller: Any, models: Sequence[nn.Module]) -> bool:
    """Let features be those that the heads read; whether that changes the distiller."""
    sides = [distiller.get(f'{side}_recorders') or {} for side in ('student', 'teacher')]
    features: list[Any] = [side.get('feature') or {} for side in sides]
    if any(getattr(model, 'neck', None) is None for model in models) or any(
        (f.get('type'), f.get('source')) != ('ModuleOutputs', 'backbone') for f in features
    ):
        return False
    for feature in features:
        feature.source = 'neck'
    return True


def pair_text(
    request: Request,
    method: Method,
    data: OwnData | None,
    models: Sequence[Any],
    teacher: Any,
    ckpt: str | None,
    own: Sequence[str] = (),
    settings: Mapping[str, Any] | None = None,
    shown: Path | None = None,
) -> str:
    """The text of the pair's config.

    Args:
        request: what was asked for.
        method: the chosen one.
        data: of one's own, if any.
        models: the built student and teacher.
        teacher: as the file names it.
        ckpt: the teacher's checkpoint; None for one that has no weights.
        own: lines of the config before its model. Defaults to none.
        settings: further arguments of ``pair``. Defaults to None.
        shown: the file as its docstring names it. Defaults to None, as it is written.
    """
    kinds = [head_name(model).removesuffix('Head') for model in models]
    if request.given is not None:
        kinds[1] = in_docstring(Path(request.teacher).name)
    on = f' on {in_docstring(data.root.name)}' if data is not None else ''
    where = 'mmkd::' if not _is_inside(request.out, request.configs) else './'
    bases = [_base(request.student, request), f'{where}_base_/methods/{method.name}.py']
    title = f'"""{kinds[1]} teaches {kinds[0]}{on}: '
    fits = len(title) + len(method.teaches) < 100
    lines = [
        f'{title}{method.teaches if fits else method.name}.',
        '',
        f'mmkd train {in_docstring(shlex.quote((shown or request.out).as_posix()))}',
        'Expected: not run.',
        '"""',
        '',
        f'_base_ = {bases!r}',
        f'from mmkd.config import {"pair" if data is None else "pair, set_classes"}',
        '',
    ]
    lines += [*own, *_data_of(request.student, data, request)]
    if at_necks(method_distiller(request.configs, method), models):
        lines += [
            f"_base_.distiller.{side}_recorders.feature.source = 'neck'"
            for side in ('student', 'teacher')
        ]
    lines += [
        'model = pair(',
        '    _base_,',
        f'    teacher={teacher!r},',
        *([] if ckpt is None else [f'    teacher_ckpt={ckpt!r},']),
        *(f'    {key}={value!r},' for key, value in (settings or {}).items()),
        ')',
    ]
    return '\n'.join(lines) + '\n'


def teacher_text(request: Request, data: OwnData) -> str:
    """The text of the config of a teacher on data of one's own."""
    out = request.out.with_name(f'{request.out.stem}_teacher.py')
    lines = [
        f'"""The teacher of {in_docstring(f"{request.out.name} on {data.root.name}")}.',
        '',
        f'mmkd train {in_docstring(shlex.quote(out.as_posix()))}',
        'Expected: not run.',
        '"""',
        '',
        f'_base_ = {_base(request.teacher, request)!r}',
        'from mmkd.config import set_classes',
        '',
        work_dir_line(out),
        *_data_of(request.teacher, data, request),
    ]
    return '\n'.join(lines) + '\n'


def in_docstring(text: str) -> str:
    r"""Text as it stands between three quotation marks, so that it reads as it is.

    >>> print(in_docstring(r'a\users'))
    a\\users
    """
    return text.replace('\\', '\\\\').replace('"""', r'\"\"\"')


def work_dir_line(out: Path) -> str:
    """Where a file that is one of two trains to, wherever the command is run from."""
    return f'work_dir = {_FOLDER + "work_dirs/" + out.stem!r}'


def last_checkpoint(teacher: Config, path: Path) -> str:
    """Where a teacher that is yet to be trained ends, as the written file names it."""
    loop = teacher.get('train_cfg') or {}
    epochs, iters = loop.get('max_epochs'), loop.get('max_iters')
    name = f'epoch_{epochs}' if epochs else f'iter_{iters}'
    return f'{_FOLDER}work_dirs/{path.stem}/{name}.pth'


def _data_of(source: str, data: OwnData | None, request: Request) -> Iterator[str]:
    if data is not None:
        config = read_config(source)
        yield from data_lines(config, data, located(data.root, request))
        if scaled_from(config):
            yield '# One process or several: the learning rate is scaled by the images of a step.'
            yield 'auto_scale_lr = dict(enable=True)'
        yield 'set_classes(_base_.model, len(classes))'


def scaled_from(config: Config) -> int | None:
    """The images of a step that a config's learning rate is meant for, if it says so."""
    found: int | None = (config.get('auto_scale_lr') or {}).get('base_batch_size')
    return found


def unscaled(request: Request) -> list[str]:
    """Installed configs to train that do not say for how many images their learning rate is."""
    trained = [('student', request.student)]
    if request.teacher_ckpt is None and request.given is None:
        trained.insert(0, ('teacher', request.teacher))
    return [
        f'{what}: auto_scale_lr.base_batch_size is missing in "{source}", so its learning rate '
        'stays that of its authors, mostly for 8 processes. Set optim_wrapper.optimizer.lr for '
        'fewer.'
        for what, source in trained
        if '::' in source and not scaled_from(read_config(source))
    ]


def _base(source: str, request: Request) -> str:
    """A config as ``_base_`` of the written file names it."""
    named = named_from(source, request)
    return named.replace(_FOLDER, '' if named.startswith(f'{_FOLDER}../') else './')


def teacher_from(request: Request) -> Any:
    """The teacher as the written file names it."""
    named = named_from(request.teacher, request)
    if request.description is None:
        return named
    return dict(onnx=named, description=named_from(str(request.description), request))


def named_from(source: str, request: Request) -> str:
    """A config as the written file names it: a package's by its name, a file from its folder."""
    if '::' in source:
        return source
    path, folder = Path(source).resolve(), request.out.resolve().parent
    if _is_inside(path, request.configs) and not _is_inside(request.out, request.configs):
        return f'mmkd::{path.relative_to(request.configs.resolve()).as_posix()}'
    return _FOLDER + Path(os.path.relpath(path, folder)).as_posix()


def located(path: str | Path, request: Request) -> str:
    """Data or weights as the written file names them: from its folder, unless they are absolute."""
    if is_address(str(path)) or Path(path).is_absolute():
        return str(path) if is_address(str(path)) else Path(path).as_posix()
    there = Path.cwd() / path  # a link stays one
    return _FOLDER + Path(os.path.relpath(there, request.out.resolve().parent)).as_posix()


def _is_inside(path: Path, folder: Path) -> bool:
    return path.resolve().is_relative_to(folder.resolve())
