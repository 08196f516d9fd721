"""Groups that an operator takes out of the voting queue."""

from __future__ import annotations

import uuid

import pytest
from sqlalchemy.orm import Session

from server.domain import closing, voting
from server.domain.voting import Ballot
from server.errors import Conflict, Denied, Gone
from server.models import Project, Round, State, Task, User
from tests import factories
from tests.databases import on_both_databases

pytestmark = on_both_databases


@pytest.fixture
def project(session: Session) -> Project:
    return factories.project(votes_per_task=2)


@pytest.fixture
def alice(project: Project) -> User:
    return factories.operator(project, name="Alice")


@pytest.fixture
def round_(project: Project) -> Round:
    return factories.round_(project)


@pytest.fixture
def task(project: Project, round_: Round) -> Task:
    return factories.task(project, factories.group(project, round_id=round_.id))


def tie() -> Ballot:
    return Ballot(vote_id=str(uuid.uuid4()), outcome="tie")


def test_nobody_is_asked_and_what_still_arrives_is_kept(
    session: Session, project: Project, round_: Round, task: Task, alice: User
) -> None:
    other, bob, carol = factories.task(project), factories.annotator(project), factories.annotator(project)
    counted = voting.cast_vote(session, bob, task.id, tie())
    assert {leased.task_id for leased in voting.lease_tasks(session, carol, project, 5)} == {task.id, other.id}

    assert closing.close(session, alice, round_) == 1
    with pytest.raises(Gone):
        voting.renew(session, carol, task.id)
    assert closing.wanting(session, round_) == (0, 1)
    late = voting.cast_vote(session, carol, task.id, tie())
    assert (late.counted, late.surplus) == (False, True)
    assert [vote.id for vote in voting.counted_votes(session, [task.id])] == [counted.vote_id]
    assert {leased.task_id for leased in voting.lease_tasks(session, alice, project, 5)} == {other.id}

    assert closing.reopen(session, alice, round_) == 1
    assert len(voting.counted_votes(session, [task.id])) == 2


def test_there_must_be_something_to_close_or_reopen(session: Session, round_: Round, task: Task, alice: User) -> None:
    with pytest.raises(Conflict, match="has no group that is closed"):
        closing.reopen(session, alice, round_)
    closing.close(session, alice, round_)
    with pytest.raises(Conflict, match="has no group that is open to votes"):
        closing.close(session, alice, round_)


def test_a_round_that_draws_is_cancelled_first(session: Session, round_: Round, task: Task, alice: User) -> None:
    round_.state = State.RUNNING
    with pytest.raises(Conflict, match=r"is still drawing\. Cancel it"):
        closing.close(session, alice, round_)


def test_annotators_close_nothing(session: Session, project: Project, round_: Round, task: Task) -> None:
    with pytest.raises(Denied, match="needs the role operator"):
        closing.close(session, factories.annotator(project), round_)
