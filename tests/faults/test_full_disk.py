"""The one disk of the whole stack fills up: database, broker, images and all."""

from __future__ import annotations

import time
import uuid

import httpx
import pytest

from tests.disks import Disk
from tests.stack import Up, answer, eventually, round_ended

pytestmark = [pytest.mark.stack, pytest.mark.xdist_group("faults"), pytest.mark.timeout(600)]


def test_not_a_byte_is_left_while_people_vote_and_a_round_runs(up: Up, api: httpx.Client, project_id: str, disk: Disk) -> None:
    body = {"prompts": ["a fish", "a cat", "a bird"], "num_inference_steps": 50, "guidance_scale": 1, "checkpoint_id": "current"}
    launched = answer(api.post(f"/projects/{project_id}/sample-rounds", json=body))
    [task] = eventually(lambda: answer(api.post(f"/projects/{project_id}/tasks/next", params={"count": 1})))
    disk.leave(0)
    ballot = {"vote_id": str(uuid.uuid4()), "outcome": "tie"}
    # The database may still have room in its own files; what it has no room for is refused.
    assert api.post(f"/tasks/{task['task_id']}/votes", json=ballot).status_code in (200, 503)
    assert api.get(f"/rounds/{launched['id']}").status_code == 200
    time.sleep(5)
    disk.free()
    eventually(lambda: api.post(f"/tasks/{task['task_id']}/votes", json=ballot).is_success, 30)
    ended = round_ended(api, launched["id"])
    if ended["state"] == "failed":
        assert "is full. Free some space first." in ended["message"]
        answer(api.post(f"/rounds/{launched['id']}/retry"))
        ended = round_ended(api, launched["id"])
    assert (ended["state"], ended["progress"]["done"], ended["message"]) == ("done", 3, "")
