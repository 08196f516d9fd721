"""Outcomes of votes to ordered pairs with weights. No torch.

n_ij votes say that image i beats image j. One pair for every {i, j} with a margin, oriented by the majority. Its weight is
the margin, |n_ij - n_ji| / (n_ij + n_ji); or 1, as published; or, where it is known how reliable people are, how sure their
votes together make its sign. A zero margin is lost signal and gives no pair; ties, all_bad and skip give none.

Algorithms that learn from scores take the ratings, where every preference rates images with a number, else those that the
pairs leave: the share of its comparisons that an image won.
"""

from __future__ import annotations

import math
from collections import defaultdict
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from statistics import fmean
from typing import Literal

from d3po_core.errors import BadPreference

NO_PAIRS = frozenset({"tie", "all_bad", "skip"})
Weighting = Literal["margin", "sign", "reliability"]


@dataclass(frozen=True)
class Preference:
    """One person's outcome for one group; images are named by their position 0..N-1.

    outcome: best (`best` beats the rest), ranking (`ranking` lists positions, best first), rated (`ratings`, [N][R]: R numbers
    an image, higher is better; an image beats another by Pareto dominance), tie, all_bad or skip.
    """

    outcome: str
    best: int | None = None
    ranking: tuple[int, ...] | list[int] | None = None
    ratings: Sequence[Sequence[float]] | None = None
    annotator: str | None = None


@dataclass(frozen=True)
class Crowd:
    """How often people prefer the better one of two images, from 1/2, chance, to 1: `people` by annotator, `population` of
    anybody else."""

    population: float
    people: Mapping[str, float]

    def reliability(self, annotator: str | None) -> float:
        return self.population if annotator is None else self.people.get(annotator, self.population)


@dataclass(frozen=True)
class Pair:
    """Image `chosen` is preferred to image `rejected`, with a weight in (0, 1]."""

    chosen: int
    rejected: int
    weight: float = 1.0


def wins_of(preference: Preference, n_images: int) -> list[tuple[int, int]]:
    """All (winner, loser) that one preference states.

    Raises BadPreference if it names an image outside 0..n_images-1, an image twice, or an unknown outcome, or does not rate
    each image with as many finite numbers.
    """
    if preference.outcome in NO_PAIRS:
        return []
    if preference.outcome == "rated" and preference.ratings is not None:
        return dominance(_checked(preference.ratings, n_images))
    if preference.outcome == "best" and preference.best is not None:
        ranking, rest = [preference.best], [i for i in range(n_images) if i != preference.best]
    elif preference.outcome == "ranking" and preference.ranking:
        ranking, rest = list(preference.ranking), []
    else:
        raise BadPreference(
            f"A preference with outcome {preference.outcome!r} needs its best image, its ranking or its ratings; it has none."
        )
    unknown = [i for i in ranking if not 0 <= i < n_images]
    if unknown or len(set(ranking)) != len(ranking):
        raise BadPreference(f"A preference names the images {ranking}; the group has the images 0 to {n_images - 1}, each once.")
    ordered = [(winner, loser) for k, winner in enumerate(ranking) for loser in ranking[k + 1 :]]
    return ordered + [(winner, loser) for winner in ranking for loser in rest]


def dominance(ratings: Sequence[Sequence[float]]) -> list[tuple[int, int]]:
    """All (winner, loser) by Pareto dominance, the D3PO paper's rule for several rewards: at least as good by each number, better
    by one. ratings: [N][R]. One number alone orders the images."""
    return [
        (i, j)
        for i, better in enumerate(ratings)
        for j, worse in enumerate(ratings)
        if all(a >= b for a, b in zip(better, worse, strict=True)) and any(a > b for a, b in zip(better, worse, strict=True))
    ]


def _checked(ratings: Sequence[Sequence[float]], n_images: int) -> Sequence[Sequence[float]]:
    if len(ratings) != n_images or not ratings[0] or len({len(numbers) for numbers in ratings}) != 1:
        raise BadPreference(f"Ratings of {n_images} images are as many rows of equally many numbers, not {list(ratings)}.")
    if not all(math.isfinite(number) for numbers in ratings for number in numbers):
        raise BadPreference(f"A rating is a finite number; these are {list(ratings)}.")
    return ratings


def pairs_from(
    preferences: Iterable[Preference], n_images: int, weighting: Weighting = "margin", crowd: Crowd | None = None
) -> list[Pair]:
    """The pairs that all preferences on one group of `n_images` leave, with weights in (0, 1].

        margin:       |n_ij - n_ji| / (n_ij + n_ji), oriented by the majority
        sign:         1, oriented by the majority, as published
        reliability:  |2p - 1|, oriented by p, with  log p/(1-p) = sum over votes of +-log r/(1-r)

    p is the probability that i is better than j where a person of reliability r in `crowd` prefers the better one with
    probability r, and neither image is better beforehand. Raises BadPreference for a preference that names an image outside
    0..n_images-1 or one twice, or lacks its choice, and for weights by reliability without a crowd or a reliability outside
    1/2 <= r < 1.
    """
    votes: dict[tuple[int, int], list[tuple[int, str | None]]] = defaultdict(list)
    for preference in preferences:
        for winner, loser in wins_of(preference, n_images):
            votes[min(winner, loser), max(winner, loser)].append((1 if winner < loser else -1, preference.annotator))
    weigh = _by_reliability(crowd) if weighting == "reliability" else WEIGHTS[weighting]
    weighed = [(i, j, weigh(votes[i, j])) for i, j in sorted(votes)]
    return [Pair(*((i, j) if weight > 0 else (j, i)), abs(weight)) for i, j, weight in weighed if weight]


def group_weights(groups: Sequence[Sequence[Pair]]) -> list[float]:
    """What each group's loss weighs where pairs weigh by reliability: the mean of its pairs' weights, 1 on average over groups.

    A group's loss is a weighted mean over its pairs, so on its own a group that only unreliable people looked at would count
    as much as any other. groups: of at least one pair each.
    """
    means = [fmean(pair.weight for pair in pairs) for pairs in groups]
    return [mean / fmean(means) for mean in means]


Votes = Sequence[tuple[int, str | None]]
"""On one pair: +1 for its first image or -1 for its second, and who says so."""


def _margin(votes: Votes) -> float:
    return sum(sign for sign, _ in votes) / len(votes)


def _sign(votes: Votes) -> float:
    margin = _margin(votes)
    return math.copysign(1.0, margin) if margin else 0.0


WEIGHTS: dict[str, Callable[[Votes], float]] = {"margin": _margin, "sign": _sign}


def _by_reliability(crowd: Crowd | None) -> Callable[[Votes], float]:
    if crowd is None or not all(0.5 <= r < 1 for r in (crowd.population, *crowd.people.values())):
        raise BadPreference(
            "Pairs weighted by reliability need how reliable each person is, at least 1/2 and less than 1; "
            "d3po_core.reliability estimates it."
        )

    def weight(votes: Votes) -> float:
        known = [(sign, crowd.reliability(annotator)) for sign, annotator in votes]
        return math.tanh(math.fsum(sign * math.log(r / (1 - r)) for sign, r in known) / 2)

    return weight


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


def mean_ratings(preferences: Iterable[Preference], n_images: int) -> list[float] | None:
    """The mean rating of each image, [n_images], where every preference with a signal rates images with one number; else None."""
    rated = [one for one in preferences if one.outcome != "skip"]
    if not rated or any(one.outcome != "rated" or one.ratings is None or len(one.ratings[0]) != 1 for one in rated):
        return None
    columns = zip(*(_checked(one.ratings or (), n_images) for one in rated), strict=True)
    return [fmean(numbers[0] for numbers in column) for column in columns]
