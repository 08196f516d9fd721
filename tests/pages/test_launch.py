from __future__ import annotations

from typing import get_args

from sqlalchemy import func, select

from d3po_core.params import TrainingParams
from server.db import read_scope
from server.models import Base, Checkpoint, Job, Project, Round, State, User
from tests import factories
from tests.pages.conftest import Browse


def newest() -> Round:
    with read_scope() as session:
        return session.scalars(select(Round).order_by(Round.number.desc()).limit(1)).one()


def count(table: type[Base]) -> int:
    with read_scope() as session:
        return session.scalar(select(func.count()).select_from(table)) or 0


def test_sampling_with_nothing_filled_in_uses_the_projects_values(project: Project, alice: User, browse: Browse) -> None:
    answer = browse(alice).post(f"/p/{project.id}/sample-rounds")

    assert (answer.status_code, answer.headers["location"]) == (303, f"/p/{project.id}")
    row = newest()
    assert (row.kind, row.state, row.params["prompts"], row.params["eta"]) == ("sample", State.QUEUED, 12, 1.0)


def test_sampling_own_prompts_from_the_base_model(project: Project, alice: User, browse: Browse) -> None:
    factories.checkpoint(project)

    choices = {"checkpoint_id": "base", "seed": "7", "images_per_prompt": "3"}
    browse(alice).post(f"/p/{project.id}/sample-rounds", prompts="a red apple\r\n\r\n  a blue cat ", **choices)

    row = newest()
    assert (row.checkpoint_id, row.params["seed"], row.params["images_per_prompt"], row.params["prompts"]) == (None, 7, 3, 2)
    with read_scope() as session:
        jobs = session.scalars(select(Job.payload).where(Job.round_id == row.id)).all()
    assert sorted((job["first_position"], *job["prompts"]) for job in jobs) == [(0, "a red apple"), (1, "a blue cat")]


def test_what_does_not_fit_is_a_sentence(project: Project, alice: User, browse: Browse) -> None:
    for fields, sentence in (
        ({"eta": "0"}, "Eta must be greater than 0"),
        ({"images_per_prompt": "1"}, "A choice needs at least two images."),
        ({"count": "many"}, "Prompts must be a whole number, you sent many."),
    ):
        answer = browse(alice).post(f"/p/{project.id}/sample-rounds", **fields)
        assert answer.status_code == 422
        assert sentence in answer.text
    assert count(Round) == 0


def test_a_form_that_does_not_fit_comes_back_with_what_was_typed(project: Project, alice: User, browse: Browse) -> None:
    typed = {"count": "0", "guidance_scale": "7.5", "seed": "41"}

    page = " ".join(browse(alice).post(f"/p/{project.id}/sample-rounds", **typed).text.split())

    sentence = "A round draws 1 to 10,000 prompts from a prompt set, you sent 0."
    assert f'<p class="notice failed" role="alert" tabindex="-1" autofocus>{sentence}</p>' in page
    form = page[page.index("/sample-rounds") : page.index("/training-rounds")]
    assert all(f'name="{name}" value="{value}"' in form for name, value in typed.items())
    assert "Sign out" in page


def test_training_without_a_usable_pair_says_what_to_do(project: Project, alice: User, browse: Browse) -> None:
    answer = browse(alice).post(f"/p/{project.id}/training-rounds")

    assert answer.status_code == 422
    assert "There are 0 usable pairs to train on" in answer.text


def test_training_takes_its_settings_from_the_form(project: Project, alice: User, bob: User, browse: Browse) -> None:
    factories.vote(factories.task(project), bob)

    browse(alice).post(f"/p/{project.id}/training-rounds", learning_rate="0.002", epochs="2", votes="new")

    row = newest()
    assert (row.kind, row.params["learning_rate"], row.params["epochs"], row.params["pairs"]) == ("training", 0.002, 2, 2)
    assert row.params["algorithm"] == "d3po"


def test_the_form_offers_every_algorithm_and_the_round_takes_the_chosen_one(
    project: Project, alice: User, bob: User, browse: Browse
) -> None:
    known = get_args(TrainingParams.model_fields["algorithm"].annotation)
    factories.vote(factories.task(project), bob)
    browser = browse(alice)
    form = browser.get(f"/p/{project.id}").text
    assert [name for name in known if f'<option value="{name}"' in form] == [*known]
    assert '<option value="d3po" selected>' in form

    refused = browser.post(f"/p/{project.id}/training-rounds", algorithm="ddpo", epochs="0")
    assert (refused.status_code, '<option value="ddpo" selected>' in refused.text) == (422, True)
    browser.post(f"/p/{project.id}/training-rounds", algorithm="ddpo")

    assert (newest().params["algorithm"], newest().params["ratio_clip"]) == ("ddpo", 1e-4)
    refused = browser.post(f"/p/{project.id}/training-rounds", algorithm="ppo")
    assert "Method must be" in refused.text


def test_votes_on_a_pair_weigh_as_the_form_says(project: Project, alice: User, bob: User, browse: Browse) -> None:
    factories.vote(factories.task(project), bob)
    browser = browse(alice)
    form = browser.get(f"/p/{project.id}").text
    known = get_args(TrainingParams.model_fields["pair_weights"].annotation)
    assert [name for name in known if f'<option value="{name}"' in form] == [*known]
    browser.post(f"/p/{project.id}/training-rounds", pair_weights="reliability")
    assert newest().params["pair_weights"] == "reliability"


def test_a_duel_is_the_current_checkpoint_against_its_parent(project: Project, alice: User, browse: Browse) -> None:
    parent = factories.checkpoint(project)
    current = factories.checkpoint(project, parent_id=parent.id)

    browse(alice).post(f"/p/{project.id}/duel-rounds", prompts="a red apple", seeds="3", seed="5")

    row = newest()
    assert (row.kind, row.checkpoint_id, row.opponent_id, row.params["seeds"]) == ("duel", current.id, parent.id, [5, 6, 7])


def test_cancel_and_retry(project: Project, alice: User, browse: Browse) -> None:
    row = factories.round_(project, state=State.QUEUED)
    factories.job(row)
    browser = browse(alice)

    assert browser.post(f"/rounds/{row.id}/cancel").headers["location"] == f"/rounds/{row.id}"
    assert newest().state == State.CANCELLED
    assert "Retry" in browser.get(f"/rounds/{row.id}").text
    browser.post(f"/rounds/{row.id}/retry")
    assert newest().state == State.QUEUED


def test_promote_and_roll_back(project: Project, alice: User, browse: Browse) -> None:
    first = factories.checkpoint(project)
    factories.checkpoint(project, parent_id=first.id)
    browser = browse(alice)

    browser.post(f"/p/{project.id}/promote", checkpoint_id=first.id)
    assert f"drawn by <strong>checkpoint {first.number}</strong>" in browser.get(f"/p/{project.id}/checkpoints").text
    browser.post(f"/p/{project.id}/promote", checkpoint_id="base")
    assert "drawn by <strong>the base model</strong>" in browser.get(f"/p/{project.id}/checkpoints").text
    assert count(Checkpoint) == 2
