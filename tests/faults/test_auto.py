"""An auto round whose worker is killed while it trains. Nobody starts anything again."""

from __future__ import annotations

from typing import Any

import httpx
import pytest

from tests.stack import Up, answer, eventually, round_ended

pytestmark = [pytest.mark.stack, pytest.mark.xdist_group("faults"), pytest.mark.timeout(600)]

STEPS = ["evaluation", "sample", "reward", "training", "evaluation"]
BODY = {
    "rewards": [{"name": "colourfulness"}], "epochs": 1, "count": 3, "evaluation_prompts": 4, "stop_on_regression": False,
    "sampling": {"num_inference_steps": 4, "guidance_scale": 1}, "training": {"lora_rank": 2, "timestep_fraction": 1},
}  # fmt: skip


def launched_by(api: httpx.Client, project_id: str, auto_id: str) -> list[dict[str, Any]]:
    """Its rounds, oldest first."""
    found = answer(api.get(f"/projects/{project_id}/rounds", params={"limit": 200}))["items"]
    return [row for row in reversed(found) if row["auto_id"] == auto_id]


@pytest.mark.heavy
def test_an_epoch_with_a_worker_that_is_killed_while_it_trains(up: Up, api: httpx.Client, project_id: str) -> None:
    auto_id = answer(api.post(f"/projects/{project_id}/reward-rounds", json=BODY))["id"]
    eventually(lambda: up.find("worker.train"))
    worker = up.find("-m worker")
    assert worker is not None
    worker.kill()
    ended = round_ended(api, auto_id)
    assert (ended["state"], ended["progress"]["done"], ended["progress"]["total"]) == ("done", 1, 1), ended["message"]
    assert ended["message"].startswith("All epochs are done. Best on held-out prompts, and in use now:")
    rows = launched_by(api, project_id, auto_id)
    assert [(row["kind"], row["state"]) for row in rows] == [(kind, "done") for kind in STEPS]
    curve = answer(api.get(f"/rounds/{auto_id}/curve"))["items"]
    assert [(one["epoch"], one["rewards"].keys()) for one in curve] == [(epoch, {"colourfulness"}) for epoch in range(2)]
    assert len({one["rewards"]["colourfulness"]["mean"] for one in curve}) == 2, "training changed nothing"
    made = answer(api.get(f"/projects/{project_id}/checkpoints"))["items"]
    best = max(curve, key=lambda one: one["rewards"]["colourfulness"]["mean"])
    assert answer(api.get(f"/projects/{project_id}"))["checkpoint_id"] == best["checkpoint_id"]
    assert {one["checkpoint_id"] for one in curve[1:]} <= {one["id"] for one in made}
