"""What a round trains and in which order: updates, the items of an update, and each process's share of them.

The plan follows from the seed, the groups and the parameters alone. How many processes there are, or where an earlier
attempt was killed, does not change it.
"""

from __future__ import annotations

import random
from collections import deque
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass
from functools import lru_cache
from itertools import islice
from pathlib import Path
from typing import TypeVar

from d3po_core.params import TrainingParams
from d3po_core.preferences import Pair
from d3po_core.trajectory import Trajectory

UPDATES_AHEAD = 2
Given = TypeVar("Given")
Loaded = TypeVar("Loaded")


@dataclass(frozen=True)
class TrainingGroup:
    """A stored trajectory, and what is known of its images, which are named by position 0..N-1.

    `sha256` is what `Trajectory.save` returned; None: the file is not checked against it. `pairs`: what votes left. `scores`:
    one finite number an image, higher is better, for the algorithms that learn from scores; None: those that the pairs leave,
    `preferences.scores_of`. `weight`: of its loss beside the other groups', positive; 1 for all unless some are trusted less.
    """

    path: Path
    sha256: str | None
    pairs: Sequence[Pair] = ()
    scores: Sequence[float] | None = None
    weight: float = 1.0


@dataclass(frozen=True)
class Item:
    """One timestep of one group: what is evaluated at once. `group` and `step` are indices."""

    group: int
    step: int


class Plan:
    """All updates of a round. `trainable[g]`: the steps of group g that have a density, noisiest first.

    Every epoch shuffles the groups and takes `groups_per_update` of them at a time (the last time fewer); each group has a
    timestep permutation of its own, `timesteps_per_update` of which (None: all) make an update.
    """

    def __init__(self, trainable: Sequence[tuple[int, ...]], params: TrainingParams) -> None:
        self.trainable, self.params = trainable, params

    def __iter__(self) -> Iterator[list[Item]]:
        together = self.params.groups_per_update
        for epoch in range(self.params.epochs):
            order = random.Random(f"{self.params.seed} {epoch}").sample(range(len(self.trainable)), len(self.trainable))
            for first in range(0, len(order), together):
                steps = {group: self._permutation(epoch, group) for group in order[first : first + together]}
                longest = max(map(len, steps.values()))
                at_once = self.params.timesteps_per_update or longest
                for start in range(0, longest, at_once):
                    yield [Item(group, step) for group, taken in steps.items() for step in taken[start : start + at_once]]

    def __len__(self) -> int:
        """The number of updates."""
        return sum(1 for _ in self)

    def _permutation(self, epoch: int, group: int) -> list[int]:
        noisiest = trained_steps(self.trainable[group], self.params)
        return random.Random(f"{self.params.seed} {epoch} {group}").sample(noisiest, len(noisiest))


def trained_steps(trainable: Sequence[int], params: TrainingParams) -> Sequence[int]:
    """The noisiest `timestep_fraction` of the steps that have a density, at least one."""
    return trainable[: max(1, round(params.timestep_fraction * len(trainable)))]


def share(items: Sequence[Item], process: int, processes: int) -> Sequence[Item]:
    """The items of one process: consecutive, of almost equal number, empty where there are fewer items than processes."""
    return items[len(items) * process // processes : len(items) * (process + 1) // processes]


@dataclass(frozen=True)
class Visit:
    """An item of this process, with its trajectory."""

    item: Item
    trajectory: Trajectory


@dataclass(frozen=True)
class Update:
    """This process's visits of one update, and how many items the update has over all processes."""

    visits: list[Visit]
    items: int


def visited(
    plan: Plan, groups: Sequence[TrainingGroup], first: int = 0, process: int = 0, processes: int = 1
) -> Iterator[Update]:
    """The updates from number `first` on, as one process sees them; a thread reads the next ones meanwhile.

    Trajectories are memory-mapped and only those of a few updates are held, however many groups there are.
    """
    load = lru_cache(maxsize=plan.params.groups_per_update * (UPDATES_AHEAD + 1))(Trajectory.load)

    def read(items: list[Item]) -> Update:
        return Update([Visit(item, load(groups[item.group].path)) for item in share(items, process, processes)], len(items))

    return read_ahead(islice(plan, first, None), read)


def read_ahead(given: Iterator[Given], load: Callable[[Given], Loaded]) -> Iterator[Loaded]:
    """load(x) of every x in order, UPDATES_AHEAD of them running in a thread before they are asked for."""
    with ThreadPoolExecutor(1, "read-ahead") as reader:
        coming: deque[Future[Loaded]] = deque(reader.submit(load, x) for x in islice(given, UPDATES_AHEAD))
        while coming:
            coming.extend(reader.submit(load, x) for x in islice(given, 1))
            yield coming.popleft().result()
