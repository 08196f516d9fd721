"""Scores of one group's images, from one reward or several, to the preference that a machine annotator states. No torch."""

from __future__ import annotations

from collections.abc import Sequence

from d3po_core.errors import BadReward
from d3po_core.preferences import Preference
from d3po_core.rewards.base import MAX_SCORE


def rated(scores: Sequence[Sequence[float]], weights: Sequence[float] | None = None) -> Preference:
    """The preference of several rewards over one group's images. scores: a row a reward, [R][N].

    Without weights an image beats another by Pareto dominance, the D3PO paper's rule. With weights, [R], in the units that
    make the rewards comparable, by sum_r w_r s_r. Raises BadReward unless all score the same images and each has a weight.
    """
    images = list(zip(*_aligned(scores), strict=True))
    if weights is None:
        return Preference("rated", ratings=images)
    if len(scores) != len(weights):
        raise BadReward(f"There are {len(scores)} rewards and {len(weights)} weights.")
    sums = [sum(w * s for w, s in zip(weights, image, strict=True)) for image in images]
    if not all(abs(number) <= MAX_SCORE for number in sums):
        raise BadReward(f"The weighted sums of the scores are {sums}; they are too large to compare. Use smaller weights.")
    return Preference("rated", ratings=[(number,) for number in sums])


def _aligned(scores: Sequence[Sequence[float]]) -> Sequence[Sequence[float]]:
    if not scores or len({len(row) for row in scores}) != 1:
        raise BadReward(f"Rewards to combine score the same images; these score {[len(row) for row in scores]}.")
    return scores
