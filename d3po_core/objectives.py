"""The algorithms by name: what each makes of a group's log-ratios and of what is known of its images.

D3PO and fine-tuning on the preferred learn from pairs. The others learn from scores, one number an image, which become
advantages (DDPO, DPOK) or weights (reward-weighted regression) once before a round, over all of its groups.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from itertools import chain
from typing import Literal

import torch
from torch import Tensor

from d3po_core.advantages import PromptStatistics
from d3po_core.errors import BadPreference, BadReward, NoPairs
from d3po_core.losses import d3po_loss, ddpo_loss, dpok_loss, preferred_loss, rwr_loss, rwr_weights
from d3po_core.params import TrainingParams
from d3po_core.plan import TrainingGroup
from d3po_core.preferences import Pair, scores_of
from d3po_core.transfer import to_device


@dataclass(frozen=True)
class Known:
    """What is known of a group's images, on the training device.

    chosen, rejected: int64 [P] and weights: float32 [P], of its pairs; values: float32 [N], the images' advantages or weights,
    empty where the algorithm learns from pairs. Where it learns from scores, the pairs are those that the values order.
    """

    chosen: Tensor
    rejected: Tensor
    weights: Tensor
    values: Tensor


@dataclass(frozen=True)
class Objective:
    """loss(params, known, log-ratios float32 [1,N], and with `kl_to_base` the exact KL to the base model of each image, float32
    [N]) -> scalar. `value`: what an image's score becomes; None: the algorithm learns from pairs. `clip`: how far a ratio may
    move before it no longer counts, if there is such a bound.
    """

    loss: Callable[..., Tensor]
    value: Literal["advantage", "weight"] | None = None
    clip: Callable[[TrainingParams], float] | None = None
    kl_to_base: bool = False


def _d3po(params: TrainingParams, known: Known, log_ratios: Tensor) -> Tensor:
    pairs = known.chosen, known.rejected, known.weights
    return d3po_loss(log_ratios, *pairs, params.beta, params.clip, params.one_sided_clip)


def _ddpo(params: TrainingParams, known: Known, log_ratios: Tensor) -> Tensor:
    return ddpo_loss(log_ratios, known.values, params.ratio_clip, params.max_advantage)


def _dpok(params: TrainingParams, known: Known, log_ratios: Tensor, kl: Tensor) -> Tensor:
    return dpok_loss(log_ratios, known.values, kl, params.ratio_clip, params.kl_weight)


def _rwr(params: TrainingParams, known: Known, log_ratios: Tensor) -> Tensor:
    return rwr_loss(log_ratios, known.values)


def _sft(params: TrainingParams, known: Known, log_ratios: Tensor) -> Tensor:
    return preferred_loss(log_ratios, known.chosen, known.weights)


OBJECTIVES = {
    "d3po": Objective(_d3po, clip=lambda params: params.clip),
    "ddpo": Objective(_ddpo, "advantage", clip=lambda params: params.ratio_clip),
    "dpok": Objective(_dpok, "advantage", clip=lambda params: params.ratio_clip, kl_to_base=True),
    "rwr": Objective(_rwr, "weight"),
    "sft": Objective(_sft),
}


def learnable(groups: Sequence[TrainingGroup], params: TrainingParams) -> list[TrainingGroup]:
    """Those groups that the algorithm can learn from: with pairs, or with scores. Raises NoPairs if there are none."""
    from_scores = OBJECTIVES[params.algorithm].value is not None
    useful = [group for group in groups if group.pairs or (from_scores and group.scores is not None)]
    if not useful:
        lacks = "scores, or a pair to take them from" if from_scores else "a pair to learn from"
        raise NoPairs(f"None of the groups has {lacks}: every vote was a tie, all bad or a skip, or they cancel out.")
    return useful


def values_of(
    groups: Sequence[TrainingGroup], prompts: Sequence[str], counts: Sequence[int], params: TrainingParams, past: PromptStatistics
) -> list[list[float]]:
    """What the images' scores become, a row a group: advantages by prompt, which `past` remembers, or weights over all images.

    prompts, counts: each group's prompt and number of images. Empty rows for an algorithm that learns from pairs. Raises
    NoPairs if all scores, remembered ones too, are the same, so that no image is better than another.
    """
    value = OBJECTIVES[params.algorithm].value
    if value is None:
        return [[] for _ in groups]
    rows = [scores_of(g.pairs, n) if g.scores is None else g.scores for g, n in zip(groups, counts, strict=True)]
    scores = [float(score) for row in rows for score in row]
    told = [prompt for prompt, row in zip(prompts, rows, strict=True) for _ in row]
    if len({*scores, *chain(*(past.history.get(prompt, ()) for prompt in told))}) == 1:
        raise NoPairs(
            f"All {len(scores)} images have the same score, {scores[0]:g}, so there is nothing to learn: no image is better than "
            "another. The trajectories are as they were and can be scored or voted on anew."
        )
    if value == "advantage":
        values = iter(past.advantages(told, scores))
    else:
        values = iter(rwr_weights(torch.tensor(scores), params.reward_beta).tolist())
    return [[next(values) for _ in row] for row in rows]


def check_known(group: TrainingGroup, images: int) -> None:
    """Refuse what cannot be true of a group of so many images.

    Raises BadPreference for a pair of an image that is not there, of an image with itself, or whose weight is not positive and
    finite, as the group's has to be; BadReward unless there is one finite score an image, if there are any.
    """
    if not 0 < group.weight < math.inf:
        raise BadPreference(f"The weight of {group.path} is {group.weight}; it has to be positive and finite.")
    for pair in group.pairs:
        if not (0 <= pair.chosen < images and 0 <= pair.rejected < images):
            raise BadPreference(
                f"A preference names image {max(pair.chosen, pair.rejected)} of {group.path}, which holds {images} images."
            )
        if pair.chosen == pair.rejected or not 0 < pair.weight < math.inf:
            raise BadPreference(
                f"A preference on {group.path} sets image {pair.chosen} above image {pair.rejected} with weight {pair.weight}; "
                "it needs two images and a positive weight."
            )
    if group.scores is None:
        return
    if len(group.scores) != images:
        raise BadReward(f"There are {len(group.scores)} scores for {group.path}, which holds {images} images.")
    for position, score in enumerate(group.scores):
        if not math.isfinite(score):
            raise BadReward(f"The score of image {position} of {group.path} is {score}; scores are finite numbers.")


def known_of(group: TrainingGroup, values: Sequence[float], device: torch.device) -> Known:
    """A group's pairs and its row of `values_of` as tensors."""
    pairs = _ordered(values) if values else group.pairs
    chosen = torch.tensor([pair.chosen for pair in pairs], dtype=torch.int64)
    rejected = torch.tensor([pair.rejected for pair in pairs], dtype=torch.int64)
    weights = torch.tensor([pair.weight for pair in pairs], dtype=torch.float32)
    images = torch.tensor(values, dtype=torch.float32)
    return Known(*(to_device(tensor, device) for tensor in (chosen, rejected, weights, images)))


def _ordered(values: Sequence[float]) -> list[Pair]:
    return [Pair(i, j) for i, better in enumerate(values) for j, worse in enumerate(values) if better > worse]
