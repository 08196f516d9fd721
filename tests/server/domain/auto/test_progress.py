"""How far an auto round is, what it refuses before it draws anything, and how it travels."""

from __future__ import annotations

from datetime import timedelta

import pytest
from sqlalchemy.orm import Session

from d3po_core.params import SamplingParams
from d3po_core.rewards import ChosenReward, RewardParams
from server.domain import rounds
from server.errors import D3poError, Invalid
from server.models import Round, State, now
from tests import factories
from tests.server.domain.auto.conftest import Stage


def test_it_counts_epochs_and_judges_the_rest_by_them(session: Session, stage: Stage) -> None:
    row = stage.begin(epochs=4)
    assert rounds.progress(session, row).seconds_left is None
    stage.end()
    stage.epoch()
    for child in stage.children:
        child.started_at, child.finished_at = now() - timedelta(seconds=10), now()
    running = stage.children[-1]
    running.state, running.started_at, running.finished_at = State.RUNNING, now() - timedelta(seconds=5), None
    session.flush()
    progress = rounds.progress(session, row)
    assert (progress.done, progress.total, progress.unit, progress.at_most) == (1, 4, "epochs", True)
    assert progress.seconds_left == pytest.approx(3 * 40 - 5, abs=1)


def test_one_that_stopped_early_says_how_many_epochs_it_did(session: Session, stage: Stage) -> None:
    row = stage.begin(epochs=9, stop_kl=0.01)
    stage.end()
    stage.epoch(kl=1.0)
    progress = rounds.progress(session, row)
    assert (progress.state, progress.done, progress.total, progress.seconds_left) == (State.DONE, 1, 9, None)


@pytest.mark.parametrize(
    ("asked", "told"),
    [
        ({"reward": RewardParams(rewards=[ChosenReward(name="beauty")])}, "There is no reward beauty here"),
        ({"prompt_set": "poems"}, "There is no prompt set called poems."),
        ({"sampling": SamplingParams(images_per_prompt=3)}, "People compare two images here"),
    ],
)
def test_what_no_step_would_take_is_refused_at_once(session: Session, stage: Stage, asked: dict, told: str) -> None:
    stage.project.mode = "pairwise"
    with pytest.raises(Invalid, match=told), session.begin_nested():
        stage.begin(**{"sampling": SamplingParams(images_per_prompt=2)} | asked)
    assert session.query(Round).count() == 0


def test_only_who_runs_the_project_launches_one(session: Session, stage: Stage) -> None:
    stage.by = factories.annotator(stage.project)
    with pytest.raises(D3poError, match="operator"):
        stage.begin()


def test_a_launcher_who_lost_the_right_stops_it_with_the_reason(session: Session, stage: Stage) -> None:
    row = stage.begin()
    stage.by.revoked_at = now()
    session.flush()
    stage.end()
    told = (
        "Epoch 1 could not go on with a sample round: The access of Alice, who launched it, was taken away. Launch another one."
    )
    assert (row.state, row.message.startswith(told)) == (State.FAILED, True)
