"""One running stack for all accidents, and a project on it whose rounds take a little while."""

from __future__ import annotations

import json
from collections.abc import Iterator
from contextlib import ExitStack
from pathlib import Path
from typing import Any

import httpx
import pytest

from tests.disks import Disk, small_disk
from tests.factories.scorer_server import ScorerServer, scorer_server
from tests.stack import Up, answer, running


@pytest.fixture(scope="session")
def data_dir(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("faults") / "data"


@pytest.fixture(scope="session")
def mounted(data_dir: Path) -> Iterator[Disk | None]:
    """The small disk that the whole stack writes to; None where this user may not mount one."""
    with ExitStack() as stack:
        try:
            disk = stack.enter_context(small_disk(data_dir, "128m"))
        except pytest.skip.Exception:
            disk = None
        yield disk


@pytest.fixture(scope="session")
def scorer() -> Iterator[ScorerServer]:
    with scorer_server() as scorer:
        yield scorer


@pytest.fixture(scope="session")
def up(data_dir: Path, mounted: Disk | None, tiny_model: Path, scorer: ScorerServer) -> Iterator[Up]:
    registered = {"elsewhere": {"reward": "http", "url": scorer.url, "attempts": 2, "pause": 0.1}}
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("D3PO_REWARDS", json.dumps(registered))
        with running(data_dir, tiny_model) as up:
            yield up


@pytest.fixture
def disk(mounted: Disk | None) -> Iterator[Disk]:
    if mounted is None:
        pytest.skip("No small disk can be mounted here.")
    yield mounted
    mounted.free()


@pytest.fixture(scope="session")
def api(up: Up) -> Iterator[httpx.Client]:
    with up.api() as client:
        yield client


@pytest.fixture(scope="session")
def project_id(up: Up, api: httpx.Client) -> str:
    """Its first round, which the demo project began, is cancelled: the worker is free."""
    [demo] = answer(api.get("/projects"))["items"]
    [first] = answer(api.get(f"/projects/{demo['id']}/rounds"))["items"]
    answer(api.post(f"/rounds/{first['id']}/cancel"))
    return str(answer(api.post("/projects", json={"name": "faults", "mode": "pairwise"}))["id"])


@pytest.fixture
def slow_round(api: httpx.Client, project_id: str) -> dict[str, Any]:
    """Seven groups in three jobs, seconds each."""
    body = {"prompts": [f"fish {number}" for number in range(7)], "num_inference_steps": 50, "guidance_scale": 1}
    return dict(answer(api.post(f"/projects/{project_id}/sample-rounds", json=body)))
