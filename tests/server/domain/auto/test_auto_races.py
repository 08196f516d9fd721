"""Workers and people who move one auto round at the same moment, each in a transaction of their own."""

from __future__ import annotations

from contextlib import suppress

import pytest
from sqlalchemy import select
from sqlalchemy.orm import Session

from server.db import read_scope, session_scope
from server.domain import jobs, rounds
from server.errors import Conflict
from server.models import Group, Round, State
from tests import factories
from tests.databases import on_both_databases
from tests.server.domain.auto.conftest import Stage
from tests.server.domain.test_races import at_once

pytestmark = on_both_databases


@pytest.fixture
def claims(session: Session, stage: Stage) -> list[jobs.Claim]:
    """Both jobs of the first sample round run, and its groups are there."""
    stage.begin()
    stage.end()
    sample = stage.children[-1]
    stage.draw(sample)
    found = []
    while job := stage.waiting(sample):
        found.append(stage.claimed(job))
    factories.commit()
    return found


def test_two_workers_that_finish_at_once_launch_the_next_round_once(stage: Stage, claims: list[jobs.Claim]) -> None:
    at_once([lambda session, claim=claim: jobs.finish(session, claim) for claim in claims])
    with read_scope() as reader:
        known = reader.scalars(select(Round.kind).where(Round.auto_id.is_not(None)).order_by(Round.number)).all()
        assert known == ["evaluation", "sample", "reward"]


def test_cancelling_while_the_round_that_it_is_at_ends(stage: Stage, claims: list[jobs.Claim]) -> None:
    """Whoever is first: it does not go on, and what ended stays ended."""
    assert stage.auto is not None
    auto_id, first, last = stage.auto.id, *claims
    with session_scope() as session:
        jobs.finish(session, first)

    def finish(session: Session) -> None:
        with suppress(jobs.LostClaim):
            jobs.finish(session, last)

    def cancel(session: Session) -> None:
        rounds.cancel(session, stage.by, session.get_one(Round, auto_id))

    answers = at_once([finish, cancel])
    assert not any(isinstance(answer, Conflict) for answer in answers)
    with read_scope() as reader:
        assert reader.get_one(Round, auto_id).state == State.CANCELLED
        states = reader.scalars(select(Round.state).where(Round.auto_id == auto_id).order_by(Round.number)).all()
        assert states in ([State.DONE, State.CANCELLED], [State.DONE, State.DONE, State.CANCELLED])
        assert len(reader.scalars(select(Group.id)).all()) == 4 + 2
