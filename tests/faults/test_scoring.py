"""A worker that is killed while a scorer elsewhere takes its time: the rest is scored, and nothing twice that was kept."""

from __future__ import annotations

from typing import Any

import httpx
import pytest

from tests.factories.scorer_server import ScorerServer
from tests.stack import Up, answer, eventually, round_ended

pytestmark = [pytest.mark.stack, pytest.mark.xdist_group("faults"), pytest.mark.timeout(600)]
GROUPS, BATCH = 24, 16


def scored(api: httpx.Client, round_id: str) -> int:
    return int(answer(api.get(f"/rounds/{round_id}"))["progress"]["done"])


@pytest.fixture
def drawn(api: httpx.Client, project_id: str) -> dict[str, Any]:
    body = {"prompts": [f"bird {number}" for number in range(GROUPS)], "num_inference_steps": 2, "guidance_scale": 1}
    made = answer(api.post(f"/projects/{project_id}/sample-rounds", json=body))
    assert round_ended(api, made["id"])["state"] == "done"
    return dict(made)


def test_a_worker_killed_in_the_middle_of_scoring(
    up: Up, api: httpx.Client, project_id: str, drawn: dict[str, Any], scorer: ScorerServer
) -> None:
    scorer.slow = True
    body = {"rewards": [{"name": "elsewhere"}], "round_ids": [drawn["id"]]}
    asked = answer(api.post(f"/projects/{project_id}/reward-rounds", json=body))
    eventually(lambda: 0 < scored(api, asked["id"]) < 2 * GROUPS and len(scorer.asked) > 1)
    worker = up.find("-m worker")
    assert worker is not None
    worker.kill()
    scorer.slow = False
    ended = round_ended(api, asked["id"])
    assert (ended["state"], ended["progress"]["done"], ended["progress"]["total"]) == ("done", 2 * GROUPS, 2 * GROUPS)
    assert ended["scored"]["groups"] == ended["scored"]["without_pairs"] == GROUPS, "it says 0.5 of every image"
    assert sum(len(body["images"]) for body in scorer.asked) <= 2 * GROUPS + BATCH, "only what was in the air is asked again"
    [machine] = [one for one in answer(api.get(f"/projects/{project_id}/stats"))["annotators"] if one["name"] == "elsewhere"]
    assert (machine["votes"], machine["machine"]) == (GROUPS, True)
