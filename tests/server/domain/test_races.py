"""Many people at the same moment, on both databases, each in a thread and a transaction of their own."""

from __future__ import annotations

import time
import uuid
from collections import Counter
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from threading import Barrier
from typing import Any, TypeVar

import pytest
from sqlalchemy import Text, cast, func, select
from sqlalchemy.orm import Session

from d3po_core.params import SamplingParams
from d3po_core.rewards import ChosenReward, RewardParams
from server.db import read_scope, session_scope
from server.domain import closing, jobs, leasing, rounds, scoring, voting
from server.domain.jobs import Claim
from server.domain.voting import Ballot, VoteReceipt
from server.errors import Conflict, D3poError
from server.models import Group, Job, Project, Round, Score, State, Task, User, Vote
from tests import factories
from tests.databases import on_both_databases

pytestmark = on_both_databases
Answer = TypeVar("Answer")


def at_once(acts: Sequence[Callable[[Session], Answer]]) -> list[Answer | D3poError]:
    """What each act gives or refuses when all begin together."""
    start = Barrier(len(acts))

    def run(act: Callable[[Session], Answer]) -> Answer | D3poError:
        start.wait()
        try:
            with session_scope() as session:
                return act(session)
        except D3poError as error:
            return error

    with ThreadPoolExecutor(len(acts)) as pool:
        return list(pool.map(run, acts))


def ballot(task_id: str, session: Session, position: int = 0) -> Ballot:
    image_id = session.get_one(Task, task_id).group.images[position].id
    return Ballot(vote_id=str(uuid.uuid4()), outcome="best", best_image_id=image_id)


@pytest.fixture
def project(session: Session) -> Project:
    return factories.project()


def test_machines_that_score_the_same_images_at_once_agree_on_what_is_kept(session: Session, project: Project) -> None:
    """Both vote by colourfulness, one also by another reward; each measured something else."""
    boss, tasks = factories.operator(project), [factories.task(project, votes_wanted=4) for _ in range(5)]
    groups = [task.group for task in tasks]
    names = (["colourfulness"], ["colourfulness", "safety"])
    asked = [RewardParams(rewards=[ChosenReward(name=name) for name in some]) for some in names]
    ids = [rounds.request_reward_round(session, boss, project, params).id for params in asked]
    factories.commit()
    claims = []
    for round_id in ids:
        with session_scope() as other:
            [job] = other.scalars(select(Job).where(Job.round_id == round_id))
            claims.append(jobs.claim(other, job.id, "here:1"))

    def record(session: Session, claim: Claim | None, group: Group, value: float) -> None:
        assert claim is not None
        measured = {"colourfulness": value, "safety": 1.0}
        scoring.record(session, claim, group.id, {image.id: measured for image in group.images}, 3)

    for group in groups:
        both = list(enumerate(claims))
        acts = [lambda session, c=claim, g=group, v=float(place): record(session, c, g, v) for place, claim in both]
        assert at_once(acts) == [None, None]
    with read_scope() as other:
        kept = {score.image_id: score.value for score in other.scalars(select(Score).where(Score.reward == "colourfulness"))}
        votes = list(other.scalars(select(Vote)))
    assert len(votes) == 10
    assert all(numbers[0] == kept[image_id] for vote in votes for image_id, numbers in vote.ratings.items())


@pytest.mark.parametrize("wanted", [1, 2])
def test_leases_never_overshoot_the_wanted_votes(session: Session, project: Project, wanted: int) -> None:
    tasks = [factories.task(project, votes_wanted=wanted).id for _ in range(6)]
    people = [factories.annotator(project) for _ in range(8)]
    factories.commit()
    for _ in range(3):
        answers = at_once([lambda session, user=user: voting.lease_tasks(session, user, project, 3) for user in people])
        held = Counter(leased.task_id for answer in answers for leased in answer)
        assert max(held.values()) <= wanted
    # Who came while a row was locked was passed over; asking again gives what is left.
    [answers] = zip(
        *(at_once([lambda session, user=user: voting.lease_tasks(session, user, project, 3)]) for user in people), strict=True
    )
    held = Counter(leased.task_id for answer in answers for leased in answer)
    assert held == dict.fromkeys(tasks, wanted)


def test_two_votes_for_the_last_slot(session: Session, project: Project) -> None:
    task = factories.task(project)
    people = [factories.annotator(project) for _ in range(4)]
    ballots = [ballot(task.id, session, number % 3) for number in range(4)]
    factories.commit()
    receipts = at_once(
        [
            lambda session, user=user, given=given: voting.cast_vote(session, user, task.id, given)
            for user, given in zip(people, ballots, strict=True)
        ]
    )
    assert sorted((receipt.counted, receipt.surplus) for receipt in receipts) == [(False, True)] * 3 + [(True, False)]
    with read_scope() as reader:
        [counted] = voting.counted_votes(reader, [task.id])
        assert len(reader.scalars(select(Vote.id)).all()) == 4
    assert [receipt.vote_id for receipt in receipts if receipt.counted] == [counted.id]


def test_a_vote_and_a_lease_for_the_last_slot(session: Session, project: Project) -> None:
    late, next_one = factories.annotator(project), factories.annotator(project)
    tasks = [factories.task(project) for _ in range(5)]
    ballots = [ballot(task.id, session) for task in tasks]
    factories.commit()
    for task, given in zip(tasks, ballots, strict=True):
        leased, receipt = at_once(
            [
                lambda session: voting.lease_tasks(session, next_one, project, 5),
                lambda session, task=task, given=given: voting.cast_vote(session, late, task.id, given),
            ]
        )
        assert isinstance(receipt, VoteReceipt)
        assert isinstance(leased, list)
        assert receipt.counted == (task.id not in {held.task_id for held in leased})
        with session_scope() as later:
            if not receipt.counted:
                assert voting.cast_vote(later, next_one, task.id, ballot(task.id, session)).counted
            assert len(voting.counted_votes(later, [task.id])) == 1


def test_voting_while_the_next_tasks_are_fetched(session: Session, project: Project) -> None:
    """The rhythm of the voting page: a vote and a request to fill up, at the same moment, by one person."""
    user = factories.annotator(project)
    for _ in range(24):
        factories.task(project)
    factories.commit()
    for _ in range(8):
        with session_scope() as arranging:
            held = voting.lease_tasks(arranging, user, project, 4)
        given = Ballot(vote_id=str(uuid.uuid4()), outcome="best", best_image_id=held[0].images[0].id)
        receipt, filled = at_once(
            [
                lambda session, given=given, held=held: voting.cast_vote(session, user, held[0].task_id, given),
                lambda session: voting.lease_tasks(session, user, project, 5),
            ]
        )
        assert isinstance(receipt, VoteReceipt)
        assert isinstance(filled, list)
        assert receipt.counted
        assert {leased.task_id for leased in held[1:]} <= {leased.task_id for leased in filled}


def test_a_vote_that_came_before_its_task_was_closed_counts(session: Session, project: Project) -> None:
    """Whoever closes waits for the vote's lock, and closes after it."""
    if session.get_bind().dialect.name != "postgresql":
        pytest.skip("SQLite has one writer at a time")
    boss, user, round_ = factories.operator(project), factories.annotator(project), factories.round_(project)
    task = factories.task(project, factories.group(project, round_id=round_.id))
    given = ballot(task.id, session)
    factories.commit()

    def close() -> int:
        with session_scope() as other:
            return closing.close(other, boss, other.get_one(Round, round_.id))

    with ThreadPoolExecutor(1) as pool:
        with session_scope() as voter:
            voting.release(voter, user, task.id)  # locks the task
            closed = pool.submit(close)
            time.sleep(0.5)
            assert voting.cast_vote(voter, user, task.id, given).counted
        assert closed.result() == 1
    with read_scope() as reader:
        assert [vote.id for vote in voting.counted_votes(reader, [task.id])] == [given.vote_id]


def test_the_same_vote_sent_many_times_at_once_is_one_vote(session: Session, project: Project) -> None:
    user, task = factories.annotator(project), factories.task(project)
    given = ballot(task.id, session)
    factories.commit()
    receipts = at_once([lambda session: voting.cast_vote(session, user, task.id, given)] * 5)
    assert set(receipts) == {VoteReceipt(given.vote_id, True, False)}
    with read_scope() as reader:
        assert reader.scalars(select(Vote.id)).all() == [given.vote_id]


def test_two_votes_of_one_person_at_once_are_one_and_a_refusal(session: Session, project: Project) -> None:
    user, task = factories.annotator(project), factories.task(project, votes_wanted=3)
    ballots = [ballot(task.id, session, position) for position in (0, 1)]
    factories.commit()
    answers = at_once([lambda session, given=given: voting.cast_vote(session, user, task.id, given) for given in ballots])
    assert Counter(type(answer) for answer in answers) == {VoteReceipt: 1, Conflict: 1}


def test_rounds_requested_at_once_get_numbers_of_their_own(session: Session, project: Project) -> None:
    boss: User = factories.operator(project)
    factories.commit()
    at_once([lambda session: rounds.request_sample_round(session, boss, project, SamplingParams(), ["a cat"])] * 4)
    with read_scope() as reader:
        assert sorted(reader.scalars(select(Round.number))) == [1, 2, 3, 4]


def test_cancelling_while_a_worker_finishes(session: Session, project: Project, monkeypatch: pytest.MonkeyPatch) -> None:
    """Both lock the round first; jobs first was a deadlock on PostgreSQL."""
    boss, move = factories.operator(project), rounds._move

    def slowly(*given: Any, **values: Any) -> Any:
        moved = move(*given, **values)
        time.sleep(0.05)
        return moved

    monkeypatch.setattr(rounds, "_move", slowly)
    for number in range(4):
        round_ = factories.round_(project, state=State.QUEUED)
        job = factories.job(round_)
        factories.commit()
        with session_scope() as arranging:
            claim = jobs.claim(arranging, job.id, "here:1")

        def finish(session: Session, claim: jobs.Claim | None = claim, delay: float = number * 0.01) -> None:
            time.sleep(delay)
            with suppress(jobs.LostClaim):
                jobs.finish(session, claim)

        at_once([finish, lambda session, ident=round_.id: rounds.cancel(session, boss, session.get_one(Round, ident))])
        with read_scope() as reader:
            assert reader.get_one(Round, round_.id).state in (State.DONE, State.CANCELLED)


def test_jobs_that_finish_at_once_finish_the_round(session: Session, project: Project) -> None:
    round_ = factories.round_(project, state=State.RUNNING)
    jobs = [factories.job(round_, state=State.RUNNING) for _ in range(4)]
    factories.commit()

    def finish(session: Session, job_id: str) -> None:
        session.get_one(type(jobs[0]), job_id).state = State.DONE
        rounds.settle(session, session.get_one(Round, round_.id))

    at_once([lambda session, job_id=job.id: finish(session, job_id) for job in jobs])
    with read_scope() as reader:
        assert reader.get_one(Round, round_.id).state == State.DONE


def test_a_slot_taken_while_the_queue_was_being_read(session: Session, project: Project, monkeypatch: pytest.MonkeyPatch) -> None:
    """PostgreSQL locks a row that its snapshot shows as free although somebody took the slot since: count again."""
    if session.get_bind().dialect.name != "postgresql":
        pytest.skip("SQLite has one writer at a time")
    slow, quick, task = factories.annotator(project), factories.annotator(project), factories.task(project)
    factories.commit()
    monkeypatch.setattr(leasing, "_shuffled", lambda: cast(func.pg_sleep(1), Text))

    def take_slowly() -> list[voting.LeasedTask]:
        with session_scope() as other:
            return voting.lease_tasks(other, slow, project, 1)

    with ThreadPoolExecutor(1) as pool:
        answer = pool.submit(take_slowly)
        time.sleep(0.5)
        factories.lease(task, quick)
        factories.commit()
        assert answer.result() == []
