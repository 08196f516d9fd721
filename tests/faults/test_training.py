"""Training that is cancelled, and training that is killed."""

from __future__ import annotations

import httpx
import pytest

from tests.stack import Up, answer, eventually, round_ended, vote_on_everything

pytestmark = [pytest.mark.stack, pytest.mark.xdist_group("faults"), pytest.mark.timeout(600)]


@pytest.fixture
def votes(api: httpx.Client, project_id: str) -> int:
    """Votes on two fresh groups of the current policy."""
    policy = {"checkpoint_id": "current", "prompts": ["a fish", "a cat"], "num_inference_steps": 4}
    drawn = answer(api.post(f"/projects/{project_id}/sample-rounds", json=policy))
    assert round_ended(api, drawn["id"])["state"] == "done"
    return vote_on_everything(api, project_id)


def begun_training(api: httpx.Client, project_id: str, epochs: int) -> str:
    """The id of a training round that has logged its first steps."""
    body = {"epochs": epochs, "timesteps_per_update": 1, "votes": "new"}
    launched = answer(api.post(f"/projects/{project_id}/training-rounds", json=body))
    eventually(lambda: answer(api.get(f"/rounds/{launched['id']}"))["progress"]["done"] > 2)
    return str(launched["id"])


def made_by(api: httpx.Client, project_id: str, round_id: str) -> int:
    """How many checkpoints are this round's; other tests train in the same project."""
    made = answer(api.get(f"/projects/{project_id}/checkpoints"))["items"]
    return [checkpoint["round_id"] for checkpoint in made].count(round_id)


def test_a_cancelled_training_stops_within_seconds(up: Up, api: httpx.Client, project_id: str, votes: int) -> None:
    round_id = begun_training(api, project_id, epochs=100)
    assert up.find("worker.train")
    answer(api.post(f"/rounds/{round_id}/cancel"))
    eventually(lambda: up.find("worker.train") is None, 60)
    ended = round_ended(api, round_id)
    assert (ended["state"], ended["message"]) == ("cancelled", "Cancelled by admin. The votes are kept. Retry runs the rest.")
    assert made_by(api, project_id, round_id) == 0


@pytest.mark.heavy
def test_a_killed_training_process_is_started_again(up: Up, api: httpx.Client, project_id: str, votes: int) -> None:
    round_id = begun_training(api, project_id, epochs=10)
    launcher = up.find("accelerate", "worker.train")
    assert launcher is not None
    for process in [*launcher.children(recursive=True), launcher]:
        process.kill()
    assert round_ended(api, round_id)["state"] == "done"
    assert made_by(api, project_id, round_id) == 1
