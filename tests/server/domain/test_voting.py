"""The rules of the voting queue, on both databases."""

from __future__ import annotations

import uuid
from datetime import timedelta
from typing import Any

import pytest
from sqlalchemy import func, select
from sqlalchemy.orm import Session

from server.domain import checkpoints, voting
from server.domain.voting import Ballot
from server.errors import Conflict, Denied, Gone, Invalid, NotFound
from server.models import Lease, Outcome, Project, Task, User, Vote, now
from tests import factories
from tests.databases import on_both_databases

pytestmark = on_both_databases


@pytest.fixture
def project(session: Session) -> Project:
    return factories.project()


@pytest.fixture
def alice(project: Project) -> User:
    return factories.annotator(project, name="Alice")


@pytest.fixture
def bob(project: Project) -> User:
    return factories.annotator(project, name="Bob")


def best(task: Task, position: int = 0, **values: Any) -> Ballot:
    image_id = task.group.images[position].id
    return Ballot(**{"vote_id": str(uuid.uuid4()), "outcome": "best", "best_image_id": image_id} | values)


def rated(ratings: dict[str, list[float]]) -> Ballot:
    return Ballot(vote_id=str(uuid.uuid4()), outcome="rated", ratings=ratings)


def skip() -> Ballot:
    return Ballot(vote_id=str(uuid.uuid4()), outcome="skip")


def expire(session: Session, task: Task, user: User) -> None:
    session.get_one(Lease, (task.id, user.id)).expires_at = now() - timedelta(seconds=1)
    session.flush()


def leased_ids(session: Session, user: User, project: Project, count: int = 5) -> set[str]:
    return {leased.task_id for leased in voting.lease_tasks(session, user, project, count)}


class TestLeasing:
    def test_a_task_comes_with_its_images_in_a_recorded_order(self, session: Session, project: Project, alice: User) -> None:
        task = factories.task(project, factories.group(project, images=5, prompt="a cat"))
        [leased] = voting.lease_tasks(session, alice, project, 3)
        lease = session.get_one(Lease, (task.id, alice.id))
        assert (leased.task_id, leased.prompt, leased.mode) == (task.id, "a cat", "best")
        assert [image.id for image in leased.images] == lease.shown_order
        assert sorted(lease.shown_order) == sorted(image.id for image in task.group.images)
        assert timedelta(seconds=110) < leased.lease_expires_at - now() <= timedelta(seconds=120)

    def test_orders_differ_between_tasks(self, session: Session, project: Project, alice: User) -> None:
        for _ in range(8):
            factories.task(project, factories.group(project, images=6))
        orders = {tuple(image.position for image in leased.images) for leased in voting.lease_tasks(session, alice, project, 8)}
        assert len(orders) > 1

    def test_nothing_waits(self, session: Session, project: Project, alice: User) -> None:
        assert voting.lease_tasks(session, alice, project, 3) == []

    def test_no_two_people_on_one_slot(self, session: Session, project: Project, alice: User, bob: User) -> None:
        factories.task(project)
        assert len(leased_ids(session, alice, project)) == 1
        assert leased_ids(session, bob, project) == set()

    def test_as_many_people_as_votes_are_wanted(self, session: Session, project: Project, alice: User, bob: User) -> None:
        task = factories.task(project, votes_wanted=2)
        carol = factories.annotator(project)
        assert leased_ids(session, alice, project) == leased_ids(session, bob, project) == {task.id}
        assert leased_ids(session, carol, project) == set()

    def test_ones_own_leases_come_first_and_keep_their_order(self, session: Session, project: Project, alice: User) -> None:
        for _ in range(6):
            factories.task(project)
        before = {leased.task_id: leased.images for leased in voting.lease_tasks(session, alice, project, 2)}
        after = {leased.task_id: leased.images for leased in voting.lease_tasks(session, alice, project, 3)}
        assert len(after) == 3
        assert {task_id: after[task_id] for task_id in before} == before

    def test_an_expired_lease_frees_the_slot(self, session: Session, project: Project, alice: User, bob: User) -> None:
        task = factories.task(project)
        leased_ids(session, alice, project)
        expire(session, task, alice)
        assert leased_ids(session, bob, project) == {task.id}
        assert leased_ids(session, alice, project) == set()

    def test_never_a_task_one_has_voted_on(self, session: Session, project: Project, alice: User) -> None:
        task = factories.task(project, votes_wanted=2)
        voting.cast_vote(session, alice, task.id, best(task))
        assert leased_ids(session, alice, project) == set()

    def test_a_skipped_task_goes_to_others_only(self, session: Session, project: Project, alice: User, bob: User) -> None:
        task = factories.task(project)
        leased_ids(session, alice, project)
        receipt = voting.cast_vote(session, alice, task.id, skip())
        assert (receipt.counted, receipt.surplus) == (False, False)
        assert leased_ids(session, alice, project) == set()
        assert leased_ids(session, bob, project) == {task.id}

    def test_a_released_task_is_free_at_once(self, session: Session, project: Project, alice: User, bob: User) -> None:
        task = factories.task(project)
        leased_ids(session, alice, project)
        voting.release(session, alice, task.id)
        assert leased_ids(session, bob, project) == {task.id}

    def test_a_closed_task_is_not_leased(self, session: Session, project: Project, alice: User) -> None:
        factories.task(project, closed_at=now())
        assert leased_ids(session, alice, project) == set()

    def test_groups_of_a_policy_that_is_not_in_use_are_set_aside(self, session: Session, project: Project, alice: User) -> None:
        stale = {factories.task(project).id for _ in range(4)}
        checkpoint = factories.checkpoint(project)
        sample = factories.round_(project, checkpoint_id=checkpoint.id)
        duel = factories.round_(project, "duel")
        useful = {factories.task(project, factories.group(project, round_id=made.id)).id for made in (sample, duel)}
        assert leased_ids(session, alice, project, 6) == useful
        assert voting.my_progress(session, alice, project).waiting == 2
        checkpoints.promote_base(session, factories.admin(), project)
        assert leased_ids(session, alice, project, 6) > stale

    def test_renewing_extends_and_fails_once_lost(self, session: Session, project: Project, alice: User, bob: User) -> None:
        task = factories.task(project)
        leased_ids(session, alice, project)
        expire(session, task, alice)
        assert voting.renew(session, alice, task.id).lease_expires_at > now()
        expire(session, task, alice)
        leased_ids(session, bob, project)
        with pytest.raises(Gone, match="no longer hold"):
            voting.renew(session, alice, task.id)

    @pytest.mark.parametrize("count", [0, -1, 21])
    def test_count_has_bounds(self, session: Session, project: Project, alice: User, count: int) -> None:
        with pytest.raises(Invalid, match="count must be 1 to 20"):
            voting.lease_tasks(session, alice, project, count)

    def test_strangers_get_nothing(self, session: Session, project: Project) -> None:
        factories.task(project)
        with pytest.raises(Denied, match="not a member"):
            voting.lease_tasks(session, factories.user(), project, 1)


class TestVoting:
    def test_a_vote_is_stored_with_the_order_of_its_lease(self, session: Session, project: Project, alice: User) -> None:
        task = factories.task(project)
        [leased] = voting.lease_tasks(session, alice, project, 1)
        ballot = best(task, 2, flags={task.group.images[0].id: ["distorted"]}, shown_at=now(), decided_at=now())
        assert voting.cast_vote(session, alice, task.id, ballot) == (ballot.vote_id, True, False)
        vote = session.get_one(Vote, ballot.vote_id)
        assert vote.shown_order == [image.id for image in leased.images]
        assert (vote.outcome, vote.best_image_id, vote.flags) == (Outcome.BEST, ballot.best_image_id, ballot.flags)
        assert session.get(Lease, (task.id, alice.id)) is None

    def test_the_same_vote_again_is_the_same_vote(self, session: Session, project: Project, alice: User) -> None:
        task = factories.task(project)
        ballot = best(task, shown_at=now())
        first = voting.cast_vote(session, alice, task.id, ballot)
        assert voting.cast_vote(session, alice, task.id, ballot) == first
        assert session.scalar(select(func.count()).select_from(Vote)) == 1

    def test_the_same_id_with_another_body_is_refused(self, session: Session, project: Project, alice: User) -> None:
        task = factories.task(project)
        ballot = best(task, 0)
        voting.cast_vote(session, alice, task.id, ballot)
        with pytest.raises(Conflict, match="different vote"):
            voting.cast_vote(session, alice, task.id, best(task, 1, vote_id=ballot.vote_id))
        assert session.get_one(Vote, ballot.vote_id).best_image_id == ballot.best_image_id

    def test_the_same_id_on_another_task_is_refused(self, session: Session, project: Project, alice: User) -> None:
        first, second = factories.task(project), factories.task(project)
        ballot = Ballot(vote_id=str(uuid.uuid4()), outcome="tie")
        voting.cast_vote(session, alice, first.id, ballot)
        with pytest.raises(Conflict, match="different vote"):
            voting.cast_vote(session, alice, second.id, ballot)

    def test_somebody_elses_id_is_refused(self, session: Session, project: Project, alice: User, bob: User) -> None:
        task = factories.task(project, votes_wanted=2)
        ballot = best(task)
        voting.cast_vote(session, alice, task.id, ballot)
        with pytest.raises(Conflict, match="different vote"):
            voting.cast_vote(session, bob, task.id, ballot)

    def test_the_order_on_screen_is_the_one_recorded(self, session: Session, project: Project, alice: User) -> None:
        task = factories.task(project)
        [leased] = voting.lease_tasks(session, alice, project, 1)
        seen = [image.id for image in reversed(leased.images)]
        receipt = voting.cast_vote(session, alice, task.id, best(task, shown_order=seen))
        assert session.get_one(Vote, receipt.vote_id).shown_order == seen

    def test_the_same_vote_at_another_time_is_the_same_vote(self, session: Session, project: Project, alice: User) -> None:
        task = factories.task(project)
        ballot = best(task, shown_at=now(), decided_at=now())
        first = voting.cast_vote(session, alice, task.id, ballot)
        later = ballot.model_copy(update={"decided_at": now()})
        assert voting.cast_vote(session, alice, task.id, later) == first

    def test_a_vote_after_the_lease_ran_out_counts_while_there_is_room(
        self, session: Session, project: Project, alice: User
    ) -> None:
        task = factories.task(project)
        [leased] = voting.lease_tasks(session, alice, project, 1)
        expire(session, task, alice)
        ballot = best(task)
        assert voting.cast_vote(session, alice, task.id, ballot).counted
        assert session.get_one(Vote, ballot.vote_id).shown_order == [image.id for image in leased.images]

    def test_a_late_vote_beyond_the_wanted_ones_is_surplus(
        self, session: Session, project: Project, alice: User, bob: User
    ) -> None:
        task = factories.task(project)
        leased_ids(session, alice, project)
        expire(session, task, alice)
        assert voting.cast_vote(session, bob, task.id, best(task, 1)).counted
        receipt = voting.cast_vote(session, alice, task.id, best(task, 0))
        assert (receipt.counted, receipt.surplus) == (False, True)
        assert [vote.user_id for vote in voting.counted_votes(session, [task.id])] == [bob.id]

    def test_a_vote_on_a_closed_task_is_kept_and_does_not_count(self, session: Session, project: Project, alice: User) -> None:
        task = factories.task(project)
        leased_ids(session, alice, project)
        task.closed_at = now()
        receipt = voting.cast_vote(session, alice, task.id, best(task))
        assert (receipt.counted, receipt.surplus) == (False, True)
        assert session.get(Vote, receipt.vote_id) is not None

    def test_a_vote_before_the_task_closed_still_counts(self, session: Session, project: Project, alice: User) -> None:
        task = factories.task(project)
        receipt = voting.cast_vote(session, alice, task.id, best(task))
        task.closed_at = now()
        session.flush()
        assert [vote.id for vote in voting.counted_votes(session, [task.id])] == [receipt.vote_id]

    def test_a_second_vote_on_the_same_task_is_refused(self, session: Session, project: Project, alice: User) -> None:
        task = factories.task(project, votes_wanted=2)
        voting.cast_vote(session, alice, task.id, best(task))
        with pytest.raises(Conflict, match="voted on this task already"):
            voting.cast_vote(session, alice, task.id, best(task, 1))

    def test_an_edit_names_the_vote_it_replaces(self, session: Session, project: Project, alice: User) -> None:
        task = factories.task(project)
        first = voting.cast_vote(session, alice, task.id, best(task, 0))
        second = voting.cast_vote(session, alice, task.id, best(task, 1, supersedes=first.vote_id))
        assert [vote.id for vote in voting.counted_votes(session, [task.id])] == [second.vote_id]
        assert session.get_one(Vote, first.vote_id).best_image_id == task.group.images[0].id
        with pytest.raises(Conflict, match="voted on this task already"):
            voting.cast_vote(session, alice, task.id, best(task, 2, supersedes=first.vote_id))

    def test_an_edit_of_nothing_is_refused(self, session: Session, project: Project, alice: User) -> None:
        task = factories.task(project)
        with pytest.raises(Conflict, match="not your latest"):
            voting.cast_vote(session, alice, task.id, best(task, supersedes=str(uuid.uuid4())))

    def test_unknown_tasks_and_strangers(self, session: Session, project: Project, alice: User) -> None:
        with pytest.raises(NotFound, match="no such task"):
            voting.cast_vote(session, alice, "0" * 32, skip())
        with pytest.raises(Denied, match="not a member"):
            voting.cast_vote(session, factories.user(), factories.task(project).id, skip())

    def test_foreign_images_are_named(self, session: Session, project: Project, alice: User) -> None:
        task, other = factories.task(project), factories.task(project)
        foreign = other.group.images[0].id
        own = [image.id for image in task.group.images]
        for field, values in {
            "best_image_id": {"outcome": "best", "best_image_id": foreign},
            "ranking": {"outcome": "ranking", "ranking": [*own[:2], foreign]},
            "flags": {"outcome": "tie", "flags": {foreign: ["unsafe"]}},
            "shown_order": {"outcome": "tie", "shown_order": [*own[:2], foreign]},
        }.items():
            with pytest.raises(Invalid, match=f"{field} names image {foreign}, which is not in this task"):
                voting.cast_vote(session, alice, task.id, Ballot(vote_id=str(uuid.uuid4()), **values))
        assert session.scalar(select(func.count()).select_from(Vote)) == 0

    @pytest.mark.parametrize(
        ("values", "sentence"),
        [
            ({"outcome": "best"}, "best_image_id belongs to the outcome best"),
            ({"outcome": "tie", "ranking": ["x"]}, "ranking belongs to the outcome ranking"),
            ({"outcome": "ranking"}, "ranking belongs to the outcome ranking"),
            ({"outcome": "rated"}, "ratings belong to the outcome rated"),
            ({"outcome": "tie", "ratings": {"x": [1]}}, "ratings belong to the outcome rated"),
            ({"outcome": "rated", "ratings": {"x": [1], "y": [1, 2]}}, "as many numbers for each image"),
            ({"outcome": "rated", "ratings": {"x": [1]}}, "not in this task"),
        ],
    )
    def test_half_a_ballot_is_refused(self, session: Session, project: Project, alice: User, values: Any, sentence: str) -> None:
        with pytest.raises(Invalid, match=sentence):
            voting.cast_vote(session, alice, factories.task(project).id, Ballot(vote_id=str(uuid.uuid4()), **values))

    def test_ratings_are_kept_and_must_be_of_all_images(self, session: Session, project: Project, alice: User) -> None:
        task = factories.task(project)
        numbers = {image.id: [number] for image, number in zip(task.group.images, (1.0, 0.0, 0.5), strict=True)}
        with pytest.raises(Invalid, match="ratings must list each of the 3 images"):
            voting.cast_vote(session, alice, task.id, rated(dict(list(numbers.items())[:2])))
        receipt = voting.cast_vote(session, alice, task.id, rated(numbers))
        assert receipt.counted
        assert session.get_one(Vote, receipt.vote_id).ratings == numbers

    def test_a_ranking_must_be_whole(self, session: Session, project: Project, alice: User) -> None:
        task = factories.task(project)
        ids = [image.id for image in task.group.images]
        for ranking in (ids[:2], [ids[0], ids[0], ids[1]]):
            with pytest.raises(Invalid, match="each of the 3 images"):
                voting.cast_vote(session, alice, task.id, Ballot(vote_id=str(uuid.uuid4()), outcome="ranking", ranking=ranking))
        whole = Ballot(vote_id=str(uuid.uuid4()), outcome="ranking", ranking=ids[::-1])
        assert voting.cast_vote(session, alice, task.id, whole).counted


class TestSlots:
    """A live lease is a slot: a vote that comes past it, without a lease of its own, never takes that slot."""

    def test_a_vote_past_somebody_elses_lease_is_surplus(
        self, session: Session, project: Project, alice: User, bob: User
    ) -> None:
        task = factories.task(project)
        leased_ids(session, alice, project)
        receipt = voting.cast_vote(session, bob, task.id, best(task, 1))
        assert (receipt.counted, receipt.surplus) == (False, True)
        assert voting.counted_votes(session, [task.id]) == []
        assert voting.cast_vote(session, alice, task.id, best(task, 0)).counted
        assert [vote.user_id for vote in voting.counted_votes(session, [task.id])] == [alice.id]
        assert voting.cast_vote(session, bob, task.id, best(task, 1, vote_id=receipt.vote_id)) == receipt

    def test_it_takes_the_free_slot_beside_a_lease(self, session: Session, project: Project, alice: User, bob: User) -> None:
        task = factories.task(project, votes_wanted=2)
        carol = factories.annotator(project)
        leased_ids(session, alice, project)
        assert voting.cast_vote(session, bob, task.id, best(task)).counted
        assert voting.cast_vote(session, carol, task.id, best(task)).surplus
        assert voting.cast_vote(session, alice, task.id, best(task)).counted
        assert {vote.user_id for vote in voting.counted_votes(session, [task.id])} == {alice.id, bob.id}

    @pytest.mark.parametrize("leave", ["expire", "release", "skip"])
    def test_it_counts_once_the_lease_leaves_room(
        self, session: Session, project: Project, alice: User, bob: User, leave: str
    ) -> None:
        task = factories.task(project)
        leased_ids(session, alice, project)
        voting.cast_vote(session, bob, task.id, best(task))
        if leave == "expire":
            expire(session, task, alice)
        elif leave == "release":
            voting.release(session, alice, task.id)
        else:
            voting.cast_vote(session, alice, task.id, skip())
        assert [vote.user_id for vote in voting.counted_votes(session, [task.id])] == [bob.id]
        assert leased_ids(session, factories.annotator(project), project) == set()

    def test_a_lease_that_is_renewed_keeps_its_slot(self, session: Session, project: Project, alice: User, bob: User) -> None:
        task = factories.task(project)
        leased_ids(session, alice, project)
        taken_at = session.get_one(Lease, (task.id, alice.id)).taken_at
        voting.cast_vote(session, bob, task.id, best(task))
        leased_ids(session, alice, project)
        assert session.get_one(Lease, (task.id, alice.id)).taken_at == taken_at
        assert voting.cast_vote(session, alice, task.id, best(task)).counted

    def test_a_vote_past_it_does_not_end_a_lease(self, session: Session, project: Project, alice: User, bob: User) -> None:
        task = factories.task(project)
        leased_ids(session, alice, project)
        assert voting.cast_vote(session, bob, task.id, best(task)).surplus
        assert voting.renew(session, alice, task.id).task_id == task.id
        assert voting.cast_vote(session, alice, task.id, best(task)).counted

    def test_an_edit_keeps_its_slot(self, session: Session, project: Project, alice: User, bob: User) -> None:
        task = factories.task(project)
        first = voting.cast_vote(session, alice, task.id, best(task, 0))
        assert voting.cast_vote(session, bob, task.id, best(task, 1)).surplus
        edited = voting.cast_vote(session, alice, task.id, best(task, 2, supersedes=first.vote_id))
        assert [vote.id for vote in voting.counted_votes(session, [task.id])] == [edited.vote_id]


class TestUndo:
    def test_undo_gives_the_task_back_to_its_voter(self, session: Session, project: Project, alice: User, bob: User) -> None:
        task = factories.task(project)
        receipt = voting.cast_vote(session, alice, task.id, best(task))
        leased = voting.retract(session, alice, receipt.vote_id)
        assert leased is not None
        assert leased.task_id == task.id
        assert voting.counted_votes(session, [task.id]) == []
        assert leased_ids(session, bob, project) == set()

    def test_undo_shows_the_images_where_they_were(self, session: Session, project: Project, alice: User) -> None:
        task = factories.task(project, factories.group(project, images=6))
        [before] = voting.lease_tasks(session, alice, project, 1)
        for _ in range(3):
            receipt = voting.cast_vote(session, alice, task.id, best(task))
            leased = voting.retract(session, alice, receipt.vote_id)
            assert leased is not None
            assert [image.id for image in leased.images] == [image.id for image in before.images]

    def test_undo_twice_is_undo_once(self, session: Session, project: Project, alice: User) -> None:
        task = factories.task(project)
        receipt = voting.cast_vote(session, alice, task.id, best(task))
        assert [voting.retract(session, alice, receipt.vote_id) is not None for _ in range(2)] == [True, True]
        assert session.scalar(select(func.count()).select_from(Vote)) == 2

    def test_a_chain_of_votes_and_undos_keeps_every_row(self, session: Session, project: Project, alice: User) -> None:
        task = factories.task(project)
        cast = []
        for position in (0, 1, 2):
            receipt = voting.cast_vote(session, alice, task.id, best(task, position))
            assert receipt.counted
            cast.append(receipt.vote_id)
            if position < 2:
                voting.retract(session, alice, receipt.vote_id)
        assert session.scalar(select(func.count()).select_from(Vote)) == 5
        assert [vote.id for vote in voting.counted_votes(session, [task.id])] == cast[2:]
        with pytest.raises(Conflict, match="voted on this task again since"):
            voting.retract(session, alice, cast[0])

    def test_undo_of_a_skip_after_somebody_took_the_slot(
        self, session: Session, project: Project, alice: User, bob: User
    ) -> None:
        task = factories.task(project)
        receipt = voting.cast_vote(session, alice, task.id, skip())
        voting.cast_vote(session, bob, task.id, best(task))
        assert voting.retract(session, alice, receipt.vote_id) is None
        assert [vote.user_id for vote in voting.counted_votes(session, [task.id])] == [bob.id]

    def test_a_surplus_vote_moves_up(self, session: Session, project: Project, alice: User, bob: User) -> None:
        task = factories.task(project)
        receipt = voting.cast_vote(session, alice, task.id, best(task))
        assert voting.cast_vote(session, bob, task.id, best(task, 1)).surplus
        assert voting.retract(session, alice, receipt.vote_id) is None
        assert [vote.user_id for vote in voting.counted_votes(session, [task.id])] == [bob.id]

    def test_only_ones_own_and_known_votes(self, session: Session, project: Project, alice: User, bob: User) -> None:
        receipt = voting.cast_vote(session, alice, factories.task(project).id, skip())
        with pytest.raises(Denied, match="somebody else's"):
            voting.retract(session, bob, receipt.vote_id)
        with pytest.raises(NotFound, match="no such vote"):
            voting.retract(session, alice, str(uuid.uuid4()))


def test_progress_counts_what_i_did_and_what_waits_for_me(session: Session, project: Project, alice: User, bob: User) -> None:
    tasks = [factories.task(project) for _ in range(5)]
    voting.cast_vote(session, alice, tasks[0].id, best(tasks[0]))
    voting.cast_vote(session, alice, tasks[1].id, skip())
    voting.cast_vote(session, bob, tasks[2].id, best(tasks[2]))
    assert voting.my_progress(session, alice, project) == (1, 2, 3)
    assert voting.my_progress(session, bob, project) == (1, 3, 4)
