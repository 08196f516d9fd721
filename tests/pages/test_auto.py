"""Launching an auto round from the operator's page, and its own page."""

from __future__ import annotations

import pytest
from sqlalchemy import select
from sqlalchemy.orm import Session

from server.domain import rounds
from server.models import Project, Round, State, User
from tests import factories
from tests.pages.conftest import Browse
from tests.server.domain.auto.conftest import Stage

FORM = {"reward:colourfulness": "on", "epochs": "3", "count": "2", "evaluation_prompts": "4"}


@pytest.fixture
def stage(session: Session, project: Project, alice: User) -> Stage:
    return Stage(session, project, alice)


def test_an_operator_launches_one_with_what_the_form_says(
    project: Project, alice: User, browse: Browse, session: Session
) -> None:
    browser, path = browse(alice), f"/p/{project.id}/auto-rounds"
    assert f'action="{path}"' in browser.get(f"/p/{project.id}").text
    more = {"stop_kl": "0.5", "stop_on_regression": "false", "algorithm": "ddpo", "num_inference_steps": "7", "lora_rank": "8"}
    assert browser.post(path, **FORM, **more).headers["location"] == f"/p/{project.id}"
    row = session.scalars(select(Round).where(Round.kind == "auto")).one()
    asked = {"epochs": 3, "count": 2, "evaluation_prompts": 4, "stop_kl": 0.5, "stop_on_regression": False}
    assert {name: row.params[name] for name in asked} == asked
    assert row.params["training"] == {"algorithm": "ddpo", "lora_rank": 8}
    assert row.params["sampling"] == {"num_inference_steps": 7}
    assert "watch auto round" in browser.get(f"/p/{project.id}").text


@pytest.mark.parametrize(
    ("changed", "told"),
    [
        ({"reward:colourfulness": ""}, "Choose at least one reward to score by."),
        ({"epochs": "0"}, "Epochs must be at least 1, you sent 0."),
        ({"stop_kl": "-1"}, "Stops at a KL of must be greater than 0, you sent -1."),
        ({"lora_rank": "many"}, "LoRA rank"),
    ],
)
def test_what_does_not_fit_comes_back_with_all_that_was_typed(
    project: Project, alice: User, browse: Browse, session: Session, changed: dict[str, str], told: str
) -> None:
    answer = browse(alice).post(f"/p/{project.id}/auto-rounds", **FORM | {"guidance_scale": "3.25"} | changed)
    assert (answer.status_code, told in answer.text, 'value="3.25"' in answer.text) == (422, True, True)
    assert session.scalars(select(Round)).all() == []


def test_annotators_and_strangers_launch_and_see_none(
    project: Project, stage: Stage, bob: User, charlie: User, browse: Browse
) -> None:
    row = stage.begin()
    for person, status in ((bob, 403), (charlie, 403)):
        browser = browse(person)
        assert browser.post(f"/p/{project.id}/auto-rounds", **FORM).status_code == status
        for path in ("", "/curve.csv", "/events"):
            assert browser.get(f"/rounds/{row.id}{path}").status_code == status


def test_its_page_says_where_it_is_and_what_it_reached(stage: Stage, alice: User, browse: Browse) -> None:
    row = stage.begin(epochs=3)
    browser = browse(alice)
    page = browser.get(f"/rounds/{row.id}").text
    assert "Before the first epoch: measuring, waiting for a worker." in page
    assert "<svg" not in page
    stage.end((10.0, 20.0, 30.0, 40.0))
    stage.epoch((12.0, 22.5, 32.0, 42.0))
    stage.session.commit()
    page = browser.get(f"/rounds/{row.id}").text
    assert "Epoch 2 of 3: drawing images, waiting for a worker." in page
    assert "1 of 3 epochs" in page
    assert "Held-out colourfulness" in page
    assert "Higher than before training: +2.12 [+1.88, +2.37] on the same prompts and noise." in page
    assert page.count("<svg") == 1
    for child in stage.children:
        assert f'<a href="/rounds/{child.id}">{child.kind} round {child.number}</a>' in page
    assert "Same prompt, same noise: before training, then epoch 1, the best so far" in page
    assert page.count("thumb") == 8
    assert f'action="/rounds/{row.id}/cancel"' in page


def test_the_curve_as_numbers(stage: Stage, alice: User, browse: Browse) -> None:
    row = stage.begin()
    stage.end((10.0, 20.0, 30.0, 40.0))
    stage.epoch((12.0, 22.0, 32.0, 42.0))
    browser = browse(alice)
    lines = browser.get(f"/rounds/{row.id}/curve.csv").text.splitlines()
    assert lines[0] == "epoch,checkpoint,reward,mean,low,high"
    assert [line.split(",")[:4] for line in lines[1:]] == [
        ["0", "base", "colourfulness", "25.0"],
        ["1", "1", "colourfulness", "27.0"],
    ]
    assert browser.get(f"/rounds/{stage.children[0].id}/curve.csv").status_code == 404


def test_how_it_ended_is_no_alarm_and_what_broke_is_one(stage: Stage, alice: User, browse: Browse) -> None:
    row = stage.begin(epochs=1)
    stage.break_("The disk is full.")
    browser = browse(alice)
    page = browser.get(f"/rounds/{row.id}").text
    assert '<p class="notice failed" role="alert">Epoch 0 stopped at evaluation round' in page
    assert f'action="/rounds/{row.id}/retry"' in page
    rounds.retry(stage.session, stage.by, row)
    stage.end()
    stage.epoch((2.0, 3.0, 4.0, 5.0))
    stage.session.commit()
    assert row.state == State.DONE
    page = browser.get(f"/rounds/{row.id}").text
    assert '<p class="notice" role="status">All epochs are done. Best on held-out prompts, and in use now: checkpoint' in page


def test_a_round_of_it_leads_back_to_it(stage: Stage, alice: User, browse: Browse) -> None:
    row = stage.begin()
    stage.end((1.0, 2.0, 3.0, 4.0))
    evaluation, sample = stage.children
    browser = browse(alice)
    for child, epoch in ((evaluation, 0), (sample, 1)):
        page = browser.get(f"/rounds/{child.id}").text
        assert f'Epoch {epoch} of <a href="/rounds/{row.id}">auto round {row.number}</a>.' in page
    page = browser.get(f"/rounds/{evaluation.id}").text
    assert "<dt>Drawn by</dt><dd>base model</dd><dt>Reward colourfulness</dt><dd>no parameters</dd>" in page
    assert page.count("thumb") == 4
    assert '<p class="figure">Held-out colourfulness 2.5 [1.235, 3.765]</p>' in page


def test_the_operators_page_leads_to_it_and_offers_to_retry_it(
    project: Project, stage: Stage, alice: User, browse: Browse, session: Session
) -> None:
    row = stage.begin()
    browser = browse(alice)
    page = browser.get(f"/p/{project.id}").text
    assert f'id="suggestion" href="/rounds/{row.id}">Next: watch auto round {row.number}</a>' in page
    assert f'<a href="/rounds/{stage.children[0].id}">evaluation round {stage.children[0].number}</a>' in page
    stage.end()
    stage.end()
    stage.end(alike=True)
    session.commit()
    assert f"Next: retry auto round {row.number}" in browser.get(f"/p/{project.id}").text
    sample = factories.round_(project, number=99)
    session.commit()
    assert sample.state == State.DONE
    assert "Next: retry" not in browser.get(f"/p/{project.id}").text
