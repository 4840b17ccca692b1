"""Which distillation terms teach nothing, over the first batches of a run and after them."""

from collections.abc import Iterable, Mapping

import torch
from mmengine.dist import all_reduce

#: Batches that hold objects, in each of which a term must be idle before it is called so.
PATIENCE = 10


class IdleTerms:
    """Counts the batches in which a term's value and gradient are exactly 0.

    A term is at work once it is not 0 on some rank. Until then it is judged over all ranks: only
    batches with objects count, and not those of which the loss itself says that there is nothing
    to teach. After that a rank looks at its own batches alone.

    Args:
        at_work: terms that have been at work before.
    """

    def __init__(self, at_work: Iterable[str] = ()) -> None:
        self.at_work = set(at_work)
        self.told: set[str] = set()
        self.idle: dict[str, int] = {}  # batches in a row
        self.excused: dict[str, int] = {}

    def add(self, found: Mapping[str, str], objects: int) -> tuple[list[str], list[str]]:
        """Take in a step.

        Args:
            found: of each term with a weight 'works', 'idle', 'excused', or 'unknown', where its
                value is 0 and nothing else was looked at. The same terms on all ranks.
            objects: in this rank's batch.

        Returns:
            tuple: the terms that have never taught anything in ``PATIENCE`` batches, the same on
            all ranks; and those of which it is now to be told, once, that they have not taught
            anything for as long.
        """
        fresh = [name for name in found if name not in self.at_work]
        lost: list[str] = []
        quiet: list[str] = []
        if fresh:
            lost, quiet = self._judge(fresh, found, objects)
        for name in [name for name in found if name not in fresh and objects]:
            self.idle[name] = self.idle.get(name, 0) + 1 if found[name] == 'idle' else 0
            self.excused[name] = self.excused.get(name, 0) + 1 if found[name] == 'excused' else 0
            if max(self.idle[name], self.excused[name]) >= PATIENCE:
                quiet.append(name)
        quiet = [name for name in quiet if name not in self.told]
        self.told.update(quiet)
        return lost, quiet

    def _judge(
        self, fresh: list[str], found: Mapping[str, str], objects: int
    ) -> tuple[list[str], list[str]]:
        counts = torch.tensor(
            [
                [
                    found[name] == 'works',
                    bool(objects) and found[name] in ('idle', 'unknown'),
                    bool(objects) and found[name] == 'excused',
                ]
                for name in fresh
            ],
            dtype=torch.float32,
        )
        all_reduce(counts)
        for name, (works, idle, excused) in zip(fresh, counts.tolist(), strict=True):
            if works:
                self.at_work.add(name)
                self.idle[name] = self.excused[name] = 0
            elif idle:
                self.idle[name] = self.idle.get(name, 0) + 1
            elif excused:
                self.excused[name] = self.excused.get(name, 0) + 1
        waiting = [name for name in fresh if name not in self.at_work]
        lost = [name for name in waiting if self.idle.get(name, 0) >= PATIENCE]
        quiet = [name for name in waiting if self.excused.get(name, 0) >= PATIENCE]
        return lost, quiet
