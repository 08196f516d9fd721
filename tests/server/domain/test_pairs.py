"""Which votes can train, and what they amount to."""

from __future__ import annotations

import pytest
from sqlalchemy.orm import Session

from d3po_core.params import SamplingParams, TrainingParams
from d3po_core.preferences import Crowd, Pair
from server.domain import checkpoints, jobs, pairs, reliability, rounds, voting
from server.errors import Invalid
from server.models import Group, Outcome, Project, State, Task, User
from tests import factories
from tests.databases import on_both_databases
from tests.queries import recorded_queries

pytestmark = on_both_databases


@pytest.fixture
def project(session: Session) -> Project:
    return factories.project(votes_per_task=2)


@pytest.fixture
def alice(project: Project) -> User:
    return factories.operator(project, name="Alice")


@pytest.fixture
def bob(project: Project) -> User:
    return factories.annotator(project, name="Bob")


def by(project: Project, checkpoint_id: str | None = None, kind: str = "sample", **values: object) -> Group:
    return factories.group(project, round_id=factories.round_(project, kind, checkpoint_id=checkpoint_id).id, **values)


def test_each_kind_of_lost_signal_is_counted(session: Session, project: Project, alice: User, bob: User) -> None:
    def voted(*outcomes: int | str) -> None:
        task = factories.task(project)
        for user, outcome in zip((alice, bob), outcomes, strict=False):
            best = outcome if isinstance(outcome, int) else None
            factories.vote(task, user, best, outcome=Outcome.BEST if best is not None else outcome)

    voted(0)
    voted(1, 1)
    voted("tie", "tie")
    voted("all_bad")
    voted("tie", "all_bad")
    voted("skip")
    assert pairs.usable_pairs(session, project) == pairs.Usable(votes=8, groups=2, pairs=4, ties=1, all_bad=1, disagreements=1)


def test_ratings_give_pairs_and_scores(session: Session, project: Project, alice: User, bob: User) -> None:
    tasks = [factories.task(project) for _ in range(3)]

    def rate(task: Task, user: User, *numbers: float) -> None:
        ratings = {image.id: [number] for image, number in zip(task.group.images, numbers, strict=True)}
        factories.vote(task, user, None, outcome=Outcome.RATED, ratings=ratings)

    rate(tasks[0], alice, 2.5, 1.5, 1.5)
    rate(tasks[0], bob, 1.5, 0.5, 2.5)
    rate(tasks[1], alice, 1, 1, 1)
    usable = pairs.usable_pairs(session, project)
    assert (usable.pairs, usable.groups, usable.ties) == (2, 1, 1)

    def trained() -> list[tuple[list[Pair], list[float] | None]]:
        round_ = rounds.request_training_round(session, alice, project, TrainingParams())
        rounds.cancel(session, alice, round_)
        return [(row.pairs, row.scores) for row in pairs.training_groups(session, round_)]

    assert trained() == [([Pair(0, 1), Pair(2, 1)], [2, 1, 2])]
    factories.vote(tasks[2], alice, 0)
    assert [scores for _, scores in trained()] == [None, None]  # numbers and choices have no unit in common


def test_numbers_of_different_machines_or_of_machine_and_person_have_no_mean(
    session: Session, project: Project, alice: User
) -> None:
    small, colourful = (
        factories.annotator(project, reward={"rewards": [{"name": name}]}) for name in ("compressibility", "colourfulness")
    )

    def trained(*voters: User) -> list[list[float] | None]:
        own = factories.project()
        for voter in voters:
            task = factories.task(own)
            ratings = {image.id: [float(place)] for place, image in enumerate(task.group.images)}
            factories.vote(task, voter, None, outcome=Outcome.RATED, ratings=ratings)
        by = factories.operator(own)
        round_ = rounds.request_training_round(session, by, own, TrainingParams())
        return [row.scores for row in pairs.training_groups(session, round_)]

    assert trained(small, small) == [[0, 1, 2], [0, 1, 2]]
    assert trained(alice, alice) == [[0, 1, 2], [0, 1, 2]]
    assert trained(small, colourful) == [None, None]
    assert trained(small, alice) == [None, None]


def test_opposite_choices_cancel_where_they_meet(session: Session, project: Project, alice: User, bob: User) -> None:
    task = factories.task(project)
    factories.vote(task, alice, 0)
    factories.vote(task, bob, 1)
    [(group, votes)] = pairs.groups_of(session, voting.counted_votes(session, [task.id]))
    assert pairs.pairs_of(group, votes) == [Pair(0, 2, 1.0), Pair(1, 2, 1.0)]


def test_a_ranking_gives_all_its_pairs(session: Session, project: Project, alice: User) -> None:
    task = factories.task(project)
    ids = [image.id for image in task.group.images]
    factories.vote(task, alice, None, outcome="ranking", ranking=[ids[2], ids[0], ids[1]])
    assert pairs.usable_pairs(session, project).pairs == 3


def test_only_groups_of_the_current_policy_train(session: Session, project: Project, alice: User) -> None:
    of_base = factories.task(project, by(project))
    factories.vote(of_base, alice)
    checkpoint = factories.checkpoint(project)
    of_checkpoint = factories.task(project, by(project, checkpoint.id))
    factories.vote(of_checkpoint, alice)
    factories.vote(factories.task(project, by(project, checkpoint.id, "duel")), alice)
    assert [vote.task_id for vote in pairs.trainable_votes(session, project)] == [of_checkpoint.id]
    checkpoints.promote_base(session, alice, project)
    assert [vote.task_id for vote in pairs.trainable_votes(session, project)] == [of_base.id]


def test_surplus_votes_do_not_train(session: Session, project: Project, alice: User, bob: User) -> None:
    task = factories.task(project, votes_wanted=1)
    first, _ = factories.vote(task, alice), factories.vote(task, bob)
    assert [vote.id for vote in pairs.trainable_votes(session, project)] == [first.id]


def test_votes_of_chosen_rounds_and_new_votes(session: Session, project: Project, alice: User) -> None:
    tasks = [factories.task(project, by(project)) for _ in range(2)]
    votes = [factories.vote(task, alice) for task in tasks]
    chosen = {"round_ids": [tasks[0].group.round_id]}
    round_ = rounds.request_training_round(session, alice, project, TrainingParams(), chosen)
    assert (round_.params["votes"], round_.params["groups"]) == (chosen, 1)
    assert [vote.id for vote in pairs.trainable_votes(session, project, "new")] == [votes[1].id]
    round_.state = State.FAILED
    session.flush()
    assert len(pairs.trainable_votes(session, project, "new")) == 2


def test_a_round_learns_from_its_frozen_votes_and_no_others(session: Session, project: Project, alice: User, bob: User) -> None:
    task = factories.task(project, by(project, prompt="a cat"))
    vote = factories.vote(task, alice, 0)
    round_ = rounds.request_training_round(session, alice, project, TrainingParams())
    factories.vote(task, bob, 1)
    voting.retract(session, alice, vote.id)
    [row] = pairs.training_groups(session, round_)
    assert (row.group_id, row.prompt, row.pairs) == (task.group_id, "a cat", [Pair(0, 1, 1.0), Pair(0, 2, 1.0)])


def test_pairs_weigh_as_the_round_asks(session: Session, project: Project, alice: User, bob: User) -> None:
    carol = factories.annotator(project, name="Carol")
    agreed, alone, torn = (factories.task(project, votes_wanted=3) for _ in range(3))
    for task, said in ((agreed, {alice: 0, bob: 1, carol: 0}), (alone, {bob: 0}), (torn, {alice: 0, bob: 1})):
        for user, best in said.items():
            factories.vote(task, user, best)
    crowd = Crowd(0.75, {alice.id: 0.9, bob.id: 0.6})

    def weights(pair_weights: str, crowd: Crowd | None = None) -> list[list[float]]:
        params = TrainingParams.model_validate({"pair_weights": pair_weights})
        round_ = rounds.request_training_round(session, alice, project, params)
        rounds.cancel(session, alice, round_)
        rows = pairs.training_groups(session, round_, crowd)
        assert sum(row.weight for row in rows) == pytest.approx(3)
        assert crowd or {row.weight for row in rows} == {1}
        by_group = {row.group_id: [round(pair.weight, 3) for pair in row.pairs] for row in rows}
        return [by_group[task.group_id] for task in (agreed, alone, torn)]

    assert weights("margin") == [[0.333, 1, 1], [1, 1], [1, 1]]
    assert weights("sign") == [[1, 1, 1], [1, 1], [1, 1]]
    # 9 x 3 to 1 x 1.5, 9 x 3 to 1 against 1.5 to 1, and so on: odds multiply, the weight is (odds - 1) / (odds + 1)
    assert weights("reliability", crowd) == [[0.895, 0.929, 0.2], [0.2, 0.2], [0.714, 0.8, 0.2]]


def test_what_a_round_took_its_people_for_is_kept(session: Session, project: Project, alice: User) -> None:
    round_ = factories.round_(project, "training", params={"pair_weights": "reliability"}, state=State.QUEUED)
    job = factories.job(round_)
    assert reliability.known(round_) is None
    claim = jobs.claim(session, job.id, "here:1")
    assert claim is not None
    people = {
        alice.id: {"votes": 3, "shared": 2, "reliability": 0.9},
        "somebody gone": {"votes": 1, "shared": 0, "reliability": 0.8},
    }
    reliability.record(session, claim, {"population": 0.8, "people": people})
    assert reliability.known(round_) == Crowd(0.8, {alice.id: 0.9, "somebody gone": 0.8})
    assert reliability.judged(session, round_)[0] == reliability.Judged("Alice", 3, 2, 0.9)
    with pytest.raises(jobs.LostClaim):
        reliability.record(session, jobs.Claim(claim.job_id, claim.round_id, claim.attempt + 1), {})


def test_the_same_votes_have_the_same_hash(session: Session, project: Project, alice: User) -> None:
    factories.vote(factories.task(project), alice)
    hashes = []
    for _ in range(2):
        round_ = rounds.request_training_round(session, alice, project, TrainingParams())
        round_.state = State.FAILED
        hashes.append(round_.votes_hash)
    assert hashes[0] == hashes[1]


def test_the_sentence_says_what_is_missing(session: Session, project: Project, alice: User) -> None:
    with pytest.raises(Invalid, match="0 usable pairs to train on: 0 vote"):
        rounds.request_training_round(session, alice, project, TrainingParams())
    checkpoint = factories.checkpoint(project, number=2)
    with pytest.raises(Invalid, match="images that checkpoint 2 drew"):
        rounds.request_training_round(session, alice, project, TrainingParams())
    made = rounds.request_sample_round(session, alice, project, SamplingParams(), ["a cat"])
    assert made.checkpoint_id == checkpoint.id


def test_the_cost_does_not_grow_with_the_votes(session: Session, project: Project, alice: User) -> None:
    counts = []
    for _ in range(2):
        for _ in range(3):
            task: Task = factories.task(project)
            factories.vote(task, alice)
        session.expire_all()
        project_id = project.id
        with recorded_queries(session.get_bind()) as queries:  # type: ignore[arg-type]
            pairs.usable_pairs(session, session.get_one(Project, project_id))
        counts.append(len(queries))
    assert counts[0] == counts[1]
