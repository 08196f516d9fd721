"""From counted votes to the preference pairs that training learns from."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterable, Sequence, Set
from dataclasses import dataclass, replace
from typing import Any

from sqlalchemy import Select, exists, select
from sqlalchemy.orm import Session, selectinload

from d3po_core.preferences import Crowd, Pair, Preference, dominance, group_weights, mean_ratings, pairs_from
from server.domain import checkpoints
from server.domain.counting import counted_ids
from server.errors import Invalid
from server.models import Group, Outcome, Project, Round, RoundVote, State, Task, User, Vote

Selection = str | dict[str, list[str]]


@dataclass(frozen=True)
class TrainingGroupRow:
    """One group as the training child needs it; pairs index its images by position. `scores`: the mean ratings of its images,
    where all groups of the round are rated with numbers of one unit, else None. `weight`: of its loss beside the others'."""

    group_id: str
    position: int
    prompt: str
    trajectory_key: str
    trajectory_sha256: str
    pairs: list[Pair]
    scores: list[float] | None
    weight: float = 1.0


@dataclass(frozen=True)
class Usable:
    """What training could learn from now. ties, all_bad and disagreements are groups without a pair: lost signal."""

    votes: int
    groups: int
    pairs: int
    ties: int
    all_bad: int
    disagreements: int

    @property
    def lost(self) -> str:
        ties = "tie" if self.ties == 1 else "ties"
        parts = {ties: self.ties, "all bad": self.all_bad, "where people disagree": self.disagreements}
        return ", ".join(f"{count} {what}" for what, count in parts.items() if count)


def pairs_of(group: Group, votes: Iterable[Vote]) -> list[Pair]:
    return pairs_from(preferences_of(group, votes), len(group.images))


def preferences_of(group: Group, votes: Iterable[Vote]) -> list[Preference]:
    position = {image.id: image.position for image in group.images}
    return [_preference(vote, position) for vote in votes]


def _preference(vote: Vote, position: dict[str, int]) -> Preference:
    best = None if vote.best_image_id is None else position[vote.best_image_id]
    ranking = [position[image_id] for image_id in vote.ranking] or None
    ratings = [vote.ratings[image_id] for image_id in sorted(position, key=position.__getitem__)] if vote.ratings else None
    return Preference(str(vote.outcome), best, ranking, ratings, annotator=vote.user_id)


def trainable_votes(session: Session, project: Project, votes: Selection = "all") -> list[Vote]:
    """Counted votes on groups that the project's current policy sampled: the reference is the policy that sampled."""
    current = checkpoints.current(session, project)
    drawn = (
        select(Group.id)
        .join(Round, Round.id == Group.round_id)
        .where(Round.project_id == project.id, Round.kind == "sample", Group.trajectory_key.is_not(None))
        .where(Round.checkpoint_id.is_(None) if current is None else Round.checkpoint_id == current.id)
    )
    if isinstance(votes, dict):
        drawn = drawn.where(Round.id.in_(votes["round_ids"]))
    query = select(Vote).where(Vote.id.in_(counted_ids(Task.group_id.in_(drawn))))
    return list(session.scalars(_only_new(query) if votes == "new" else query))


def _only_new(query: Select[Any]) -> Select[Any]:
    """Without votes that a training round has learned from or is learning from."""
    learned = (State.QUEUED, State.RUNNING, State.DONE)
    frozen = exists().where(RoundVote.vote_id == Vote.id, RoundVote.round_id == Round.id, Round.state.in_(learned))
    return query.where(~frozen)


def check_selection(votes: Selection) -> None:
    rounds = votes.get("round_ids") if isinstance(votes, dict) else None
    if votes not in ("all", "new") and not rounds:
        raise Invalid('Votes to train on are "all", "new", or {"round_ids": [...]} with at least one round.')


def usable_pairs(session: Session, project: Project, votes: Selection = "all") -> Usable:
    return usable(session, trainable_votes(session, project, votes))


def usable(session: Session, votes: Sequence[Vote]) -> Usable:
    """What these votes amount to."""
    groups = groups_of(session, votes)
    counts = {"votes": len(votes), "groups": 0, "pairs": 0, "ties": 0, "all_bad": 0, "disagreements": 0}
    for group, cast in groups:
        pairs = len(pairs_of(group, cast))
        counts["pairs"] += pairs
        counts["groups" if pairs else _lost(cast)] += 1
    return Usable(**counts)


def _lost(votes: list[Vote]) -> str:
    outcomes = {Outcome.TIE if _prefers_none(vote) else vote.outcome for vote in votes}
    return {frozenset({Outcome.TIE}): "ties", frozenset({Outcome.ALL_BAD}): "all_bad"}.get(frozenset(outcomes), "disagreements")


def _prefers_none(vote: Vote) -> bool:
    """Numbers that are all alike, or of which none is better throughout, say as little as a tie."""
    return vote.outcome == Outcome.RATED and not dominance(list(vote.ratings.values()))


def groups_of(session: Session, votes: Sequence[Vote]) -> list[tuple[Group, list[Vote]]]:
    """The groups these votes are about, each with its votes; two queries however many there are."""
    by_task: dict[str, list[Vote]] = defaultdict(list)
    for vote in votes:
        by_task[vote.task_id].append(vote)
    query = select(Task).where(Task.id.in_(list(by_task))).options(selectinload(Task.group).selectinload(Group.images))
    return [(task.group, by_task[task.id]) for task in session.scalars(query.order_by(Task.id))]


def frozen_groups(session: Session, round_: Round) -> list[tuple[Group, list[Preference]]]:
    """The groups of a training round with what its frozen votes say of each."""
    frozen = select(Vote).join(RoundVote, RoundVote.vote_id == Vote.id).where(RoundVote.round_id == round_.id)
    votes = session.scalars(frozen.order_by(Vote.received_at, Vote.id)).all()
    return [(group, preferences_of(group, cast)) for group, cast in groups_of(session, votes)]


def training_groups(session: Session, round_: Round, crowd: Crowd | None = None) -> list[TrainingGroupRow]:
    """The groups of a training round with the pairs and scores of its frozen votes; groups without a pair are left out.

    crowd: how reliable people are, for a round whose pairs weigh by it."""
    weighting = round_.params.get("pair_weights", "margin")
    frozen = frozen_groups(session, round_)
    rows = []
    for group, preferences in frozen:
        images = len(group.images)
        pairs = pairs_from(preferences, images, weighting, crowd)
        if pairs and group.trajectory_key and group.trajectory_sha256:
            stored = (group.id, group.position, group.prompt, group.trajectory_key, group.trajectory_sha256)
            rows.append(TrainingGroupRow(*stored, pairs, mean_ratings(preferences, images)))
    if crowd and rows:
        weights = group_weights([row.pairs for row in rows])
        rows = [replace(row, weight=weight) for row, weight in zip(rows, weights, strict=True)]
    voters = {preference.annotator for _, preferences in frozen for preference in preferences}
    comparable = all(row.scores is not None for row in rows) and _in_one_unit(session, voters)
    return rows if comparable else [replace(row, scores=None) for row in rows]


def _in_one_unit(session: Session, user_ids: Set[str | None]) -> bool:
    """Kilobytes, colourfulness and people's marks have no mean: numbers are people's alone, or those of one machine annotator."""
    rewards = session.scalars(select(User.reward).where(User.id.in_(user_ids))).all()
    return all(reward == rewards[0] for reward in rewards)
