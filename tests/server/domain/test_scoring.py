"""What scores become: rows by image and reward, and one vote a group, however often an attempt is run."""

from __future__ import annotations

import pytest
from sqlalchemy import select
from sqlalchemy.orm import Session

from d3po_core.params import TrainingParams
from d3po_core.rewards import ChosenReward, RewardParams
from server import db
from server.domain import jobs, pairs, people, rounds, scoring
from server.domain.jobs import Claim, LostClaim
from server.domain.scoring import Scores
from server.errors import Denied, Invalid
from server.models import Group, Job, Outcome, Project, Round, Score, State, Task, User, Vote
from tests import factories
from tests.databases import on_both_databases

pytestmark = on_both_databases
COLOUR = RewardParams(rewards=[ChosenReward(name="colourfulness")])
BOTH = RewardParams(rewards=[ChosenReward(name="compressibility"), ChosenReward(name="colourfulness")])


@pytest.fixture
def project(session: Session) -> Project:
    return factories.project()


@pytest.fixture
def boss(project: Project) -> User:
    return factories.operator(project)


@pytest.fixture
def task(project: Project) -> Task:
    return factories.task(project)


def requested(session: Session, boss: User, project: Project, params: RewardParams) -> tuple[Round, Claim]:
    round_ = rounds.request_reward_round(session, boss, project, params)
    [job] = session.scalars(select(Job).where(Job.round_id == round_.id))
    factories.commit()
    with db.session_scope() as other:
        claim = jobs.claim(other, job.id, "here:1")
    assert claim is not None
    return round_, claim


def scores_of(group: Group, **by_reward: list[float]) -> Scores:
    return {image.id: {key: values[image.position] for key, values in by_reward.items()} for image in group.images}


def record(claim: Claim, group: Group, scores: Scores, done: int = 3) -> None:
    with db.session_scope() as session:
        scoring.record(session, claim, group.id, scores, done)


def begin(claim: Claim) -> scoring.Work:
    with db.session_scope() as session:
        return scoring.begin(session, claim)


def stored() -> tuple[dict[tuple[str, str], float], list[Vote]]:
    with db.read_scope() as session:
        scores = {(score.image_id, score.reward): score.value for score in session.scalars(select(Score))}
        return scores, list(session.scalars(select(Vote).where(Vote.outcome == Outcome.RATED)))


def test_scores_are_kept_by_image_and_reward_and_the_machine_votes_by_them(
    session: Session, project: Project, boss: User, task: Task
) -> None:
    round_, claim = requested(session, boss, project, COLOUR)
    [group] = begin(claim).groups
    assert (group.group_id, group.images) == (task.group_id, [(image.id, image.sha256) for image in task.group.images])
    record(claim, task.group, scores_of(task.group, colourfulness=[1.0, 3.0, 2.0]))
    scores, [vote] = stored()
    one, two, three = (image.id for image in task.group.images)
    assert scores == {(one, "colourfulness"): 1.0, (two, "colourfulness"): 3.0, (three, "colourfulness"): 2.0}
    assert (vote.user_id, vote.ratings) == (round_.params["annotator_id"], {one: [1.0], two: [3.0], three: [2.0]})
    with db.session_scope() as other:
        jobs.finish(other, claim)
    with db.read_scope() as other:
        progress = rounds.progress(other, other.get_one(Round, round_.id))
        assert (progress.state, progress.done, progress.total) == (State.DONE, 3, 3)
        usable = pairs.usable_pairs(other, other.get_one(Project, project.id))
        assert (usable.votes, usable.pairs) == (1, 3)


def test_several_rewards_vote_by_pareto_dominance_or_by_their_weighted_sum(
    session: Session, project: Project, boss: User, task: Task
) -> None:
    _, claim = requested(session, boss, project, BOTH)
    record(claim, task.group, scores_of(task.group, compressibility=[-3.0, -2.0, -1.0], colourfulness=[1.0, 3.0, 2.0]))
    one, two, three = (image.id for image in task.group.images)
    _, [pareto] = stored()
    assert pareto.ratings == {one: [-3.0, 1.0], two: [-2.0, 3.0], three: [-1.0, 2.0]}
    chosen = [ChosenReward(name="compressibility", weight=2.0), ChosenReward(name="colourfulness", weight=-1.0)]
    _, claim = requested(session, boss, project, RewardParams(rewards=chosen, combine="weighted"))
    known = begin(claim).groups[0].known
    assert known == scores_of(task.group, compressibility=[-3.0, -2.0, -1.0], colourfulness=[1.0, 3.0, 2.0])
    record(claim, task.group, {})
    _, votes = stored()
    assert {one: [-7.0], two: [-7.0], three: [-4.0]} in [vote.ratings for vote in votes]


def test_an_attempt_that_is_run_again_changes_nothing_whatever_its_scorer_says_now(
    session: Session, project: Project, boss: User, task: Task
) -> None:
    _, claim = requested(session, boss, project, COLOUR)
    record(claim, task.group, scores_of(task.group, colourfulness=[1.0, 3.0, 2.0]))
    before = [(vote.id, vote.ratings) for vote in stored()[1]], stored()[0]
    with db.session_scope() as other:
        other.get_one(Job, claim.job_id).state = State.QUEUED
    with db.session_scope() as other:
        again = jobs.claim(other, claim.job_id, "there:2")
    assert again is not None
    with pytest.raises(LostClaim):
        record(claim, task.group, scores_of(task.group, colourfulness=[9.0, 9.0, 9.0]))
    work = begin(again)
    assert (work.groups, work.done) == ([], 3)
    record(again, task.group, scores_of(task.group, colourfulness=[9.0, 9.0, 9.0]))
    assert ([(vote.id, vote.ratings) for vote in stored()[1]], stored()[0]) == before


def test_what_a_lost_attempt_scored_of_a_group_is_not_half_there(
    session: Session, project: Project, boss: User, task: Task
) -> None:
    _, claim = requested(session, boss, project, COLOUR)
    with db.session_scope() as other:
        other.get_one(Job, claim.job_id).attempt += 1
    with pytest.raises(LostClaim):
        record(claim, task.group, scores_of(task.group, colourfulness=[1.0, 3.0, 2.0]))
    assert stored() == ({}, [])


def test_a_failed_round_says_what_is_kept_and_a_retry_does_the_rest(session: Session, project: Project, boss: User) -> None:
    first, second = (factories.task(project) for _ in range(2))
    round_, claim = requested(session, boss, project, COLOUR)
    record(claim, first.group, scores_of(first.group, colourfulness=[1.0, 3.0, 2.0]))
    with db.session_scope() as other:
        jobs.fail(other, claim, "The scorer said NaN.", retry=False)
    with db.session_scope() as other:
        failed = other.get_one(Round, round_.id)
        assert failed.message == (
            "The scorer said NaN. 3 of 6 images are scored and kept, with the votes that follow. Retry runs the rest."
        )
        rounds.retry(other, other.get_one(User, boss.id), failed)
    with db.session_scope() as other:
        again = jobs.claim(other, claim.job_id, "here:1")
    assert again is not None
    work = begin(again)
    assert ([group.group_id for group in work.groups], work.done) == ([second.group_id], 3)
    with db.read_scope() as other:
        assert rounds.progress(other, other.get_one(Round, round_.id)).done == 3


def test_a_machine_takes_slots_like_anybody(session: Session, project: Project, boss: User) -> None:
    taken, free, held = (factories.task(project) for _ in range(3))
    factories.vote(taken, boss)
    factories.lease(held, boss)
    round_, claim = requested(session, boss, project, COLOUR)
    for place, task in enumerate((taken, free, held), start=1):
        record(claim, task.group, scores_of(task.group, colourfulness=[1.0, 3.0, 2.0]), done=3 * place)
    with db.read_scope() as other:
        counted = pairs.trainable_votes(other, other.get_one(Project, project.id))
    machine = round_.params["annotator_id"]
    assert {(vote.task_id, vote.user_id) for vote in counted} == {(taken.id, boss.id), (free.id, machine)}


def test_people_and_machines_share_tasks_that_want_two_votes_and_training_takes_both(session: Session) -> None:
    project = factories.project(votes_per_task=2)
    boss, task = factories.operator(project), factories.task(project)
    factories.vote(task, boss, best=1)
    round_, claim = requested(session, boss, project, COLOUR)
    record(claim, task.group, scores_of(task.group, colourfulness=[1.0, 3.0, 2.0]))
    with db.session_scope() as other:
        asked = rounds.request_training_round(
            other, other.get_one(User, boss.id), other.get_one(Project, project.id), TrainingParams()
        )
        [row] = pairs.training_groups(other, asked)
        frozen = {vote.user_id for vote in pairs.trainable_votes(other, other.get_one(Project, project.id))}
    assert frozen == {boss.id, round_.params["annotator_id"]}
    assert {(pair.chosen, pair.rejected, pair.weight) for pair in row.pairs} == {(1, 0, 1.0), (1, 2, 1.0), (2, 0, 1.0)}


CONSTANT = (
    r"0 usable pairs to train on: 1 vote counts on images that the base model drew \(1 tie\)\. "
    "Their scores put no image of a group above another: score by another reward"
)


def test_constant_scores_leave_no_pair_and_training_says_why(session: Session, project: Project, boss: User, task: Task) -> None:
    _, claim = requested(session, boss, project, COLOUR)
    record(claim, task.group, scores_of(task.group, colourfulness=[2.0, 2.0, 2.0]))
    with db.session_scope() as other, pytest.raises(Invalid, match=CONSTANT):
        rounds.request_training_round(other, other.get_one(User, boss.id), other.get_one(Project, project.id), TrainingParams())


def test_a_machine_that_loses_its_access_stops_in_the_middle(session: Session, project: Project, boss: User, task: Task) -> None:
    round_, claim = requested(session, boss, project, COLOUR)
    people.revoke(session, factories.admin(), session.get_one(User, round_.params["annotator_id"]))
    factories.commit()
    with pytest.raises(Denied, match="colourfulness has no access any more"):
        record(claim, task.group, scores_of(task.group, colourfulness=[1.0, 3.0, 2.0]))
    assert stored() == ({}, [])


def test_rewards_that_contradict_each_other_are_lost_like_ties(
    session: Session, project: Project, boss: User, task: Task
) -> None:
    _, claim = requested(session, boss, project, BOTH)
    record(claim, task.group, scores_of(task.group, compressibility=[1.0, 2.0, 3.0], colourfulness=[3.0, 2.0, 1.0]))
    with db.read_scope() as other:
        usable = pairs.usable_pairs(other, other.get_one(Project, project.id))
    assert (usable.pairs, usable.ties, usable.disagreements) == (0, 1, 0)
