"""Projects and rounds over HTTP: good requests, bad ones, and who may."""

from __future__ import annotations

import asyncio
import json
from datetime import timedelta
from typing import Any

import pytest
from fastapi import Request
from fastapi.testclient import TestClient
from sqlalchemy import Engine, select
from sqlalchemy.orm import Session

from d3po_core.rewards import ChosenReward, RewardParams
from server.api import events
from server.domain import people, rounds
from server.models import Job, Metric, Outcome, Project, Round, RoundVote, Score, State, User, now
from tests import factories
from tests.queries import recorded_queries

VERBS = ("cancel", "retry", "close", "reopen")


@pytest.fixture
def project(session: Session) -> Project:
    return factories.project()


@pytest.fixture
def boss(project: Project) -> dict[str, str]:
    return factories.bearer(factories.operator(project))


@pytest.fixture
def annotator(project: Project) -> dict[str, str]:
    return factories.bearer(factories.annotator(project))


def sample(client: TestClient, project: Project, headers: dict[str, str], **body: Any) -> Any:
    return client.post(f"/api/v1/projects/{project.id}/sample-rounds", json=body, headers=headers)


class TestProjects:
    def test_an_admin_creates_one_and_an_operator_reads_it(self, client: TestClient, session: Session) -> None:
        headers = factories.bearer(factories.admin())
        body = {"name": "Emoji", "mode": "pairwise", "votes_per_task": 3, "guideline": "Pick the clearer one."}
        made = client.post("/api/v1/projects", json=body, headers=headers)
        assert made.status_code == 201
        assert made.json()["sampling"]["images_per_prompt"] == 2
        assert (made.json()["base_model"], made.json()["checkpoint_id"]) == ("demo", "base")
        project = session.get_one(Project, made.json()["id"])
        read = client.get(f"/api/v1/projects/{project.id}", headers=factories.bearer(factories.annotator(project)))
        assert read.json() == made.json()

    def test_it_may_bring_settings_of_its_own(self, client: TestClient) -> None:
        body = {"name": "Own", "sampling": {"guidance_scale": 3.0}, "training": {"beta": 0.5, "max_kl": None}}
        made = client.post("/api/v1/projects", json=body, headers=factories.bearer(factories.admin())).json()
        assert made["sampling"] | {"guidance_scale": 3.0, "num_inference_steps": 10} == made["sampling"]
        assert made["training"] | {"beta": 0.5, "max_kl": None, "lora_rank": 64} == made["training"]

    def test_flags_are_the_projects_own(self, client: TestClient, session: Session) -> None:
        boss = factories.bearer(factories.admin())
        made = client.post("/api/v1/projects", json={"name": "Hands", "flags": ["extra fingers", "cut off"]}, headers=boss).json()
        assert made["flags"] == ["extra fingers", "cut off"]
        path = f"/api/v1/projects/{made['id']}"
        project = session.get_one(Project, made["id"])
        people = {role: factories.bearer(make(project)) for role, make in (("o", factories.operator), ("a", factories.annotator))}
        assert client.patch(path, json={"flags": []}, headers=people["a"]).status_code == 403
        assert client.patch(path, json={"flags": ["blurred"]}, headers=people["o"]).json()["flags"] == ["blurred"]
        assert client.get(path, headers=people["a"]).json()["flags"] == ["blurred"]

    def test_a_preset_and_its_blur(self, client: TestClient) -> None:
        boss = factories.bearer(factories.admin())
        made = client.post(
            "/api/v1/projects", json={"name": "Safe", "preset": "safety", "votes_per_task": 2}, headers=boss
        ).json()
        assert (made["mode"], made["blur"], made["votes_per_task"], made["prompt_set"]) == ("good_bad", True, 2, "people")
        changed = client.patch(f"/api/v1/projects/{made['id']}", json={"blur": False}, headers=boss).json()
        assert (changed["blur"], changed["flags"]) == (False, made["flags"])
        unknown = client.post("/api/v1/projects", json={"name": "Other", "preset": "beauty"}, headers=boss)
        assert (unknown.status_code, unknown.json()["detail"].startswith("There is no preset called beauty.")) == (422, True)

    def test_prompts_may_be_the_projects_own(self, client: TestClient, session: Session) -> None:
        boss = factories.bearer(factories.admin())
        made = client.post("/api/v1/projects", json={"name": "Maps", "prompts": {"a map": 1, "a town": 2}}, headers=boss).json()
        assert made["prompt_set"] == "own"
        path = f"/api/v1/projects/{made['id']}"
        assert client.patch(path, json={"prompt_set": "animals"}, headers=boss).json()["prompt_set"] == "animals"
        assert client.patch(path, json={"prompts": {"a lake": 1}}, headers=boss).json()["prompt_set"] == "own"
        assert client.patch(path, json={"prompts": {"a lake": -1}}, headers=boss).status_code == 422
        assert session.get_one(Project, made["id"], populate_existing=True).prompts == {"a lake": 1}

    def test_others_may_not_create(self, client: TestClient, boss: dict[str, str]) -> None:
        assert client.post("/api/v1/projects", json={"name": "Mine"}, headers=boss).status_code == 403

    @pytest.mark.parametrize(
        ("change", "sentence"),
        [
            ({"name": "  "}, "A project's name needs 1 to 80 characters."),
            ({"base_model": "/etc"}, "There is no base model called /etc."),
            ({"mode": "stars"}, "The voting mode must be best, pairwise, ranking or good_bad, you sent stars."),
            ({"votes_per_task": 0}, "votes_per_task must be 1 to 100, you sent 0."),
            ({"prompt_set": "none"}, "There is no prompt set called none."),
            ({"mode": "pairwise", "sampling": {"images_per_prompt": 4}}, "images_per_prompt must be 2, you sent 4."),
            ({"flags": ["x" * 41]}, "A flag is a word or a few, 1 to 40 characters long"),
            ({"flags": [" "]}, "A flag is a word or a few"),
            ({"flags": [str(number) for number in range(21)]}, "at most 20 flags, you sent 21."),
            ({"sampling": {"eta": 0}}, "sampling.eta must be greater than 0"),
            ({"training": {"clip": 1}}, "training.clip must be less than 1, you sent 1."),
            ({"training": {"learning_speed": 1}}, "training.learning_speed is not a known field."),
        ],
    )
    def test_bad_values_get_a_sentence(self, client: TestClient, session: Session, change: Any, sentence: str) -> None:
        refused = client.post("/api/v1/projects", json={"name": "Emoji"} | change, headers=factories.bearer(factories.admin()))
        assert refused.status_code == 422
        assert sentence in refused.json()["detail"]

    def test_a_name_is_taken_once(self, client: TestClient, project: Project) -> None:
        refused = client.post("/api/v1/projects", json={"name": project.name}, headers=factories.bearer(factories.admin()))
        assert (refused.status_code, refused.json()["error"]) == (409, "conflict")

    def test_everybody_lists_their_own(self, client: TestClient, project: Project, boss: dict[str, str]) -> None:
        factories.project()
        assert [item["id"] for item in client.get("/api/v1/projects", headers=boss).json()["items"]] == [project.id]
        first = client.get("/api/v1/projects?limit=1", headers=(admin := factories.bearer(factories.admin()))).json()
        rest = client.get("/api/v1/projects", params={"after": first["next"]}, headers=admin).json()
        assert len({item["id"] for page in (first, rest) for item in page["items"]}) == 2
        assert rest["next"] is None


class TestSampleRounds:
    def test_a_round_is_cut_into_jobs_that_start_small(
        self, client: TestClient, session: Session, project: Project, boss: Any
    ) -> None:
        prompts = [f"prompt {number}" for number in range(10)]
        made = sample(client, project, boss, prompts=prompts, images_per_prompt=4, seed=7).json()
        assert (made["kind"], made["state"], made["number"], made["checkpoint_id"]) == ("sample", "queued", 1, "base")
        assert made["params"] | {"images_per_prompt": 4, "seed": 7, "prompts": 10} == made["params"]
        assert made["progress"] == {
            "done": 0,
            "total": 10,
            "unit": "groups",
            "seconds_left": None,
            "workers": [],
            "silent": False,
        }
        payloads = sorted(session.scalars(select(Job.payload)), key=lambda payload: payload["first_position"])
        assert [(payload["first_position"], len(payload["prompts"])) for payload in payloads] == [(0, 1), (1, 2), (3, 4), (7, 3)]
        assert [prompt for payload in payloads for prompt in payload["prompts"]] == prompts
        assert all(session.scalars(select(Job.sent_at)))

    def test_without_prompts_they_come_from_the_projects_set(
        self, client: TestClient, session: Session, project: Project, boss: Any
    ) -> None:
        seeds = {sample(client, project, boss, count=5).json()["params"]["seed"] for _ in range(2)}
        assert len(seeds) == 2
        assert sample(client, project, boss, prompt_set="demo", count=5).json()["progress"]["total"] == 5

    def test_the_current_checkpoint_draws_unless_told_otherwise(self, client: TestClient, project: Project, boss: Any) -> None:
        checkpoint = factories.checkpoint(project)
        factories.commit()
        drawn_by = [sample(client, project, boss, prompts=["a cat"], **body).json()["checkpoint_id"]
                    for body in ({}, {"checkpoint_id": "base"}, {"checkpoint_id": checkpoint.id})]  # fmt: skip
        assert drawn_by == [checkpoint.id, "base", checkpoint.id]

    @pytest.mark.parametrize(
        ("body", "sentence"),
        [
            ({"prompts": []}, "A round needs at least one prompt."),
            ({"prompts": ["a cat", "  "]}, "Prompt 2 is empty."),
            ({"prompts": ["x" * 10_000]}, "Prompt 1 is 10,000 characters long; at most 2,000 are taken."),
            (
                {"num_inference_steps": 0},
                "num_inference_steps must be at least 1, you sent 0. Without denoising steps there is no image.",
            ),
            ({"images_per_prompt": 1}, "images_per_prompt must be at least 2, you sent 1. A choice needs at least two images."),
            ({"eta": 0}, "eta must be greater than 0, you sent 0. At 0 the chain is not random"),
            ({"eta": 1.5}, "eta must be at most 1, you sent 1.5."),
            ({"count": 0}, "A round draws 1 to 10,000 prompts from a prompt set, you sent 0."),
            ({"prompt_set": "none"}, "There is no prompt set called none."),
            ({"prompts": ["a cat"], "prompt_set": "demo"}, "Give prompts or a prompt_set, not both."),
            ({"prompts": ["a cat", "a d\x00g"]}, "Prompt 2 has a character that is no text (U+0000) after 3 others."),
            ({"prompts": "a cat"}, "prompts should be a valid list."),
            ({"speed": 3}, "speed is not a known field."),
        ],
    )
    def test_bad_values_get_a_sentence(self, client: TestClient, project: Project, boss: Any, body: Any, sentence: str) -> None:
        refused = sample(client, project, boss, **body)
        assert refused.status_code == 422
        assert sentence in refused.json()["detail"]
        assert client.get(f"/api/v1/projects/{project.id}/rounds", headers=boss).json() == {"items": [], "next": None}

    def test_half_a_character_is_no_text(self, client: TestClient, project: Project, boss: Any) -> None:
        path, headers = f"/api/v1/projects/{project.id}/sample-rounds", boss | {"Content-Type": "application/json"}
        refused = client.post(path, content='{"prompts": ["\\ud800 cat"]}', headers=headers)
        assert (refused.status_code, refused.json()["error"]) == (422, "invalid")
        assert "Prompt 1 has a character that is no text (U+D800)" in refused.json()["detail"]

    def test_a_prompt_is_one_line(self, client: TestClient, session: Session, project: Project, boss: Any) -> None:
        assert sample(client, project, boss, prompts=["a\tcat\r\n in a hat\n"]).status_code == 201
        assert session.scalars(select(Job.payload)).one()["prompts"] == ["a cat  in a hat"]

    def test_too_many_prompts(self, client: TestClient, project: Project, boss: Any) -> None:
        refused = sample(client, project, boss, prompts=["a cat"] * 10_001)
        assert (refused.status_code, refused.json()["error"]) == (413, "too_large")

    def test_what_is_not_json(self, client: TestClient, project: Project, boss: Any) -> None:
        refused = client.post(
            f"/api/v1/projects/{project.id}/sample-rounds", content="{", headers=boss | {"Content-Type": "application/json"}
        )
        assert (refused.status_code, refused.json()["detail"]) == (422, "The request is not valid JSON.")

    def test_annotators_may_not(self, client: TestClient, project: Project, annotator: Any) -> None:
        refused = sample(client, project, annotator, prompts=["a cat"])
        assert (refused.status_code, refused.json()["detail"][:40]) == (403, "This needs the role operator; you are an")

    def test_another_projects_checkpoint_is_not_found(self, client: TestClient, project: Project, boss: Any) -> None:
        foreign = factories.checkpoint(factories.project())
        factories.commit()
        assert sample(client, project, boss, prompts=["a cat"], checkpoint_id=foreign.id).status_code == 404


class TestTrainingRounds:
    def test_it_freezes_the_counted_votes(self, client: TestClient, session: Session, project: Project, boss: Any) -> None:
        voter = factories.annotator(project)
        votes = [factories.vote(factories.task(project), voter) for _ in range(2)]
        factories.commit()
        made = client.post(f"/api/v1/projects/{project.id}/training-rounds", json={"beta": 0.2}, headers=boss).json()
        assert (made["kind"], made["params"]["beta"], made["params"]["pairs"]) == ("training", 0.2, 4)
        assert set(session.scalars(select(RoundVote.vote_id))) == {vote.id for vote in votes}
        assert len(session.get_one(Round, made["id"]).votes_hash or "") == 64

    def test_without_a_usable_pair_it_is_refused(self, client: TestClient, project: Project, boss: Any) -> None:
        voter = factories.annotator(project)
        factories.vote(factories.task(project), voter, best=None, outcome="tie")
        factories.vote(factories.task(project), voter, best=None, outcome="all_bad")
        factories.commit()
        refused = client.post(f"/api/v1/projects/{project.id}/training-rounds", json={}, headers=boss)
        assert (refused.status_code, refused.json()["detail"]) == (
            422,
            "There are 0 usable pairs to train on: 2 votes count on images that the base model drew (1 tie, 1 all bad). "
            "Sample a round, pick the better image in some groups, then train.",
        )

    def test_one_at_a_time(self, client: TestClient, project: Project, boss: Any) -> None:
        factories.vote(factories.task(project), factories.annotator(project))
        factories.commit()
        path = f"/api/v1/projects/{project.id}/training-rounds"
        assert client.post(path, json={}, headers=boss).status_code == 201
        refused = client.post(path, json={}, headers=boss)
        assert (refused.status_code, "is training this project already" in refused.json()["detail"]) == (409, True)

    def test_another_algorithm_learns_from_the_same_votes(self, client: TestClient, project: Project, boss: Any) -> None:
        factories.vote(factories.task(project), factories.annotator(project))
        factories.commit()
        path = f"/api/v1/projects/{project.id}/training-rounds"
        refused = client.post(path, json={"algorithm": "ddpo", "reference": "base"}, headers=boss)
        assert (refused.status_code, refused.json()["detail"]) == (
            422,
            "The request asks for reference base, which only d3po takes; ddpo compares with the policy that sampled, so set "
            "reference to sampler.",
        )
        made = client.post(path, json={"algorithm": "ddpo", "ratio_clip": 1e-3}, headers=boss).json()
        assert (made["params"]["algorithm"], made["params"]["ratio_clip"], made["params"]["pairs"]) == ("ddpo", 1e-3, 2)

    @pytest.mark.parametrize("votes", ["some", {"round_ids": []}, 3])
    def test_which_votes_must_be_said_clearly(self, client: TestClient, project: Project, boss: Any, votes: Any) -> None:
        refused = client.post(f"/api/v1/projects/{project.id}/training-rounds", json={"votes": votes}, headers=boss)
        assert refused.status_code == 422
        assert refused.json()["detail"].startswith("votes")


class TestDuelRounds:
    def test_every_prompt_meets_every_seed(self, client: TestClient, session: Session, project: Project, boss: Any) -> None:
        checkpoint = factories.checkpoint(project)
        factories.commit()
        body = {"prompts": ["a cat", "a dog", "a pear"], "seeds": [4, 5, 6]}
        made = client.post(f"/api/v1/projects/{project.id}/duel-rounds", json=body, headers=boss).json()
        assert (made["checkpoint_id"], made["opponent_id"], made["progress"]["total"]) == (checkpoint.id, "base", 9)
        assert made["result"] == {
            "wins": 0, "losses": 0, "ties": 0, "skipped": 0, "waiting": 0, "win_rate": None, "low": 0.0, "high": 1.0
        }  # fmt: skip
        payloads = sorted(session.scalars(select(Job.payload)), key=lambda payload: payload["first_position"])
        assert [payload["first_position"] for payload in payloads] == [0, 8]
        assert payloads[0]["items"][:4] == [["a cat", 4], ["a cat", 5], ["a cat", 6], ["a dog", 4]]

    def test_a_policy_does_not_duel_itself(self, client: TestClient, project: Project, boss: Any) -> None:
        refused = client.post(f"/api/v1/projects/{project.id}/duel-rounds", json={"prompts": ["a cat"]}, headers=boss)
        assert refused.status_code == 422
        assert "two different checkpoints" in refused.json()["detail"]

    @pytest.mark.parametrize("seeds", [[], [-1], [2**31]])
    def test_seeds_are_whole_numbers(self, client: TestClient, project: Project, boss: Any, seeds: Any) -> None:
        factories.checkpoint(project)
        factories.commit()
        body = {"prompts": ["a cat"], "seeds": seeds}
        assert client.post(f"/api/v1/projects/{project.id}/duel-rounds", json=body, headers=boss).status_code == 422


class TestCancelAndRetry:
    def test_what_is_done_stays(self, client: TestClient, session: Session, project: Project, boss: Any) -> None:
        round_ = factories.round_(project, state=State.RUNNING, params={"prompts": 3})
        done, running = factories.job(round_, state=State.DONE), factories.job(round_, state=State.RUNNING)
        factories.group(project, round_id=round_.id)
        factories.commit()
        cancelled = client.post(f"/api/v1/rounds/{round_.id}/cancel", headers=boss).json()
        assert cancelled["state"] == "cancelled"
        assert cancelled["message"].endswith("1 of 3 groups are finished and kept. Retry runs the rest.")
        refused = client.post(f"/api/v1/rounds/{round_.id}/cancel", headers=boss)
        assert (refused.status_code, "there is nothing to cancel" in refused.json()["detail"]) == (409, True)
        retried = client.post(f"/api/v1/rounds/{round_.id}/retry", headers=boss).json()
        assert (retried["state"], retried["message"], retried["finished_at"]) == ("running", "", None)
        states = {job.id: job.state for job in session.scalars(select(Job).execution_options(populate_existing=True))}
        assert states == {done.id: "done", running.id: "queued"}
        session.commit()
        assert client.post(f"/api/v1/rounds/{round_.id}/retry", headers=boss).status_code == 409

    def test_its_groups_leave_the_queue_and_come_back(self, client: TestClient, project: Project, boss: Any) -> None:
        round_ = factories.round_(project)
        factories.task(project, factories.group(project, round_id=round_.id))
        factories.commit()
        queue, path = f"/api/v1/projects/{project.id}/tasks/next", f"/api/v1/rounds/{round_.id}"
        assert client.post(f"{path}/close", headers=boss).json()["id"] == round_.id
        assert client.post(queue, headers=boss).json() == []
        assert client.post(f"{path}/close", headers=boss).json()["error"] == "conflict"
        assert client.post(f"{path}/reopen", headers=boss).status_code == 200
        assert len(client.post(queue, headers=boss).json()) == 1

    def test_annotators_may_neither_look_nor_touch(self, client: TestClient, project: Project, annotator: Any) -> None:
        round_ = factories.round_(project)
        factories.commit()
        path = f"/api/v1/rounds/{round_.id}"
        assert [client.get(path, headers=annotator).status_code, client.get(f"{path}/events", headers=annotator).status_code] == [
            403,
            403,
        ]
        assert [client.post(f"{path}/{verb}", headers=annotator).status_code for verb in VERBS] == [403] * 4
        assert client.get(f"/api/v1/rounds/{'0' * 32}", headers=annotator).status_code == 404


class TestLists:
    def test_pages_follow_each_other(self, client: TestClient, project: Project, boss: Any) -> None:
        numbers = [factories.round_(project).number for _ in range(5)]
        factories.commit()
        seen, after = [], None
        while True:
            params = {"limit": 2} | ({"after": after} if after else {})
            page = client.get(f"/api/v1/projects/{project.id}/rounds", params=params, headers=boss).json()
            seen += [item["number"] for item in page["items"]]
            after = page["next"]
            if after is None:
                break
        assert seen == numbers[::-1]

    @pytest.mark.parametrize("params", [{"limit": 0}, {"limit": 1000}, {"after": "x"}, {"after": "9" * 30}])
    def test_bad_places_get_a_sentence(self, client: TestClient, project: Project, boss: Any, params: Any) -> None:
        assert client.get(f"/api/v1/projects/{project.id}/rounds", params=params, headers=boss).status_code == 422

    def test_a_list_costs_the_same_however_long(self, client: TestClient, engine: Engine, project: Project, boss: Any) -> None:
        counts = []
        for _ in range(2):
            for kind in ("sample", "training", "duel", "study"):
                params = {"prompts": 1, "checkpoints": ["base"], "votes_per_item": 5}
                round_ = factories.round_(project, kind, params=params)
                factories.job(round_)
                factories.task(project, factories.group(project, round_id=round_.id))
            factories.commit()
            with recorded_queries(engine) as queries:
                client.get(f"/api/v1/projects/{project.id}/rounds", headers=boss)
            counts.append(len(queries))
        assert counts[0] == counts[1]


class TestEvents:
    def test_the_stream_of_a_finished_round_tells_all_and_ends(self, client: TestClient, project: Project, boss: Any) -> None:
        round_ = factories.round_(project, "training")
        factories.add(Metric(round_id=round_.id, step=3, values={"loss": 0.69}))
        factories.commit()
        with client.stream("GET", f"/api/v1/rounds/{round_.id}/events", headers=boss) as answer:
            assert answer.headers["content-type"].startswith("text/event-stream")
            told = [block.split("\n") for block in answer.read().decode().strip().split("\n\n")]
        assert [lines[0] for lines in told] == ["event: metrics", "event: progress", "event: end"]
        assert json.loads(told[0][1].removeprefix("data: ")) == [{"step": 3, "values": {"loss": 0.69}}]
        assert json.loads(told[1][1].removeprefix("data: "))["state"] == "done"

    def test_whoever_loses_access_hears_no_more(
        self, client: TestClient, session: Session, project: Project, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        monkeypatch.setattr(events, "EVERY_SECONDS", 0.01)
        monkeypatch.setattr(events, "COMMENT_SECONDS", 0.05)
        round_, bob = factories.round_(project, state=State.RUNNING), factories.operator(project)
        headers = [(name.lower().encode(), value.encode()) for name, value in factories.bearer(bob).items()]
        request = Request({"type": "http", "method": "GET", "app": client.app, "headers": headers})

        async def listen() -> list[str]:
            stream = events._stream(round_.id, request)
            heard = [await anext(stream), await anext(stream)]
            people.revoke(session, factories.admin(), bob)
            factories.commit()
            return heard + [event async for event in stream if not event.startswith(":")]

        first, second, *more = asyncio.run(listen())
        assert first.startswith("event: progress")
        assert second == ": still here\n\n"
        assert more == []

    def test_streams_end_when_the_server_stops(self, client: TestClient, project: Project, boss: Any) -> None:
        round_ = factories.round_(project, state=State.RUNNING)
        factories.commit()
        client.app.state.stopping.set()  # type: ignore[attr-defined]
        with client.stream("GET", f"/api/v1/rounds/{round_.id}/events", headers=boss) as answer:
            assert answer.read() == b""


def test_what_a_round_would_cost(client: TestClient, project: Project, boss: dict[str, str], annotator: dict[str, str]) -> None:
    path = f"/api/v1/projects/{project.id}/estimates"
    nothing = {"seconds": None, "disk_bytes": None, "memory_bytes": None, "judged_by": None}
    assert [client.get(f"{path}/{kind}", headers=boss).json() for kind in ("sample", "training", "duel", "study")] == [
        nothing
    ] * 4
    times = {"started_at": now() - timedelta(seconds=40), "finished_at": now()}
    params = {"prompts": 12, "images_per_prompt": 6, "num_inference_steps": 20}
    row = factories.round_(project, params=params, **times)
    factories.job(row, state=State.DONE, memory_bytes=1_000_000, **times)
    factories.commit()
    found = client.get(f"{path}/sample?count=24&num_inference_steps=40", headers=boss).json()
    assert found == {
        "seconds": pytest.approx(160, abs=1), "disk_bytes": 0, "memory_bytes": 1_000_000, "judged_by": row.number,
    }  # fmt: skip
    assert client.get(f"{path}/sample", headers=annotator).status_code == 403
    assert client.get(f"{path}/sample?count=0", headers=boss).json()["detail"] == "count must be at least 1, you sent 0."
    assert client.get(f"{path}/dance", headers=boss).status_code == 422


class TestRewardRounds:
    def test_an_operator_asks_and_sees_its_progress(
        self, client: TestClient, project: Project, boss: dict[str, str], annotator: dict[str, str]
    ) -> None:
        task = factories.task(project)
        url, body = f"/api/v1/projects/{project.id}/reward-rounds", {"rewards": [{"name": "colourfulness"}]}
        factories.commit()
        assert client.post(url, json=body, headers=annotator).status_code == 403
        made = client.post(url, json=body, headers=boss)
        assert made.status_code == 201
        told = made.json()
        assert (told["kind"], told["state"], told["checkpoint_id"], told["opponent_id"]) == ("reward", "queued", "base", None)
        assert told["params"] | {"combine": "pareto", "groups": 1, "images": 3} == told["params"]
        assert told["params"]["round_ids"] == [task.group.round_id]
        assert (told["progress"]["done"], told["progress"]["total"], told["progress"]["unit"]) == (0, 3, "images")

    @pytest.mark.parametrize(
        ("body", "sentence"),
        [
            ({"rewards": []}, "rewards needs at least 1"),
            ({"rewards": [{"name": "colourfulness"}] * 2}, "names a reward twice"),
            ({"rewards": [{"name": "colourfulness"}], "combine": "weighted"}, "colourfulness has none; give each a weight"),
            ({"rewards": [{"name": "colourfulness", "weight": 1}]}, "Pareto dominance knows none"),
            ({"rewards": [{"name": "beauty"}]}, "There is no reward beauty here"),
            ({"rewards": [{"name": "http", "parameters": {"url": "http://10.0.0.1/"}}]}, "http needs its parameters"),
        ],
    )
    def test_what_makes_no_sense_is_told(
        self, client: TestClient, project: Project, boss: dict[str, str], body: dict[str, Any], sentence: str
    ) -> None:
        factories.task(project)
        factories.commit()
        answer = client.post(f"/api/v1/projects/{project.id}/reward-rounds", json=body, headers=boss)
        assert answer.status_code == 422
        assert sentence in answer.json()["detail"]

    def test_a_round_tells_what_it_found_where_it_is_read_by_itself(
        self, client: TestClient, session: Session, project: Project, boss: dict[str, str]
    ) -> None:
        task = factories.task(project)
        asked = RewardParams(rewards=[ChosenReward(name="colourfulness")])
        row = rounds.request_reward_round(session, factories.operator(project), project, asked)
        values = {image.id: float(image.position) for image in task.group.images}
        session.add_all(Score(image_id=image_id, reward="colourfulness", value=value) for image_id, value in values.items())
        machine, ratings = session.get_one(User, row.params["annotator_id"]), {key: [value] for key, value in values.items()}
        factories.vote(task, machine, None, outcome=Outcome.RATED, ratings=ratings)
        factories.commit()
        told = client.get(f"/api/v1/rounds/{row.id}", headers=boss).json()["scored"]
        mean = {"reward": "colourfulness", "mean": 1.0, "low": None, "high": None}
        assert told == {"groups": 1, "without_pairs": 0, "means": [mean]}
        [listed] = client.get(f"/api/v1/projects/{project.id}/rounds?limit=1", headers=boss).json()["items"]
        assert (listed["id"], listed["scored"]) == (row.id, None)
        annotators = client.get(f"/api/v1/projects/{project.id}/stats", headers=boss).json()["annotators"]
        assert annotators == [{"name": "colourfulness", "votes": 1, "median_seconds": None, "machine": True}]
