"""The objectives as pure functions of log-ratios. Tensors only."""

from __future__ import annotations

import math

import torch
import torch.nn.functional as F
from torch import Tensor


def d3po_loss(
    log_ratios: Tensor, chosen: Tensor, rejected: Tensor, weights: Tensor, beta: float, clip: float, one_sided: bool = False
) -> Tensor:
    """D3PO's loss for one group (arXiv 2311.13231, eq. 12), each image evaluated once, all pairs from N log-ratios.

        r = clamp(l_theta - l_ref, log(1-eps), log(1+eps))
        L = - weighted mean over pairs, mean over timesteps, of log sigmoid(beta (r_chosen - r_rejected))

    one_sided: PPO's form, min(., log(1+eps)) for the chosen and max(., log(1-eps)) for the rejected, so that what moved the
    wrong way keeps its gradient (Schulman et al. 2017, eq. 7).

    log_ratios: float32 [K,N] for K timesteps; chosen, rejected: int64 [P]; weights: float32 [P]. Returns a scalar.
    """
    low, high = math.log1p(-clip), math.log1p(clip)
    if one_sided:
        margins = log_ratios[:, chosen].clamp(max=high) - log_ratios[:, rejected].clamp(min=low)
    else:
        r = log_ratios.clamp(low, high)
        margins = r[:, chosen] - r[:, rejected]
    return -(weights * F.logsigmoid(beta * margins)).sum(dim=1).mean() / weights.sum()


def pair_accuracy(log_ratios: Tensor, chosen: Tensor, rejected: Tensor) -> Tensor:
    """Share of pairs whose chosen image gained more likelihood than the rejected one. Scalar in 0..1."""
    return (log_ratios[:, chosen] > log_ratios[:, rejected]).float().mean()


def kl_estimate(log_ratios: Tensor) -> Tensor:
    """KL(reference || policy) a latent dimension, from samples of the reference: mean of r - 1 - log r >= 0."""
    return (torch.expm1(log_ratios) - log_ratios).mean()


def gaussian_kl(mean: Tensor, reference_mean: Tensor, sigma: float) -> Tensor:
    """KL of two steps with one sigma, exact, a latent dimension: mean of (mu_theta - mu_ref)^2 / (2 sigma^2). Scalar float32."""
    return (mean.float() - reference_mean.float()).square().mean() / (2 * sigma**2)
