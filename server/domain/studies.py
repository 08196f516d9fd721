"""What a study found: the two numbers of the paper's study of alignment, for each policy, with 95 % intervals.

*Share preferred*: of the votes that chose an image, those that chose this policy's. The votes on one item are about the same
images, so items, not votes, are what is independent: the variance is that of a ratio of sums over items, linearised (Cochran,
Sampling Techniques, 1977, chapter 6); it says how many independent votes would tell as much, and Wilson's interval is taken of
that many, never of more than were cast. *Share with a majority*: of the items that have all K votes, those of which more than
half chose this policy's image (3 of 5); Wilson's interval over items.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from sqlalchemy import func, select
from sqlalchemy.orm import Session

from server.domain import checkpoints, choices
from server.domain.choices import ALL_BAD, TIE, Said
from server.domain.duels import wilson
from server.models import Group, Round

Interval = tuple[float, float]


@dataclass(frozen=True)
class PolicyResult:
    """`votes` chose this policy's image; `majorities` are the complete items of which more than half of the K votes did. A share
    is None before there is anything to take it of."""

    checkpoint_id: str
    votes: int
    preferred: float | None
    preferred_low: float
    preferred_high: float
    majorities: int
    majority: float | None
    majority_low: float
    majority_high: float


@dataclass(frozen=True)
class StudyResult:
    """`items` are drawn so far, `complete` of them have all their votes, of `without_majority` no policy has more than half;
    `ties` and `all_bad` are votes that chose nobody's image."""

    votes_per_item: int
    majority_of: int
    policies: list[PolicyResult]
    items: int
    complete: int
    without_majority: int
    ties: int
    all_bad: int
    skipped: int
    waiting: int


def result(session: Session, round_: Round) -> StudyResult:
    return results(session, [round_])[round_.id]


def results(session: Session, rounds: Sequence[Round]) -> dict[str, StudyResult]:
    """The results of many study rounds with five queries."""
    ids = [round_.id for round_ in rounds]
    drawn = select(Group.round_id, func.count()).where(Group.round_id.in_(ids)).group_by(Group.round_id)
    items: dict[str, int] = dict(session.execute(drawn).tuples().all())
    skipped, waiting, said = choices.skipped(session, ids), choices.waiting(session, ids), choices.by_item(session, ids)
    return {
        round_.id: tally(
            round_.params["checkpoints"], round_.params["votes_per_item"], said.get(round_.id, []),
            items.get(round_.id, 0), skipped.get(round_.id, 0), waiting.get(round_.id, 0),
        )
        for round_ in rounds
    }  # fmt: skip


def tally(
    policies: Sequence[str], votes_per_item: int, said: Sequence[Said], items: int, skipped: int = 0, waiting: int = 0
) -> StudyResult:
    complete = [item for item in said if item.total() >= votes_per_item]
    found = [_policy(policy, said, complete, votes_per_item) for policy in policies]
    return StudyResult(
        votes_per_item=votes_per_item,
        majority_of=votes_per_item // 2 + 1,
        policies=found,
        items=items,
        complete=len(complete),
        without_majority=len(complete) - sum(policy.majorities for policy in found),
        ties=sum(item[TIE] for item in said),
        all_bad=sum(item[ALL_BAD] for item in said),
        skipped=skipped,
        waiting=waiting,
    )


def _policy(policy: str, said: Sequence[Said], complete: Sequence[Said], votes_per_item: int) -> PolicyResult:
    key = None if policy == checkpoints.BASE else policy
    counts = [(item[key], item.total() - item[TIE] - item[ALL_BAD]) for item in said]
    votes, chosen = sum(won for won, _ in counts), sum(of for _, of in counts)
    won = sum(2 * item[key] > votes_per_item for item in complete)
    low, high = share_interval(counts)
    return PolicyResult(
        policy, votes, votes / chosen if chosen else None, low, high,
        won, won / len(complete) if complete else None, *wilson(won, len(complete)),
    )  # fmt: skip


def share_interval(counts: Sequence[tuple[int, int]]) -> Interval:
    """95 % interval of sum(won) / sum(of) over independent items, counts: (won, of) of each. (0, 1) where nothing was chosen."""
    cast = [(won, of) for won, of in counts if of]
    total, items = sum(of for _, of in cast), len(cast)
    if not total:
        return 0.0, 1.0
    share = sum(won for won, _ in cast) / total
    spread = sum((won - share * of) ** 2 for won, of in cast)
    effective = float(items)  # where items do not differ, nothing tells how alike the votes on one of them are
    if spread and items > 1:
        effective = min(float(total), share * (1 - share) * total**2 / spread)
    return wilson(share * effective, effective)
