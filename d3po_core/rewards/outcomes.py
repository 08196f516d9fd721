"""Scores of one group's images, from one reward or several, to the outcomes that a person could have given. No torch."""

from __future__ import annotations

from collections.abc import Sequence

from d3po_core.errors import BadReward
from d3po_core.preferences import Preference

Win = tuple[int, int]
"""(winner, loser), positions of two images in their group."""


def dominance(scores: Sequence[Sequence[float]]) -> list[Win]:
    """Pareto dominance over several rewards, the D3PO paper's rule: at least as good in each, better in one.

    scores: one row a reward, [R][N]. One reward alone orders the images by its scores.
    """
    images = list(zip(*_aligned(scores), strict=True))
    return [
        (i, j)
        for i, better in enumerate(images)
        for j, worse in enumerate(images)
        if better != worse and all(a >= b for a, b in zip(better, worse, strict=True))
    ]


def weighted_sum(scores: Sequence[Sequence[float]], weights: Sequence[float]) -> list[float]:
    """sum_r w_r s_r of each image. scores: [R][N]; weights: [R], in the units that make the rewards comparable. Returns [N]."""
    if len(scores) != len(weights):
        raise BadReward(f"There are {len(scores)} rewards and {len(weights)} weights.")
    return [sum(w * s for w, s in zip(weights, image, strict=True)) for image in zip(*_aligned(scores), strict=True)]


def preferences_of(wins: Sequence[Win], n_images: int) -> list[Preference]:
    """The fewest preferences that state these wins and no others.

    Nothing won is a tie, as with a constant reward; an order of all images is one ranking (of two images, the best); a
    partial order, which dominance gives for three images and more, is one ranking of two images a win.
    """
    if not wins:
        return [Preference("tie")]
    won = [sum(winner == i for winner, _ in wins) for i in range(n_images)]
    if sorted(won) != list(range(n_images)):
        return [Preference("ranking", ranking=win) for win in wins]
    ranking = tuple(sorted(range(n_images), key=lambda i: -won[i]))
    return [Preference("best", best=ranking[0]) if n_images == 2 else Preference("ranking", ranking=ranking)]


def _aligned(scores: Sequence[Sequence[float]]) -> Sequence[Sequence[float]]:
    if not scores or len({len(row) for row in scores}) != 1:
        raise BadReward(f"Rewards to combine score the same images; these score {[len(row) for row in scores]}.")
    return scores
