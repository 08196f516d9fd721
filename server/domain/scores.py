"""What a reward round found: how its scores are spread, which groups gave no pair, and the mean of round after round."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from math import sqrt

from sqlalchemy import func, select
from sqlalchemy.orm import Session, selectinload

from server.domain.duels import Z95
from server.domain.pairs import pairs_of
from server.domain.scoring import params_of
from server.models import Group, Image, Job, Project, Round, Score, Task, Vote

AT_ONCE = 500


@dataclass(frozen=True)
class Mean:
    """Of `images` images in `groups` groups. low..high: the 95 % interval (normal, the groups' means being independent); None
    with one group."""

    mean: float
    low: float | None
    high: float | None
    images: int
    groups: int


@dataclass(frozen=True)
class RoundMean:
    """The mean score of the images that one round drew."""

    round_id: str
    number: int
    mean: Mean


@dataclass(frozen=True)
class Scored:
    """`groups` that the machine has voted on in this round; `without_pairs` of them rank no image above another."""

    groups: int
    without_pairs: int

    @property
    def told(self) -> str:
        if not self.groups:
            return "Nothing is scored yet."
        told = f"{self.groups} group{' is' if self.groups == 1 else 's are'} scored and voted on"
        if not self.without_pairs:
            return f"{told}; {'it gives' if self.groups == 1 else 'every one gives'} pairs."
        lost = "it gives" if self.groups == 1 else f"{self.without_pairs} of them give{'s' if self.without_pairs == 1 else ''}"
        return f"{told}; {lost} no pair, because no image is better than another there."


@dataclass(frozen=True)
class ScoredImage:
    """One image of a reward round, by the key of each reward."""

    prompt: str
    image_id: str
    scores: dict[str, float]


def scored(session: Session, round_: Round) -> Scored:
    votes = without = 0
    for ids in _batches(group_ids(session, round_)):
        query = select(Group, Vote).join(Task, Task.group_id == Group.id).join(Vote, Vote.task_id == Task.id)
        query = query.where(Group.id.in_(ids), Vote.user_id == round_.params["annotator_id"])
        for group, vote in session.execute(query.options(selectinload(Group.images))).tuples():
            votes += 1
            without += not pairs_of(group, [vote])
    return Scored(votes, without)


def images(session: Session, round_: Round) -> list[ScoredImage]:
    """In the order in which they were drawn; without those that wait."""
    keys = [chosen.key for chosen in params_of(round_).rewards]
    found: dict[str, ScoredImage] = {}
    for ids in _batches(group_ids(session, round_)):
        query = select(Group.prompt, Score).join(Image, Image.id == Score.image_id).join(Group, Group.id == Image.group_id)
        query = query.where(Group.id.in_(ids), Score.reward.in_(keys)).order_by(Group.id, Image.position)
        for prompt, score in session.execute(query).tuples():
            image = found.setdefault(score.image_id, ScoredImage(prompt, score.image_id, {}))
            image.scores[score.reward] = score.value
    return list(found.values())


def mean_of(session: Session, round_: Round, key: str) -> Mean | None:
    """Over the images of a reward round; None before the first is scored."""
    rows: list[tuple[float, int]] = []
    for ids in _batches(group_ids(session, round_)):
        query = select(func.avg(Score.value), func.count()).join(Image, Image.id == Score.image_id)
        query = query.where(Image.group_id.in_(ids), Score.reward == key).group_by(Image.group_id)
        rows += session.execute(query).tuples().all()
    return _mean(rows)


def by_round(session: Session, project: Project, key: str, kinds: Sequence[str] = ("sample",)) -> list[RoundMean]:
    """The mean of every round of these kinds with a score by this reward, oldest first."""
    query = (
        select(Round.id, Round.number, func.avg(Score.value), func.count())
        .join(Group, Group.round_id == Round.id)
        .join(Image, Image.group_id == Group.id)
        .join(Score, Score.image_id == Image.id)
        .where(Round.project_id == project.id, Round.kind.in_(kinds), Score.reward == key)
        .group_by(Round.id, Round.number, Group.id)
        .order_by(Round.number)
    )
    rows: dict[tuple[str, int], list[tuple[float, int]]] = {}
    for round_id, number, value, count in session.execute(query).tuples():
        rows.setdefault((round_id, number), []).append((value, count))
    means = ((round_id, number, _mean(groups)) for (round_id, number), groups in rows.items())
    return [RoundMean(round_id, number, mean) for round_id, number, mean in means if mean is not None]


def group_ids(session: Session, round_: Round) -> list[str]:
    """Of all groups that a reward round scores, scored or not."""
    jobs = session.scalars(select(Job.payload).where(Job.round_id == round_.id).order_by(Job.id))
    return [group_id for payload in jobs for group_id in payload["group_ids"]]


def _mean(groups: Sequence[tuple[float, int]]) -> Mean | None:
    """From the mean and the number of images of each group."""
    if not groups:
        return None
    count, images = len(groups), sum(size for _, size in groups)
    mean = sum(value * size for value, size in groups) / images
    if count < 2:
        return Mean(mean, None, None, images, count)
    # Images of a group share their prompt and noise, so the groups are what varies independently.
    variance = sum((value - mean) ** 2 for value, _ in groups) / (count - 1)
    spread = Z95 * sqrt(variance / count)
    return Mean(mean, mean - spread, mean + spread, images, count)


def _batches(ids: Sequence[str]) -> Iterator[Sequence[str]]:
    return (ids[first : first + AT_ONCE] for first in range(0, len(ids), AT_ONCE))
