from __future__ import annotations

import threading
from itertools import chain

import pytest

from d3po_core.params import TrainingParams
from d3po_core.plan import Item, Plan, read_ahead, share, visited
from tests.core.conftest import Sampled

PARAMS = TrainingParams(epochs=2, timesteps_per_update=3, groups_per_update=2, timestep_fraction=1)
TRAINABLE = [(0, 1, 2, 3)] * 4 + [(1, 2, 3)]


def test_every_timestep_of_every_group_is_taken_once_an_epoch() -> None:
    plan = Plan(TRAINABLE, PARAMS)
    updates = list(plan)
    assert len(plan) == len(updates) == 2 * len(updates[: len(updates) // 2])
    everything = sorted((group, step) for group, steps in enumerate(TRAINABLE) for step in steps)
    for epoch in (updates[: len(updates) // 2], updates[len(updates) // 2 :]):
        assert sorted((item.group, item.step) for item in chain(*epoch)) == everything
        assert {len({item.group for item in items}) for items in epoch} <= {1, 2}


def test_an_update_takes_so_many_timesteps_of_so_many_groups() -> None:
    sizes = [len(items) for items in Plan(TRAINABLE[:4], PARAMS.model_copy(update={"epochs": 1}))]
    assert sizes == [6, 2, 6, 2]


def test_an_update_takes_all_timesteps_unless_told_otherwise() -> None:
    sizes = [len(items) for items in Plan(TRAINABLE[3:], TrainingParams(groups_per_update=2, timestep_fraction=1))]
    assert sizes == [4 + 3]
    assert sorted(len(items) for items in Plan(TRAINABLE[3:], TrainingParams(timestep_fraction=1))) == [3, 4]


def test_the_order_follows_from_the_seed() -> None:
    assert list(Plan(TRAINABLE, PARAMS)) == list(Plan(TRAINABLE, PARAMS))
    assert list(Plan(TRAINABLE, PARAMS)) != list(Plan(TRAINABLE, PARAMS.model_copy(update={"seed": 1})))


def test_only_the_noisiest_timesteps_are_taken() -> None:
    half = PARAMS.model_copy(update={"timestep_fraction": 0.5})
    assert {item.step for item in chain(*Plan(TRAINABLE[:4], half))} == {0, 1}


@pytest.mark.parametrize("processes", [1, 2, 3, 7])
@pytest.mark.parametrize("count", [0, 1, 2, 5, 12])
def test_the_shares_of_all_processes_are_the_update(processes: int, count: int) -> None:
    items = [Item(k, 0) for k in range(count)]
    shares = [share(items, process, processes) for process in range(processes)]
    assert list(chain(*shares)) == items
    assert max(map(len, shares)) - min(map(len, shares)) <= 1


def test_a_process_sees_its_share_of_what_is_left(sampled: Sampled) -> None:
    params = PARAMS.model_copy(update={"epochs": 1})
    plan = Plan([(0, 1, 2, 3)] * 2, params)
    seen = list(visited(plan, sampled.stored, first=1, process=1, processes=2))
    expected = [share(items, 1, 2) for items in list(plan)[1:]]
    assert [[visit.item for visit in update.visits] for update in seen] == [list(items) for items in expected]
    assert [update.items for update in seen] == [len(items) for items in list(plan)[1:]]
    for visit in chain(*(update.visits for update in seen)):
        assert visit.trajectory.header == sampled.groups[visit.item.group].trajectory.header


def test_the_next_things_are_read_in_another_thread_before_they_are_asked_for() -> None:
    begun = [threading.Event() for _ in range(4)]

    def load(k: int) -> tuple[int, int]:
        begun[k].set()
        return k, threading.get_ident()

    reading = read_ahead(iter(range(4)), load)
    first, thread = next(reading)
    assert first == 0
    assert thread != threading.get_ident()
    assert begun[1].wait(5)
    assert begun[2].wait(5)
    assert not begun[3].is_set()
    assert [k for k, _ in reading] == [1, 2, 3]


def test_what_breaks_while_reading_ahead_is_raised_in_its_turn() -> None:
    def load(k: int) -> int:
        return 1 // k

    reading = read_ahead(iter([1, 0]), load)
    assert next(reading) == 1
    with pytest.raises(ZeroDivisionError):
        next(reading)
