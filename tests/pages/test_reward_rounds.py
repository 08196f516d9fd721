"""Scoring from the operator's page, and what the page of a reward round tells."""

from __future__ import annotations

import re

import pytest
from sqlalchemy import select
from sqlalchemy.orm import Session

from d3po_core.rewards import ChosenReward, RewardParams
from server.db import read_scope, session_scope
from server.domain import jobs, rounds, scoring
from server.models import Job, Project, Round, Task, User
from server.settings import get_settings
from tests import factories
from tests.pages.conftest import Browse


@pytest.fixture
def tasks(project: Project) -> list[Task]:
    of = factories.round_(project)
    return [factories.task(project, factories.group(project, round_id=of.id, prompt=f"a cat {place}")) for place in range(3)]


def newest() -> Round:
    with read_scope() as session:
        return session.scalars(select(Round).order_by(Round.number.desc()).limit(1)).one()


def scored(session: Session, boss: User, project: Project, tasks: list[Task], *values: list[float]) -> Round:
    """A reward round that has scored one group of `tasks` for each of `values`."""
    asked = RewardParams(rewards=[ChosenReward(name="colourfulness")])
    round_ = rounds.request_reward_round(session, boss, project, asked)
    [job] = session.scalars(select(Job).where(Job.round_id == round_.id))
    session.commit()
    with session_scope() as other:
        claim = jobs.claim(other, job.id, "here:1")
    assert claim is not None
    for task, told in zip(tasks, values, strict=False):
        found = {image.id: {"colourfulness": told[image.position]} for image in task.group.images}
        with session_scope() as other:
            scoring.record(other, claim, task.group_id, found, done=3)
    if len(values) == len(tasks):
        with session_scope() as other:
            jobs.finish(other, claim)
    return round_


def test_one_reward_is_a_click(project: Project, alice: User, tasks: list[Task], browse: Browse) -> None:
    browser, path = browse(alice), f"/p/{project.id}/reward-rounds"
    page = " ".join(browser.get(f"/p/{project.id}").text.split())
    assert 'name="reward:colourfulness" value="on"' in page
    assert "Hasler and Suesstrunk&#39;s colourfulness" in page
    assert "clip_score" not in page

    answer = browser.post(path, **{"reward:colourfulness": "on"})

    assert (answer.status_code, answer.headers["location"]) == (303, f"/p/{project.id}")
    row = newest()
    assert (row.kind, row.params["groups"], row.params["combine"]) == ("reward", 3, "pareto")
    assert f"reward round {row.number}" in browser.get(f"/p/{project.id}").text
    assert "Its votes count as they come." not in browser.get(f"/p/{project.id}").text  # people can vote meanwhile


def test_several_combine_by_the_weights_in_the_form(project: Project, alice: User, tasks: list[Task], browse: Browse) -> None:
    ticked = {"reward:colourfulness": "on", "reward:compressibility": "on", "combine": "weighted"}
    weights = {"weight:colourfulness": "0.5", "weight:compressibility": "2", "weight:background": "7"}
    round_id = tasks[0].group.round_id

    browse(alice).post(f"/p/{project.id}/reward-rounds", **ticked, **weights, round_id=round_id)

    params = newest().params
    assert {one["name"]: one["weight"] for one in params["rewards"]} == {"colourfulness": 0.5, "compressibility": 2.0}
    assert (params["combine"], params["round_ids"]) == ("weighted", [round_id])


@pytest.mark.parametrize(
    ("fields", "sentence"),
    [
        ({}, "Choose at least one reward to score by."),
        ({"reward:colourfulness": "on", "combine": "weighted"}, "colourfulness has none; give each a weight"),
        (
            {"reward:colourfulness": "on", "combine": "weighted", "weight:colourfulness": "much"},
            "A weight is a number, you sent much.",
        ),
        ({"reward:colourfulness": "on", "combine": "weighted", "weight:colourfulness": "nan"}, "should be a finite number"),
        ({"reward:/etc/passwd": "on"}, "There is no reward /etc/passwd here"),
        ({"reward:colourfulness": "on", "round_id": "elsewhere"}, "This project has no sample or duel round elsewhere."),
    ],
)
def test_what_does_not_fit_comes_back_with_what_was_ticked(
    project: Project, alice: User, tasks: list[Task], browse: Browse, fields: dict[str, str], sentence: str
) -> None:
    answer = browse(alice).post(f"/p/{project.id}/reward-rounds", **fields)

    assert answer.status_code in (404, 422)
    assert sentence in answer.text
    assert ('name="reward:colourfulness" value="on" checked' in answer.text) == ("reward:colourfulness" in fields)


def test_registered_rewards_are_offered(
    project: Project, alice: User, tasks: list[Task], browse: Browse, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("D3PO_REWARDS", '{"our clip": {"reward": "clip_score", "model": "/models/clip"}}')
    get_settings.cache_clear()
    browser = browse(alice)

    page = browser.get(f"/p/{project.id}").text
    assert "Cosine of CLIP" in page
    assert "/models/clip" not in page
    browser.post(f"/p/{project.id}/reward-rounds", **{"reward:our clip": "on"})

    assert newest().params["rewards"][0]["parameters"]["model"] == "/models/clip"


def test_a_round_shows_how_far_it_is_and_what_it_found_so_far(
    session: Session, project: Project, alice: User, tasks: list[Task], browse: Browse
) -> None:
    row = scored(session, alice, project, tasks, [1.0, 2.0, 4.0])

    page = " ".join(browse(alice).get(f"/rounds/{row.id}").text.split())

    assert "3 of 9 images" in page
    assert "1 group is scored and voted on; it gives pairs." in page
    assert f'It scores what <a href="/rounds/{tasks[0].group.round_id}">sample round' in page
    assert "Spread of colourfulness" in page
    assert "<dt>Votes as</dt><dd>colourfulness</dd>" in page


def test_a_done_round_says_how_many_groups_gave_no_pair_and_draws_the_scores(
    session: Session, project: Project, alice: User, tasks: list[Task], browse: Browse
) -> None:
    row = scored(session, alice, project, tasks, [1.0, 2.0, 3.0], [5.0, 5.0, 5.0], [4.0, 6.0, 5.0])
    browser = browse(alice)

    page = " ".join(browser.get(f"/rounds/{row.id}").text.split())
    assert "3 groups are scored and voted on; 1 of them gives no pair, because no image is better than another there." in page
    assert "9 images, mean 4 [2.04, 5.96]." in page
    assert "Mean colourfulness by round" in page
    assert "/rounds/" + row.id + "/retry" not in page

    lines = browser.get(f"/rounds/{row.id}/scores.csv").text.splitlines()
    assert (lines[0], len(lines)) == ("prompt,image,colourfulness", 10)
    assert re.fullmatch(r"a cat 0,[0-9a-f]{32},1.0", lines[1])
    [head, line] = browser.get(f"/rounds/{row.id}/scores.csv?by=round").text.splitlines()
    assert head == "reward,round,mean,low,high,images,groups"
    assert (line.split(",")[0], line.split(",")[-2:]) == ("colourfulness", ["9", "3"])


def test_only_operators_see_and_launch(
    session: Session, project: Project, alice: User, bob: User, charlie: User, tasks: list[Task], browse: Browse
) -> None:
    row = scored(session, alice, project, tasks, [1.0, 2.0, 3.0])
    for person in (bob, charlie):
        browser = browse(person)
        assert browser.get(f"/rounds/{row.id}").status_code == 403
        assert browser.get(f"/rounds/{row.id}/scores.csv").status_code == 403
        assert browser.post(f"/p/{project.id}/reward-rounds", **{"reward:colourfulness": "on"}).status_code == 403
    assert browse(alice).get(f"/rounds/{tasks[0].group.round_id}/scores.csv").status_code == 404


def test_a_machine_is_shown_as_one_among_people_and_gets_no_link(
    session: Session, project: Project, alice: User, tasks: list[Task], browse: Browse
) -> None:
    row = scored(session, alice, project, tasks, [1.0, 2.0, 3.0])
    machine, path = row.params["annotator_id"], f"/p/{project.id}/people"
    root = browse(factories.admin(name="Root"))

    page = " ".join(root.get(path).text.split())
    assert "<td>colourfulness</td> <td>machine</td> <td>1</td>" in page
    assert f"{path}/{machine}/link" not in page
    refused = root.post(f"{path}/{machine}/link")
    assert (refused.status_code, "nothing lets it sign in" in refused.text) == (409, True)
    assert root.post(f"{path}/{machine}/revoke").status_code == 303
    assert browse(alice).post(f"/p/{project.id}/reward-rounds", **{"reward:colourfulness": "on"}).status_code == 409


def test_a_failed_scoring_is_what_to_mend_next(
    session: Session, project: Project, alice: User, tasks: list[Task], browse: Browse
) -> None:
    row = scored(session, alice, project, tasks, [1.0, 2.0, 3.0])
    with session_scope() as other:
        [job] = other.scalars(select(Job).where(Job.round_id == row.id))
        jobs.fail(other, jobs.Claim(job.id, row.id, job.attempt), "The scorer said NaN.", retry=False)

    page = browse(alice).get(f"/p/{project.id}").text

    assert f"retry reward round {row.number}" in page
    assert "The scorer said NaN. 3 of 9 images are scored and kept" in page
