"""Outcomes of votes to ordered pairs with weights. No torch.

n_ij votes say that image i beats image j. One pair for every {i, j} with a margin, oriented by the majority, weighted
|n_ij - n_ji| / (n_ij + n_ji). A zero margin is lost signal and gives no pair; ties, all_bad and skip give none.

Algorithms that learn from scores take those that the pairs leave: the share of its comparisons that an image won.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from statistics import fmean

from d3po_core.errors import BadPreference

NO_PAIRS = frozenset({"tie", "all_bad", "skip"})


@dataclass(frozen=True)
class Preference:
    """One person's outcome for one group; images are named by their position 0..N-1.

    outcome: best (`best` beats the rest), ranking (`ranking` lists positions, best first), tie, all_bad or skip.
    """

    outcome: str
    best: int | None = None
    ranking: tuple[int, ...] | list[int] | None = None


@dataclass(frozen=True)
class Pair:
    """Image `chosen` is preferred to image `rejected`, with a weight in (0, 1]."""

    chosen: int
    rejected: int
    weight: float = 1.0


def wins_of(preference: Preference, n_images: int) -> list[tuple[int, int]]:
    """All (winner, loser) that one preference states.

    Raises BadPreference if it names an image outside 0..n_images-1, an image twice, or an unknown outcome.
    """
    if preference.outcome in NO_PAIRS:
        return []
    if preference.outcome == "best" and preference.best is not None:
        ranking, rest = [preference.best], [i for i in range(n_images) if i != preference.best]
    elif preference.outcome == "ranking" and preference.ranking:
        ranking, rest = list(preference.ranking), []
    else:
        raise BadPreference(
            f"A preference with outcome {preference.outcome!r} needs its best image or its ranking; it has neither."
        )
    unknown = [i for i in ranking if not 0 <= i < n_images]
    if unknown or len(set(ranking)) != len(ranking):
        raise BadPreference(f"A preference names the images {ranking}; the group has the images 0 to {n_images - 1}, each once.")
    ordered = [(winner, loser) for k, winner in enumerate(ranking) for loser in ranking[k + 1 :]]
    return ordered + [(winner, loser) for winner in ranking for loser in rest]


def pairs_from(preferences: Iterable[Preference], n_images: int) -> list[Pair]:
    """The pairs that all preferences on one group of `n_images` leave, by majority, weighted by margin, in (0, 1].

    Raises BadPreference for a preference that names an image outside 0..n_images-1 or one twice, or lacks its choice.
    """
    count: Counter[tuple[int, int]] = Counter()
    for preference in preferences:
        count.update(wins_of(preference, n_images))
    pairs = []
    for i in range(n_images):
        for j in range(i + 1, n_images):
            for_i, for_j = count[i, j], count[j, i]
            if for_i != for_j:
                chosen, rejected = (i, j) if for_i > for_j else (j, i)
                pairs.append(Pair(chosen, rejected, abs(for_i - for_j) / (for_i + for_j)))
    return pairs


def scores_of(pairs: Sequence[Pair], n_images: int) -> list[float]:
    """The share of its comparisons that each image won, in 0..1, averaged over the images that it was compared with. [n_images]

    A pair of weight w says that (1+w)/2 of the votes on it went to the chosen image and (1-w)/2 to the rejected one. An image
    in no pair won as much as it lost: 1/2.
    """
    won: list[list[float]] = [[] for _ in range(n_images)]
    for pair in pairs:
        won[pair.chosen].append((1 + pair.weight) / 2)
        won[pair.rejected].append((1 - pair.weight) / 2)
    return [fmean(shares) if shares else 0.5 for shares in won]
