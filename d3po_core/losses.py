"""The objectives as pure functions of log-ratios. Tensors only."""

from __future__ import annotations

import math

import torch
import torch.nn.functional as F
from torch import Tensor


def d3po_loss(log_ratios: Tensor, chosen: Tensor, rejected: Tensor, weights: Tensor, beta: float, clip: float) -> Tensor:
    """D3PO's loss for one group (arXiv 2311.13231, eq. 12), each image evaluated once, all pairs from N log-ratios.

        r = clamp(l_theta - l_ref, log(1-eps), log(1+eps))
        L = - weighted mean over pairs, mean over timesteps, of log sigmoid(beta (r_chosen - r_rejected))

    log_ratios: float32 [K,N] for K timesteps; chosen, rejected: int64 [P]; weights: float32 [P]. Returns a scalar.
    """
    r = log_ratios.clamp(math.log1p(-clip), math.log1p(clip))
    margins = r[:, chosen] - r[:, rejected]
    return -(weights * F.logsigmoid(beta * margins)).sum(dim=1).mean() / weights.sum()


def pair_accuracy(log_ratios: Tensor, chosen: Tensor, rejected: Tensor) -> Tensor:
    """Share of pairs whose chosen image gained more likelihood than the rejected one. Scalar in 0..1."""
    return (log_ratios[:, chosen] > log_ratios[:, rejected]).float().mean()


def kl_estimate(log_ratios: Tensor) -> Tensor:
    """KL(reference || policy) a latent dimension, from samples of the reference: mean of r - 1 - log r >= 0."""
    return (torch.expm1(log_ratios) - log_ratios).mean()
