"""Training that is cancelled, and training that is killed."""

from __future__ import annotations

from typing import Any

import httpx
import pytest

from tests.stack import Up, answer, eventually, round_ended, vote_on_everything

pytestmark = [pytest.mark.stack, pytest.mark.xdist_group("faults"), pytest.mark.timeout(600)]


@pytest.fixture
def long_training(api: httpx.Client, project_id: str) -> dict[str, Any]:
    """A training round that has logged its first steps and would take minutes."""
    policy = {"checkpoint_id": "current", "prompts": ["a fish", "a cat"], "num_inference_steps": 4}
    drawn = answer(api.post(f"/projects/{project_id}/sample-rounds", json=policy))
    assert round_ended(api, drawn["id"])["state"] == "done"
    vote_on_everything(api, project_id)
    launched = dict(answer(api.post(f"/projects/{project_id}/training-rounds", json={"epochs": 100, "timesteps_per_update": 1})))
    eventually(lambda: answer(api.get(f"/rounds/{launched['id']}"))["progress"]["done"] > 2)
    return launched


def test_a_cancelled_training_stops_within_seconds(
    up: Up, api: httpx.Client, long_training: dict[str, Any], project_id: str
) -> None:
    assert up.find("worker.train")
    answer(api.post(f"/rounds/{long_training['id']}/cancel"))
    eventually(lambda: up.find("worker.train") is None, 60)
    ended = round_ended(api, long_training["id"])
    assert (ended["state"], ended["message"]) == ("cancelled", "Cancelled by admin. The votes are kept. Retry runs the rest.")
    assert answer(api.get(f"/projects/{project_id}/checkpoints"))["items"] == []


def test_a_killed_training_process_is_started_again(
    up: Up, api: httpx.Client, long_training: dict[str, Any], project_id: str
) -> None:
    child = up.find("python", "-m worker.train") or up.find("worker.train")
    assert child is not None
    for process in [*child.children(recursive=True), child]:
        process.kill()
    assert round_ended(api, long_training["id"])["state"] == "done"
    assert len(answer(api.get(f"/projects/{project_id}/checkpoints"))["items"]) == 1
