"""What a project has gathered: usable pairs, lost signal, speed, agreement, position bias."""

from __future__ import annotations

from collections import Counter, defaultdict
from dataclasses import dataclass
from itertools import combinations
from statistics import median

from sqlalchemy import ColumnElement, Select, func, select
from sqlalchemy.orm import Session

from d3po_core.preferences import dominance
from server.domain import checkpoints, pairs
from server.domain.ballots import thinking_seconds
from server.domain.choices import favourite
from server.domain.counting import SIGNAL, counted_ids, is_live, is_useful, live_signals
from server.domain.pairs import Usable
from server.models import Group, Outcome, Project, Task, User, Vote


@dataclass(frozen=True)
class Annotator:
    """A person, or a `machine` that votes by rewards and takes no time to look."""

    name: str
    votes: int
    median_seconds: float | None
    machine: bool = False


@dataclass(frozen=True)
class ProjectStats:
    """`tasks_waiting` want a vote that can count now; `tasks_set_aside` would, if the policy that drew them were in use.

    `surplus` votes came beyond the votes wanted, or after their task was closed. `agreement` is the share of pairs of counted
    votes on one task that say the same: two that rate images with numbers, the same order; one that does and one that does not,
    the same favourite. None without such pairs. `position_bias` counts chosen images by their place on
    screen."""

    groups: int
    tasks: int
    tasks_waiting: int
    tasks_set_aside: int
    votes: int
    counted: int
    surplus: int
    usable: Usable
    agreement: float | None
    annotators: list[Annotator]
    position_bias: list[int]


def project_stats(session: Session, project: Project) -> ProjectStats:
    votes = _live_votes(session, project)
    counted = set(session.scalars(counted_ids(Task.project_id == project.id)))
    return ProjectStats(
        groups=_count(session, select(func.count()).where(Group.project_id == project.id)),
        tasks=_count(session, select(func.count()).where(Task.project_id == project.id)),
        tasks_waiting=waiting(session, project),
        tasks_set_aside=set_aside(session, project),
        votes=len(votes),
        counted=len(counted),
        surplus=len(votes) - len(counted),
        usable=pairs.usable_pairs(session, project),
        agreement=_agreement([vote for vote, _ in votes if vote.id in counted]),
        annotators=_annotators(votes),
        position_bias=_position_bias([vote for vote, _ in votes]),
    )


def waiting(session: Session, project: Project) -> int:
    """Open tasks that still want a vote, and whose vote can count for something now."""
    return _count(session, _wanting(project).where(_useful(session, project)))


def set_aside(session: Session, project: Project) -> int:
    """Open tasks of a policy that is not in use: no round can train on them, and nobody is asked about them."""
    return _count(session, _wanting(project).where(~_useful(session, project)))


def surplus(session: Session, project: Project) -> int:
    """Votes beyond the wanted ones, or too late for them: kept, and not counted."""
    live = select(func.count()).select_from(Vote).join(Task, Task.id == Vote.task_id)
    live = live.where(Task.project_id == project.id, Vote.outcome.in_(SIGNAL), is_live())
    counted = select(func.count()).select_from(counted_ids(Task.project_id == project.id).subquery())
    return _count(session, live) - _count(session, counted)


def _wanting(project: Project) -> Select[int]:
    open_ = (Task.project_id == project.id, Task.closed_at.is_(None), live_signals() < Task.votes_wanted)
    return select(func.count()).select_from(Task).where(*open_)


def _useful(session: Session, project: Project) -> ColumnElement[bool]:
    current = checkpoints.current(session, project)
    return is_useful(current.id if current else None)


def _count(session: Session, query: Select[int]) -> int:
    return session.scalar(query) or 0


def _live_votes(session: Session, project: Project) -> list[tuple[Vote, User]]:
    query = select(Vote, User).join(Task, Task.id == Vote.task_id).join(User, User.id == Vote.user_id)
    query = query.where(Task.project_id == project.id, Vote.outcome.in_(SIGNAL), is_live())
    return list(session.execute(query).tuples())


def _annotators(votes: list[tuple[Vote, User]]) -> list[Annotator]:
    seconds: dict[str, list[float | None]] = defaultdict(list)
    machines = {user.name for _, user in votes if user.reward}
    for vote, user in votes:
        seconds[user.name].append(thinking_seconds(vote.shown_at, vote.decided_at))
    return [Annotator(name, len(times), _median(times), name in machines) for name, times in sorted(seconds.items())]


def _median(seconds: list[float | None]) -> float | None:
    known = [value for value in seconds if value is not None]
    return median(known) if known else None


def _agreement(votes: list[Vote]) -> float | None:
    said: dict[str, list[Vote]] = defaultdict(list)
    for vote in votes:
        said[vote.task_id].append(vote)
    same = [_say_the_same(a, b) for answers in said.values() for a, b in combinations(answers, 2)]
    return sum(same) / len(same) if same else None


def _say_the_same(one: Vote, other: Vote) -> bool:
    if one.outcome == other.outcome == Outcome.RATED:
        return one.ratings.keys() == other.ratings.keys() and _order(one) == _order(other)
    if Outcome.RATED in (one.outcome, other.outcome):
        return favourite(one) is not None and favourite(one) == favourite(other)
    return (one.outcome, one.best_image_id, one.ranking) == (other.outcome, other.best_image_id, other.ranking)


def _order(vote: Vote) -> set[tuple[int, int]]:
    image_ids = sorted(vote.ratings)
    return set(dominance([vote.ratings[image_id] for image_id in image_ids]))


def _position_bias(votes: list[Vote]) -> list[int]:
    chosen = [vote for vote in votes if vote.outcome == Outcome.BEST and vote.best_image_id in vote.shown_order]
    places = Counter(vote.shown_order.index(vote.best_image_id or "") for vote in chosen)
    return [places[place] for place in range(max((len(vote.shown_order) for vote in chosen), default=0))]
