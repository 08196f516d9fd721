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


def ddpo_loss(log_ratios: Tensor, advantages: Tensor, clip: float, max_advantage: float = 5.0) -> Tensor:
    """DDPO with importance sampling (arXiv 2305.13301), clipped as PPO does (Schulman et al. 2017, eq. 7).

        L = - mean over timesteps and images of min(A r, A clamp(r, 1-eps, 1+eps)),   r = exp(l_theta - l_old)

    log_ratios: float32 [K,N] against the policy that sampled; advantages: float32 [N], clamped to +-max_advantage.
    Published: clip 1e-4, max_advantage 5. Returns a scalar.
    """
    advantages = advantages.clamp(-max_advantage, max_advantage)
    ratios = log_ratios.exp()
    return -torch.minimum(advantages * ratios, advantages * ratios.clamp(1 - clip, 1 + clip)).mean()


def dpok_loss(log_ratios: Tensor, advantages: Tensor, kl: Tensor, clip: float, kl_weight: float) -> Tensor:
    """DPOK (arXiv 2305.16381): policy gradient, and the KL of every step to the pretrained model.

        L = - mean over timesteps and images of A clamp(r, 1-eps, 1+eps) + w mean of KL,   r = exp(l_theta - l_old)

    The clamp is that of its authors' code: both sides, whatever the advantage's sign.

    log_ratios: float32 [K,N] against the policy that sampled; advantages: float32 [N]; kl: that to the pretrained model,
    `gaussian_kl_each`, of each step or image, any shape. Published: clip 1e-4, kl_weight 0.01. Returns a scalar.
    """
    return kl_weight * kl.mean() - (advantages * log_ratios.exp().clamp(1 - clip, 1 + clip)).mean()


def rwr_weights(rewards: Tensor, beta: float) -> Tensor:
    """Reward-weighted regression's weight of each image: exp(beta r) / Z, of mean 1 over the images given. [M] -> [M]

    DDPO's baseline takes beta 0.2 and Z over all images of its data set.
    """
    return len(rewards) * torch.softmax(beta * rewards, dim=0)


def rwr_loss(log_ratios: Tensor, weights: Tensor) -> Tensor:
    """Regression on the trajectories, weighted by their reward: - mean over timesteps and images of w l_theta.

    The gradient is that of the weighted log-likelihood of the stored steps; l_old only shifts the value. log_ratios: float32
    [K,N]; weights: float32 [N] of `rwr_weights`. Returns a scalar.
    """
    return -(weights * log_ratios).mean()


def preferred_loss(log_ratios: Tensor, chosen: Tensor, weights: Tensor) -> Tensor:
    """Supervised fine-tuning on the preferred: - weighted mean over pairs, mean over timesteps, of l_theta of the chosen.

    The rejected are not looked at. log_ratios: float32 [K,N]; chosen: int64 [P]; weights: float32 [P]. Returns a scalar.
    """
    return -(weights * log_ratios[:, chosen]).sum(dim=1).mean() / weights.sum()


def pair_accuracy(log_ratios: Tensor, chosen: Tensor, rejected: Tensor) -> Tensor:
    """Share of pairs whose chosen image gained more likelihood than the rejected one. Scalar in 0..1."""
    return (log_ratios[:, chosen] > log_ratios[:, rejected]).float().mean()


def kl_estimate(log_ratios: Tensor) -> Tensor:
    """KL(reference || policy), nats a latent dimension, from samples of the reference: the mean of l_ref - l_theta.

    log_ratios: l_theta - l_ref, each an average over an image's dimensions. Without bias, and below 0 by chance where the two
    are close. The estimators that never are, such as r - 1 - log r, need the ratio of whole images.
    """
    return -log_ratios.mean()


def gaussian_kl_each(mean: Tensor, reference_mean: Tensor, sigma: float) -> Tensor:
    """`gaussian_kl` of each image: mean over C,H,W of (mu_theta - mu_ref)^2 / (2 sigma^2).

    mean, reference_mean: [n or 1,C,H,W]. Returns float32 [n].
    """
    return (mean.float() - reference_mean.float()).square().mean(dim=(1, 2, 3)) / (2 * sigma**2)


def gaussian_kl(mean: Tensor, reference_mean: Tensor, sigma: float) -> Tensor:
    """KL of two steps with one sigma, exact, a latent dimension: mean of (mu_theta - mu_ref)^2 / (2 sigma^2). Scalar float32."""
    return (mean.float() - reference_mean.float()).square().mean() / (2 * sigma**2)
