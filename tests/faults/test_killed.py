"""Processes that are killed while a round runs: the work is picked up again by itself, and nothing is done twice."""

from __future__ import annotations

import shutil
import signal
from typing import Any

import httpx
import psutil
import pytest

from tests.stack import Up, answer, eventually, round_ended, vote_on_everything

pytestmark = [pytest.mark.stack, pytest.mark.xdist_group("faults"), pytest.mark.timeout(600)]


def groups_landed(api: httpx.Client, round_id: str) -> int:
    return int(answer(api.get(f"/rounds/{round_id}"))["progress"]["done"])


def midway(api: httpx.Client, round_id: str) -> None:
    """The first job is done and the next one has begun."""
    eventually(lambda: groups_landed(api, round_id) > 0)


def assert_whole(api: httpx.Client, round_id: str) -> None:
    ended = round_ended(api, round_id)
    assert (ended["state"], ended["progress"]["done"], ended["progress"]["total"]) == ("done", 7, 7), ended["message"]


def test_a_worker_killed_in_the_middle_of_a_round(up: Up, api: httpx.Client, slow_round: dict[str, Any]) -> None:
    midway(api, slow_round["id"])
    worker = up.find("-m worker")
    assert worker is not None
    family = worker.children(recursive=True)
    worker.kill()
    psutil.wait_procs(family, timeout=5)
    assert not [process for process in family if process.is_running()], "the pool process outlived its worker"
    assert_whole(api, slow_round["id"])
    assert any("The worker stopped by itself (signal SIGKILL); starting it again." in line for line in up.said)


def test_a_pool_process_killed_in_the_middle_of_a_round(up: Up, api: httpx.Client, slow_round: dict[str, Any]) -> None:
    midway(api, slow_round["id"])
    worker = up.find("-m worker")
    assert worker is not None
    worker.children()[0].kill()
    assert_whole(api, slow_round["id"])


def test_a_frozen_worker_that_wakes_up_after_its_job_went_to_another(
    up: Up, api: httpx.Client, slow_round: dict[str, Any], project_id: str
) -> None:
    midway(api, slow_round["id"])
    worker = up.find("-m worker")
    assert worker is not None
    pool = worker.children()[0]
    pool.suspend()
    eventually(lambda: _failures(up, slow_round["id"]) == 1, 30)
    pool.resume()
    assert_whole(api, slow_round["id"])
    assert vote_on_everything(api, project_id) >= 7


@pytest.mark.heavy
def test_a_broker_that_lost_everything(up: Up, api: httpx.Client, slow_round: dict[str, Any]) -> None:
    midway(api, slow_round["id"])
    broker = up.find("valkey-server")
    assert broker is not None
    shutil.rmtree(up.data_dir / "broker" / "appendonlydir")
    broker.send_signal(signal.SIGKILL)
    assert_whole(api, slow_round["id"])


def _failures(up: Up, round_id: str) -> int:
    from sqlalchemy import func, select

    from server.db import make_engine
    from server.models import Job

    engine = make_engine(f"sqlite:///{up.data_dir / 'd3po.db'}")
    with engine.execution_options(sqlite_begin="DEFERRED").connect() as connection:
        failures = connection.scalar(select(func.sum(Job.failures)).where(Job.round_id == round_id))
    engine.dispose()
    return int(failures or 0)
