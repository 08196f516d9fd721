"""The one suggested action, at every place in the loop."""

from __future__ import annotations

import pytest
from sqlalchemy.orm import Session

from server.models import Outcome, Project, State, User
from server.pages import overview
from server.pages.overview import Stage, Suggestion
from tests import factories


@pytest.fixture
def bob(project: Project) -> User:
    return factories.annotator(project)


def suggest(session: Session, project: Project) -> Suggestion:
    session.flush()
    return overview.suggest(overview.read(session, project))


def stage(session: Session, project: Project, name: str) -> Stage:
    return next(each for each in overview.stages(overview.read(session, project)) if each.name == name)


def test_a_new_project_samples(session: Session, project: Project) -> None:
    wanted = Suggestion("sample 40 groups", action=f"/p/{project.id}/sample-rounds", fields={"count": "40"})
    assert suggest(session, project) == wanted


def test_groups_that_wait_are_voted_on(session: Session, project: Project) -> None:
    factories.task(project)

    wanted = Suggestion("vote on 1 group", href=f"/p/{project.id}/vote", note="0 of 40 groups for the next training round.")
    assert suggest(session, project) == wanted


def test_too_few_votes_for_a_round_want_more_images_and_say_why(session: Session, project: Project, bob: User) -> None:
    project.base_model = "demo"
    for _ in range(12):
        factories.vote(factories.task(project), bob)

    found = suggest(session, project)

    assert (found.label, found.fields) == ("sample 28 more groups", {"count": "28"})
    assert found.note.startswith("You can train now, too. 12 groups will hardly change a picture: with 40, ")


def test_nothing_is_claimed_of_a_model_that_was_not_measured(session: Session, project: Project, bob: User) -> None:
    project.base_model = "another"
    factories.vote(factories.task(project), bob)

    assert suggest(session, project).note == "You can train now, too."


@pytest.mark.parametrize(
    ("voted", "waiting", "label"),
    [
        (40, 0, "train on 80 pairs"),
        (40, 9, "train on 80 pairs"),
        (39, 10, "vote on 10 groups"),
        (4, 1, "sample 36 more groups"),
        (3, 1, "vote on 1 group"),
    ],
)
def test_enough_votes_are_trained_on_though_groups_wait(
    voted: int, waiting: int, label: str, session: Session, project: Project, bob: User
) -> None:
    for _ in range(voted):
        factories.vote(factories.task(project), bob)
    for _ in range(waiting):
        factories.task(project)

    assert suggest(session, project).label == label


def test_training_is_waited_for(session: Session, project: Project) -> None:
    row = factories.round_(project, "training", state=State.RUNNING)
    factories.task(project)

    assert suggest(session, project).label == f"Training round {row.number} is running. You can go on voting."


def test_a_failure_comes_first(session: Session, project: Project) -> None:
    factories.task(project)
    row = factories.round_(project, "training", state=State.FAILED, message="The disk is full. Free 2 GB.")

    found = suggest(session, project)

    assert (found.label, found.action) == (f"retry training round {row.number}", f"/rounds/{row.id}/retry")
    assert found.note == "The disk is full. Free 2 GB."


def test_a_new_checkpoint_duels(session: Session, project: Project) -> None:
    checkpoint = factories.checkpoint(project)

    wanted = Suggestion(f"duel checkpoint {checkpoint.number}", action=f"/p/{project.id}/duel-rounds")
    assert suggest(session, project) == wanted


@pytest.mark.parametrize(("losses", "label"), [(0, "sample 40 groups"), (10, "roll back to the base model")])
def test_after_a_duel(losses: int, label: str, session: Session, project: Project, bob: User) -> None:
    checkpoint = factories.checkpoint(project)
    duel = factories.round_(project, "duel", checkpoint_id=checkpoint.id, params={"items": 10})
    for place in range(10):
        group = factories.group(project, round_id=duel.id, images=2, drawn_by=[checkpoint.id, None])
        factories.vote(factories.task(project, group), bob, best=1 if place < losses else 0)

    assert suggest(session, project).label == label


def test_groups_that_train_nothing_are_not_asked_for(session: Session, project: Project, bob: User) -> None:
    for _ in range(2):
        factories.task(project)
    made = factories.checkpoint(project)
    factories.round_(project, "duel", checkpoint_id=made.id, params={"items": 0})

    assert suggest(session, project).label == "sample 40 groups"
    lines = stage(session, project, "Vote").lines
    assert lines[1:] == ["nothing waits", "2 groups of another policy set aside: no round can train on them now"]


def test_the_stages_tell_live_numbers(session: Session, project: Project, bob: User) -> None:
    factories.vote(factories.task(project), bob, best=None, outcome=Outcome.TIE)
    drawn = factories.round_(project, params={"prompts": 3}, state=State.RUNNING)
    tasks = [factories.task(project, factories.group(project, round_id=drawn.id)) for _ in range(2)]
    factories.vote(tasks[0], bob)

    sample, vote = stage(session, project, "Sample"), stage(session, project, "Vote")

    assert (sample.figure, sample.progress.total) == ("2 of 3", 3)
    assert (vote.figure, vote.lines) == (
        "2 pairs",
        ["from 1 group that the base model drew", "1 group to vote on", "no pair from: 1 tie"],
    )
    assert stage(session, project, "Train").figure == "not yet"


def test_whether_it_works_before_anything_is_compared(session: Session, project: Project) -> None:
    assert overview.verdict(overview.read(session, project)) == "Nothing is trained yet: the base model draws the images."

    made = factories.checkpoint(project)
    session.flush()

    told = f"Nobody has compared checkpoint {made.number} yet, so whether it is better is open."
    assert overview.verdict(overview.read(session, project)) == told


@pytest.mark.parametrize(
    ("wins", "losses", "told"),
    [
        (20, 2, "It works: people prefer"),
        (2, 20, "It got worse: people prefer"),
        (6, 4, "Not clear yet: people prefer"),
        (0, 0, "Whether checkpoint"),
    ],
)
def test_whether_it_works_after_a_duel(wins: int, losses: int, told: str, session: Session, project: Project, bob: User) -> None:
    made = factories.checkpoint(project)
    duel = factories.round_(project, "duel", checkpoint_id=made.id, params={"items": wins + losses})
    for best in [0] * wins + [1] * losses:
        group = factories.group(project, round_id=duel.id, images=2, drawn_by=[made.id, None])
        factories.vote(factories.task(project, group), bob, best=best)
    session.flush()

    assert overview.verdict(overview.read(session, project)).startswith(told)


def test_a_duel_shows_its_win_rate_with_the_interval(session: Session, project: Project, bob: User) -> None:
    checkpoint = factories.checkpoint(project)
    duel = factories.round_(project, "duel", checkpoint_id=checkpoint.id, params={"items": 4})
    for best in (0, 0, 0, 1):
        group = factories.group(project, round_id=duel.id, images=2, drawn_by=[checkpoint.id, None])
        factories.vote(factories.task(project, group), bob, best=best)

    shown = stage(session, project, "Duel")

    assert (shown.figure, shown.lines) == ("75 % [30, 95]", [f"checkpoint {checkpoint.number} against the base model"])


def test_votes_beyond_the_wanted_ones_are_shown(session: Session, project: Project, alice: User, bob: User) -> None:
    task = factories.task(project)
    for person in (alice, bob):
        factories.vote(task, person)

    assert "1 vote too late or too many: kept, not counted" in stage(session, project, "Vote").lines
