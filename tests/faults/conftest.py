"""One running stack for all accidents, and a project on it whose rounds take a little while."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import httpx
import pytest

from tests.stack import Up, answer, running


@pytest.fixture(scope="session")
def up(tmp_path_factory: pytest.TempPathFactory, tiny_model: Path) -> Iterator[Up]:
    with running(tmp_path_factory.mktemp("faults") / "data", tiny_model) as up:
        yield up


@pytest.fixture(scope="session")
def api(up: Up) -> Iterator[httpx.Client]:
    with up.api() as client:
        yield client


@pytest.fixture(scope="session")
def project_id(up: Up, api: httpx.Client) -> str:
    """Its first round, which the demo project began, is cancelled: the worker is free."""
    [demo] = answer(api.get("/projects"))
    [first] = answer(api.get(f"/projects/{demo['id']}/rounds"))["items"]
    answer(api.post(f"/rounds/{first['id']}/cancel"))
    return str(answer(api.post("/projects", json={"name": "faults", "mode": "pairwise"}))["id"])


@pytest.fixture
def slow_round(api: httpx.Client, project_id: str) -> dict[str, Any]:
    """Seven groups in three jobs, seconds each."""
    body = {"prompts": [f"fish {number}" for number in range(7)], "num_inference_steps": 50, "guidance_scale": 1}
    return dict(answer(api.post(f"/projects/{project_id}/sample-rounds", json=body)))
