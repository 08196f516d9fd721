"""`d3po auto`: what it asks for, and what it shows while it watches."""

from __future__ import annotations

import threading
import time

import pytest
from sqlalchemy import select
from sqlalchemy.orm import Session

from server import cli_rounds
from server.db import read_scope, session_scope
from server.models import Project, Round, State, User
from tests import factories
from tests.server.domain.auto.conftest import Stage
from tests.server.test_cli import D3po, d3po, project

__all__ = ["d3po", "project"]
ASKED = ("auto", "Emoji", "--reward", "colourfulness", "--epochs", "1", "--count", "2", "--evaluation-prompts", "4")


def test_it_asks_for_what_the_options_say(d3po: D3po, project: Project, session: Session) -> None:
    more = ("--evaluate-every", "3", "--stop-kl", "0.5", "--no-stop-on-regression", "--algorithm", "ddpo", "--steps", "7")
    status, printed, told = d3po(*ASKED, *more, "--no-watch")
    assert (status, told) == (0, "Round 1 is queued.")
    row = session.get_one(Round, printed.strip())
    expected = {"epochs": 1, "count": 2, "evaluate_every": 3, "stop_kl": 0.5, "stop_on_regression": False}
    assert row.params | expected == row.params
    assert (row.params["training"], row.params["sampling"]) == ({"algorithm": "ddpo"}, {"num_inference_steps": 7})
    assert row.params["reward"]["rewards"][0]["name"] == "colourfulness"


def test_bad_values_are_the_same_sentences_as_everywhere(d3po: D3po, project: Project) -> None:
    assert d3po("auto")[2].startswith("rewards needs at least 1, you sent 0.")
    assert d3po(*ASKED, "--evaluate-every", "0")[2].startswith("evaluate_every must be at least 1, you sent 0.")
    assert d3po(*ASKED, "--reward", "clip_score")[2].startswith("clip_score needs its parameters")


def test_watching_tells_each_evaluation_and_how_it_ended(
    d3po: D3po, project: Project, session: Session, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(cli_rounds, "LOOK_EVERY_SECONDS", 0.02)
    session.commit()

    def run() -> None:
        while not _launched():
            time.sleep(0.05)
        with session_scope() as running:
            factories.bind(running)
            stage = Stage(running, running.get_one(Project, project.id), running.scalars(select(User)).one())
            stage.auto = running.scalars(select(Round).where(Round.kind == "auto")).one()
            stage.end((1.0, 2.0, 3.0, 4.0))
            stage.epoch((2.0, 3.0, 4.0, 5.0))
            assert stage.auto.state == State.DONE

    worker = threading.Thread(target=run)
    worker.start()
    status, _, told = d3po(*ASKED)
    worker.join()
    assert status == 0
    assert "before training: held-out colourfulness 2.5 [1.235, 3.765]" in told
    assert "epoch 1: held-out colourfulness 3.5 [2.235, 4.765]" in told
    assert "All epochs are done. Best on held-out prompts, and in use now: checkpoint 1, of epoch 1." in told


def _launched() -> bool:
    with read_scope() as session:
        return session.scalar(select(Round.id).limit(1)) is not None
