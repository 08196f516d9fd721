"""The form that launches a study, and the page that tells what it found."""

from __future__ import annotations

from sqlalchemy import select

from server.db import read_scope
from server.models import Project, Round, User
from tests import factories
from tests.pages.conftest import Browse


def newest() -> Round:
    with read_scope() as session:
        return session.scalars(select(Round).order_by(Round.number.desc()).limit(1)).one()


def test_the_form_compares_what_is_ticked(project: Project, alice: User, browse: Browse) -> None:
    first, second = factories.checkpoint(project), factories.checkpoint(project)
    browser = browse(alice)
    page = " ".join(browser.get(f"/p/{project.id}").text.split())
    ticked = f'name="policy:{second.id}" value="on" checked> checkpoint {second.number}'
    assert ('name="policy:base" value="on" checked' in page, ticked in page) == (True, True)
    assert f'name="policy:{first.id}" value="on" > checkpoint {first.number}' in page

    chosen = {f"policy:{ident}": "on" for ident in ("base", first.id, second.id)}
    answer = browser.post(f"/p/{project.id}/study-rounds", **chosen, count="7", votes_per_item="3", seed="4")

    assert (answer.status_code, answer.headers["location"]) == (303, f"/p/{project.id}")
    row = newest()
    assert (row.kind, sorted(row.params["checkpoints"])) == ("study", sorted(["base", first.id, second.id]))
    assert [row.params[name] for name in ("items", "votes_per_item", "seed")] == [7, 3, 4]


def test_a_form_that_does_not_fit_comes_back_with_what_was_typed(project: Project, alice: User, browse: Browse) -> None:
    made = factories.checkpoint(project)
    answer = browse(alice).post(f"/p/{project.id}/study-rounds", **{f"policy:{made.id}": "on"}, count="11")

    assert answer.status_code == 422
    assert "A study compares 2 to 9 different checkpoints" in answer.text
    assert 'name="count" value="11"' in answer.text
    assert 'name="policy:base" value="on" >' in answer.text


def test_the_page_draws_both_numbers_and_gives_them_as_csv(project: Project, alice: User, bob: User, browse: Browse) -> None:
    made = factories.checkpoint(project)
    params = {"checkpoints": ["base", made.id], "votes_per_item": 2, "items": 30, "prompts": 30}
    row = factories.round_(project, "study", params=params)
    for number in range(30):
        group = factories.group(project, round_id=row.id, drawn_by=[None, made.id], trajectory_key=None)
        task = factories.task(project, group, mode="pairwise", votes_wanted=2)
        for person in (bob, alice):
            factories.vote(task, person, 1 if number else 0)
    browser = browse(alice)

    page, table = browser.get(f"/rounds/{row.id}").text, browser.get(f"/rounds/{row.id}/study.csv").text

    assert f"People prefer checkpoint {made.number}: its interval lies above all others." in page
    assert f"Share preferred: base model 3.3 %, checkpoint {made.number} 96.7 %" in page
    assert f"Items with at least 2 of 2 votes: base model 3.3 %, checkpoint {made.number} 96.7 %" in page
    assert "30 of 30 items have all 2 votes. Each vote of an item" in page
    assert f"<dt>Compares</dt><dd>base model, checkpoint {made.number}</dd>" in page
    header, base, tuned = table.splitlines()
    assert header.startswith("policy,votes,preferred,preferred_low,preferred_high,majorities,majority,")
    assert (base.split(",")[:2], tuned.split(",")[:2]) == (["base model", "2"], [f"checkpoint {made.number}", "58"])
    with read_scope() as session:
        assert session.get_one(Round, row.id).kind == "study"
    assert "/api/v1/images/" not in page  # it stays blind for an operator who votes


def test_before_anybody_voted(project: Project, alice: User, bob: User, browse: Browse) -> None:
    row = factories.round_(
        project, "study", params={"checkpoints": ["base", factories.checkpoint(project).id], "votes_per_item": 5}
    )
    page = browse(alice).get(f"/rounds/{row.id}").text
    assert ("Nobody has chosen an image yet." in page, page.count("no votes yet")) == (True, 8)
    assert browse(bob).get(f"/rounds/{row.id}/study.csv").status_code == 403
    other = factories.round_(project)
    assert browse(alice).get(f"/rounds/{other.id}/study.csv").status_code == 404
