"""Filling a cache: the teacher runs once over every view."""

import multiprocessing
import os
import shutil
import time
from collections.abc import Sequence
from concurrent.futures import ProcessPoolExecutor
from pathlib import Path
from typing import Any

import torch
from mmengine.config import Config
from mmengine.logging import print_log
from mmengine.registry import MODELS, init_default_scope

from mmkd.cache.cached_teacher import algorithm_key, cache_config
from mmkd.cache.key import check_key, data_key
from mmkd.cache.record import RecordLayout, plan_fields
from mmkd.cache.store import Store, read_index, write_index
from mmkd.cache.views import (
    FixedViews,
    build_collate,
    check_repeatable,
    fingerprint,
    image_dataset,
)
from mmkd.config.given_teacher import is_given
from mmkd.datasets.data_checks import name_classes
from mmkd.datasets.data_samples import boxes_of
from mmkd.datasets.mixed_batches import mixed_loader
from mmkd.teachers.teacher_list import read_teachers


class Filler:
    """The teacher and the views in one process.

    Args:
        cfg (Config): of the pair.
        views (int): views per image.
        seed (int): of the views.
        device (str): where the teacher runs.
    """

    def __init__(self, cfg: Config, views: int, seed: int, device: str) -> None:
        init_default_scope(cfg.get('default_scope', 'mmdet'))
        name_classes(cfg)
        model = {k: v for k, v in cfg.model.items() if k != 'teacher_cache'}
        self.model = MODELS.build(model).to(device)
        dataset = image_dataset(cfg.train_dataloader.dataset)
        self.views = FixedViews(dataset, views, seed)
        self.model.check_data_origin(cfg, self.views.dataset.metainfo.get('classes'))
        self.collate = build_collate(cfg.train_dataloader)

    def look(self, items: Sequence[int]) -> tuple[list[int], Any]:
        """Let the teacher look at ``items``; fingerprints of the views and a codec's context."""
        views = [self.views[item] for item in items]
        fingerprints = [fingerprint(view) for view in views]
        ground_truth = [boxes_of(view['data_samples']) for view in views]
        batch = self.model.data_preprocessor(self.collate(views), True)
        with self.model.distiller.teacher_recorders:
            self.model.teacher_source.networks(batch['inputs'], batch['data_samples'])
        head = getattr(self.model.student, 'bbox_head', None)
        return fingerprints, (getattr(head, 'prior_generator', None), ground_truth)

    def write(self, items: Sequence[int], store: Store, layout: RecordLayout) -> int:
        """Cache ``items``; how many they are."""
        fingerprints, context = self.look(items)
        records = layout.encode(self.model.distiller.teacher_recorders, context).cpu().numpy()
        for item, view, record in zip(items, fingerprints, records, strict=True):
            store.write(item, view, record)
        return len(items)


def fill_cache(
    cfg: Config,
    folder: str,
    views: int,
    seed: int = 0,
    processes: int = 1,
    batch_size: int = 8,
    dry_run: bool = False,
) -> None:
    """Fill the cache of a pair, or what an earlier call left open.

    The need of disk is printed before anything is written; progress while it is filled.

    Args:
        cfg: of the pair; ``model.teacher_cache`` may choose codecs.
        folder: of the cache.
        views: V, views per image.
        seed: of the views. Defaults to 0.
        processes: each with a teacher of its own, on the GPUs in turn. Defaults to 1.
        batch_size: views that the teacher sees at once. Defaults to 8.
        dry_run: only print what would be done. Defaults to False.

    Raises:
        ValueError: the pipeline is not repeatable, the folder holds another cache, the teacher
            has no checkpoint.
        OSError: there is not enough room.
    """
    if views < 1:
        raise ValueError(f'a cache needs at least one view per image, but got {views}.')
    entries = read_teachers(cfg.model.teacher, cfg.model.get('teacher_ckpt'))
    networks = [entry for entry in entries if not is_given(entry.model)]
    if not networks:
        raise ValueError(
            'a cache spares a network from running, but the teacher is known by its detections '
            'alone. Train without a cache.'
        )
    if not all(entry.ckpt for entry in networks):
        raise ValueError('a teacher worth caching has weights: set model.teacher_ckpt.')
    cfg.train_dataloader = mixed_loader(cfg)
    filler = Filler(cfg, views, seed, _device(0))
    check_repeatable(cfg, filler.model)
    layout, key = _describe(cfg, filler, views, seed)
    store = Store(folder, layout.nbytes, len(filler.views), key)
    if Path(folder, 'cache.json').exists():
        check_key(folder, read_index(folder)['key'], key)
    todo = store.missing()
    _check_room(store, layout, len(todo), views)
    if dry_run:
        return
    index = dict(key=key, views=views, seed=seed, fields=layout.fields, complete=False)
    write_index(folder, index)
    batches = [todo[i : i + batch_size] for i in range(0, len(todo), batch_size)]
    progress = _Progress(len(todo))
    if processes == 1:
        for batch in batches:
            progress.add(filler.write(batch, store, layout))
    else:
        del filler
        spawn = multiprocessing.get_context('spawn')
        numbers = spawn.SimpleQueue()
        for number in range(processes):
            numbers.put(number)
        start = (cfg, views, seed, store, layout.fields, processes, numbers)
        with ProcessPoolExecutor(processes, spawn, _start, start) as pool:
            for done in pool.map(_write, batches):
                progress.add(done)
    write_index(folder, {**index, 'complete': True})
    print_log(f'Complete. In the config of the pair: model.teacher_cache = {folder!r}', 'current')


def _describe(
    cfg: Config, filler: Filler, views: int, seed: int
) -> tuple[RecordLayout, dict[str, Any]]:
    _, codecs = cache_config(cfg.model.get('teacher_cache') or '')
    fields = plan_fields(filler.model.distiller, filler.model.student, codecs)
    first, _ = filler.look([0])
    layout = RecordLayout.of(fields, filler.model.distiller.teacher_recorders)
    again = [fingerprint(filler.views[item]) for item in (len(filler.views) - 1, 0)]
    if again[1:] != first:
        raise ValueError(
            'a teacher cache needs views that follow from image id, view and seed alone, but '
            'drawing a view twice gave two images: a transform of the pipeline has random numbers '
            'of its own, or remembers. Leave it out, or train without teacher_cache.'
        )
    dataset = image_dataset(cfg.train_dataloader.dataset)
    key = {
        **algorithm_key(filler.model.teacher_source, fields),
        **data_key(dataset, filler.views.dataset, views, seed),
    }
    return layout, key


def _check_room(store: Store, layout: RecordLayout, todo: int, views: int) -> None:
    parent = next(p for p in (store.folder, *store.folder.absolute().parents) if p.exists())
    free, need = shutil.disk_usage(parent).free, todo * store.slot_bytes
    print_log(
        f'{store.count} views ({views} of each image) of {store.slot_bytes} bytes: '
        f'{store.count * store.slot_bytes / 1e9:.3f} GB in {store.folder}. Bytes of a view: '
        f'{layout.describe()}. To be filled: {todo} views, {need / 1e9:.3f} GB; free: '
        f'{free / 1e9:.1f} GB',
        'current',
    )
    if need > free:
        raise OSError(
            f'a cache must fit on the disk, but {need / 1e9:.1f} GB are to be filled and '
            f'{free / 1e9:.1f} GB are free in {parent}. Take fewer --views or another --out.'
        )


class _Progress:
    """Prints every ten seconds, and at the end, how far it is and how long it will take."""

    def __init__(self, total: int) -> None:
        self.total, self.done = total, 0
        self.start = self.shown = 0.0
        self.first = 0

    def add(self, number: int) -> None:
        self.done += number
        now = time.monotonic()
        if not self.first:  # the time that it took to start says nothing
            self.first, self.start, self.shown = number, now, now
        if now - self.shown < 10 and self.done < self.total:
            return
        self.shown = now
        rate = max(self.done - self.first, 1) / max(now - self.start, 1e-3)
        minutes, seconds = divmod(round((self.total - self.done) / rate), 60)
        print_log(
            f'{self.done} of {self.total} views, {rate:.1f} views/s, {minutes}:{seconds:02d} left',
            'current',
        )


def _device(number: int) -> str:
    gpus = torch.cuda.device_count()
    return f'cuda:{number % gpus}' if gpus else 'cpu'


_PROCESS: dict[str, Any] = {}


def _start(
    cfg: Config,
    views: int,
    seed: int,
    store: Store,
    fields: list[Any],
    processes: int,
    numbers: Any,
) -> None:

    torch.set_num_threads(max(1, (os.cpu_count() or 1) // processes))
    filler = Filler(cfg, views, seed, _device(numbers.get()))
    _PROCESS.update(filler=filler, store=store, layout=RecordLayout(fields))


def _write(items: Sequence[int]) -> int:
    return _PROCESS['filler'].write(items, _PROCESS['store'], _PROCESS['layout'])
