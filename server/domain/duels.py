"""What people said about two checkpoints: wins, losses, and how sure one can be.

A comparison is one win, one loss or one tie, however many people voted on it: the votes on one pair of images are about those
images and tell each other's outcome, so an interval that took them for independent would be too narrow.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from math import sqrt

from sqlalchemy.orm import Session

from server.domain import choices
from server.domain.choices import ALL_BAD, TIE, Said
from server.models import Round

Z95 = 1.959964


@dataclass(frozen=True)
class DuelResult:
    """wins are comparisons that the round's checkpoint won, losses those that its opponent did, by the votes on each. low..high:
    Wilson's 95 % interval of win_rate."""

    wins: int
    losses: int
    ties: int
    skipped: int
    waiting: int
    win_rate: float | None
    low: float
    high: float


def result(session: Session, round_: Round) -> DuelResult:
    return results(session, [round_])[round_.id]


def results(session: Session, rounds: Sequence[Round]) -> dict[str, DuelResult]:
    """The results of many duel rounds with four queries."""
    ids = [round_.id for round_ in rounds]
    skipped, waiting, said = choices.skipped(session, ids), choices.waiting(session, ids), choices.by_item(session, ids)
    found = {}
    for round_ in rounds:
        won = Counter(winner(item) for item in said.get(round_.id, []))
        sides = (won[round_.checkpoint_id], won[round_.opponent_id], won[TIE])
        found[round_.id] = tally(*sides, skipped.get(round_.id, 0), waiting.get(round_.id, 0))
    return found


def winner(item: Said) -> str | None:
    """Whom more votes chose than anybody else and than nobody; TIE where there is no such side."""
    votes = Counter(item)
    votes[TIE] += votes.pop(ALL_BAD, 0)
    (first, most), *others = votes.most_common()
    return first if all(count < most for _, count in others) else TIE


def tally(wins: int, losses: int, ties: int = 0, skipped: int = 0, waiting: int = 0) -> DuelResult:
    low, high = wilson(wins, wins + losses)
    rate = wins / (wins + losses) if wins + losses else None
    return DuelResult(wins, losses, ties, skipped, waiting, rate, low, high)


def wilson(successes: float, trials: float, z: float = Z95) -> tuple[float, float]:
    """The interval of a proportion (Wilson 1927); (0, 1) where nothing was tried."""
    if not trials:
        return 0.0, 1.0
    share, scale = successes / trials, 1 + z * z / trials
    centre = share + z * z / (2 * trials)
    spread = z * sqrt(share * (1 - share) / trials + z * z / (4 * trials * trials))
    return max(0.0, (centre - spread) / scale), min(1.0, (centre + spread) / scale)
