from __future__ import annotations

import math

import pytest
import torch
from torch import Tensor

from d3po_core.losses import (
    d3po_loss,
    ddpo_loss,
    dpok_loss,
    gaussian_kl,
    gaussian_kl_each,
    kl_estimate,
    pair_accuracy,
    preferred_loss,
    rwr_loss,
    rwr_weights,
)

BETA, CLIP = 0.1, 0.1
Pairs = list[tuple[int, int, float]]
PAIRS: Pairs = [(0, 1, 1.0), (0, 2, 0.5), (3, 1, 1 / 3)]


def published(policy: Tensor, reference: Tensor, pairs: Pairs) -> Tensor:
    """The loss as the paper's code writes it, pair by pair and timestep by timestep: exp, clamp, log, sigmoid, log."""
    total = torch.zeros((), dtype=policy.dtype)
    for t in range(len(policy)):
        for w, l, weight in pairs:  # noqa: E741
            ratio_w = torch.clamp(torch.exp(policy[t, w] - reference[t, w]), 1 - CLIP, 1 + CLIP)
            ratio_l = torch.clamp(torch.exp(policy[t, l] - reference[t, l]), 1 - CLIP, 1 + CLIP)
            total = total - weight * torch.log(torch.sigmoid(BETA * (torch.log(ratio_w) - torch.log(ratio_l))))
    return total / len(policy) / sum(weight for _, _, weight in pairs)


def ours(log_ratios: Tensor, pairs: Pairs) -> Tensor:
    chosen, rejected, weights = zip(*pairs, strict=True)
    weights = torch.tensor(weights, dtype=log_ratios.dtype)
    return d3po_loss(log_ratios, torch.tensor(chosen), torch.tensor(rejected), weights, BETA, CLIP)


def random(seed: int, *shape: int) -> Tensor:
    return torch.randn(*shape, generator=torch.Generator().manual_seed(seed), dtype=torch.float64)


@pytest.mark.parametrize("spread", [1e-3, 0.05, 0.5])
def test_value_and_gradient_are_those_of_the_published_formula(spread: float) -> None:
    reference = random(0, 5, 4)
    policy = (reference + spread * random(1, 5, 4)).requires_grad_(True)
    expected, actual = published(policy, reference, PAIRS), ours(policy - reference, PAIRS)
    torch.testing.assert_close(actual, expected)
    torch.testing.assert_close(torch.autograd.grad(actual, policy), torch.autograd.grad(expected, policy))


def test_the_gradient_is_the_derivative() -> None:
    log_ratios = (0.02 * random(2, 3, 4)).requires_grad_(True)
    assert torch.autograd.gradcheck(lambda r: ours(r, PAIRS), log_ratios)


def test_an_untouched_policy_has_the_loss_of_a_coin() -> None:
    assert ours(torch.zeros(3, 4), PAIRS).item() == pytest.approx(math.log(2))


def test_the_gradient_raises_the_chosen_and_lowers_the_rejected() -> None:
    log_ratios = torch.zeros(2, 4, requires_grad=True)
    ours(log_ratios, [(0, 1, 1.0)]).backward()
    assert (log_ratios.grad[:, 0] < 0).all()
    assert (log_ratios.grad[:, 1] > 0).all()


def test_a_tied_image_gets_no_gradient() -> None:
    log_ratios = (0.01 * random(3, 2, 4)).requires_grad_(True)
    ours(log_ratios, [(0, 1, 1.0)]).backward()
    assert (log_ratios.grad[:, 2:] == 0).all()


def test_an_image_beyond_the_clip_gets_no_gradient() -> None:
    log_ratios = torch.tensor([[0.2, 0.0, -0.2, 0.0]], requires_grad=True)
    ours(log_ratios, [(0, 1, 1.0), (3, 2, 1.0)]).backward()
    assert (log_ratios.grad != 0).tolist() == [[False, True, False, True]]


def test_the_scale_does_not_grow_with_timesteps_pairs_or_weights() -> None:
    log_ratios = 0.05 * random(4, 3, 4)
    once = ours(log_ratios, PAIRS)
    torch.testing.assert_close(ours(log_ratios.repeat(4, 1), PAIRS), once)
    torch.testing.assert_close(ours(log_ratios, PAIRS * 3), once)
    torch.testing.assert_close(ours(log_ratios, [(w, l, 0.5 * weight) for w, l, weight in PAIRS]), once)  # noqa: E741


def test_pair_accuracy_counts_pairs_that_moved_the_right_way() -> None:
    log_ratios = torch.tensor([[0.2, 0.1, 0.3], [0.0, 0.0, -0.1]])
    accuracy = pair_accuracy(log_ratios, torch.tensor([0, 0]), torch.tensor([1, 2]))
    assert accuracy.item() == 0.5


def test_the_kl_estimate_agrees_with_two_gaussians() -> None:
    """Of many dimensions, as images are: averaged log-ratios, the same unit as the exact one."""
    x, shift, sigma = random(5, 2_000, 256), 0.03, 0.5
    log_ratios = (-((x - shift / sigma) ** 2) / 2 + x**2 / 2).mean(dim=1)
    exact = gaussian_kl(torch.full((1,), shift), torch.zeros(1), sigma)
    assert kl_estimate(log_ratios).item() == pytest.approx(exact.item(), rel=0.1)
    assert kl_estimate(torch.zeros(3)).item() == 0


def test_one_sided_clipping_keeps_the_gradient_of_what_moved_the_wrong_way() -> None:
    chosen, rejected, weights = torch.tensor([0, 3]), torch.tensor([1, 2]), torch.ones(2)

    def slopes(one_sided: bool) -> list[bool]:
        log_ratios = torch.tensor([[-0.2, 0.2, -0.2, 0.2]], requires_grad=True)
        d3po_loss(log_ratios, chosen, rejected, weights, BETA, CLIP, one_sided).backward()
        return (log_ratios.grad != 0)[0].tolist()

    assert slopes(one_sided=False) == [False] * 4
    assert slopes(one_sided=True) == [True, True, False, False]


def test_within_the_clip_one_sided_is_the_same() -> None:
    log_ratios = 0.01 * random(6, 3, 4)
    chosen, rejected, weights = torch.tensor([0, 3]), torch.tensor([1, 2]), torch.ones(2, dtype=torch.float64)
    both = [d3po_loss(log_ratios, chosen, rejected, weights, BETA, CLIP, one_sided) for one_sided in (False, True)]
    torch.testing.assert_close(*both)


def test_the_exact_kl_is_that_of_two_normals() -> None:
    mean, reference, sigma = random(7, 2, 4, 3, 3), random(8, 2, 4, 3, 3), 0.3
    normal = torch.distributions.Normal
    expected = torch.distributions.kl_divergence(normal(mean, sigma), normal(reference, sigma)).mean()
    assert gaussian_kl(mean, reference, sigma).item() == pytest.approx(expected.item(), rel=1e-5)
    of_each = normal(mean, sigma), normal(reference[:1], sigma)
    expected = torch.distributions.kl_divergence(*of_each).mean(dim=(1, 2, 3)).float()
    torch.testing.assert_close(gaussian_kl_each(mean, reference[:1], sigma), expected)


ADVANTAGES = torch.tensor([2.0, -1.0, 0.5, -8.0], dtype=torch.float64)


def test_ddpo_takes_the_worse_of_the_clipped_and_the_plain_ratio() -> None:
    ratios = torch.tensor([[1.2, 0.8, 1.05, 1.2], [0.8, 1.2, 1.0, 0.8]], dtype=torch.float64)
    expected = -(2 * 1.1 - 0.9 + 0.5 * 1.05 - 5 * 1.2 + 2 * 0.8 - 1.2 + 0.5 - 5 * 0.9) / 8
    assert ddpo_loss(ratios.log(), ADVANTAGES, clip=0.1).item() == pytest.approx(expected)


def test_ddpo_at_the_sampling_policy_is_reinforce() -> None:
    log_ratios = torch.zeros(3, 4, dtype=torch.float64, requires_grad=True)
    loss = ddpo_loss(log_ratios, ADVANTAGES, clip=1e-4)
    loss.backward()
    assert loss.item() == pytest.approx((5 + 1 - 2 - 0.5) / 4)
    torch.testing.assert_close(log_ratios.grad, -ADVANTAGES.clamp(-5, 5).expand(3, 4) / 12)


def test_ddpo_drops_what_moved_the_right_way_far_enough_and_nothing_else() -> None:
    log_ratios = torch.tensor([[0.2, -0.2, -0.2, 0.2]], requires_grad=True)
    ddpo_loss(log_ratios, torch.tensor([1.0, -1.0, 1.0, -1.0]), clip=0.1).backward()
    assert (log_ratios.grad != 0)[0].tolist() == [False, False, True, True]


def test_dpok_is_the_clipped_policy_gradient_and_the_weighted_kl() -> None:
    ratios = torch.tensor([[1.2, 0.8, 1.05, 1.2], [0.8, 1.2, 1.0, 0.8]], dtype=torch.float64)
    gradient = -(2 * 1.1 - 0.9 + 0.5 * 1.05 - 8 * 1.1 + 2 * 0.9 - 1.1 + 0.5 - 8 * 0.9) / 8
    kl = torch.tensor([3.0, 5.0], dtype=torch.float64)
    assert dpok_loss(ratios.log(), ADVANTAGES, kl, clip=0.1, kl_weight=0.01).item() == pytest.approx(gradient + 0.04)


def test_dpoks_kl_alone_draws_the_mean_to_the_pretrained_one() -> None:
    mean, pretrained = random(9, 4, 2, 3, 3).float().requires_grad_(True), random(10, 4, 2, 3, 3).float()
    dpok_loss(torch.zeros(1, 4), torch.zeros(4), gaussian_kl(mean, pretrained, 0.5), clip=0.1, kl_weight=0.01).backward()
    torch.testing.assert_close(mean.grad, 0.01 * (mean - pretrained).detach() / 0.25 / mean.numel())


def test_weights_of_the_regression_are_exponential_in_the_reward_with_mean_one() -> None:
    weights = rwr_weights(torch.tensor([1.0, 3.0, -2.0]), beta=0.2)
    total = math.exp(0.2) + math.exp(0.6) + math.exp(-0.4)
    assert weights.tolist() == pytest.approx([3 * math.exp(0.2) / total, 3 * math.exp(0.6) / total, 3 * math.exp(-0.4) / total])
    assert rwr_weights(torch.tensor([1000.0, 1000.0]), beta=0.2).tolist() == [1, 1]


def test_the_regression_is_the_weighted_likelihood_of_the_steps() -> None:
    log_ratios = torch.tensor([[0.1, -0.2, 0.3], [0.0, 0.4, -0.1]], dtype=torch.float64, requires_grad=True)
    weights = torch.tensor([0.5, 2.0, 0.5], dtype=torch.float64)
    loss = rwr_loss(log_ratios, weights)
    loss.backward()
    assert loss.item() == pytest.approx(-(0.05 - 0.4 + 0.15 + 0.8 - 0.05) / 6)
    torch.testing.assert_close(log_ratios.grad, -weights.expand(2, 3) / 6)


def test_fine_tuning_raises_the_chosen_of_every_pair_and_looks_at_no_other() -> None:
    log_ratios = torch.tensor([[0.1, 0.2, 0.3, 0.4], [0.0, 0.5, -0.3, 0.2]], dtype=torch.float64, requires_grad=True)
    loss = preferred_loss(log_ratios, torch.tensor([0, 0, 3]), torch.tensor([1.0, 0.5, 0.5], dtype=torch.float64))
    loss.backward()
    assert loss.item() == pytest.approx(-((0.1 * 1.5 + 0.4 * 0.5) + (0.0 + 0.2 * 0.5)) / 2 / 2)
    torch.testing.assert_close(log_ratios.grad, -torch.tensor([1.5, 0, 0, 0.5], dtype=torch.float64).expand(2, 4) / 4)


@pytest.mark.parametrize("spread", [1e-3, 0.5])
def test_every_objectives_gradient_is_its_derivative(spread: float) -> None:
    log_ratios = (spread * random(11, 3, 4)).requires_grad_(True)
    kl = random(12, 3, 4).abs().requires_grad_(True)
    chosen, weights = torch.tensor([0, 0, 3]), torch.tensor([1.0, 0.5, 0.5], dtype=torch.float64)
    assert torch.autograd.gradcheck(lambda r: ddpo_loss(r, ADVANTAGES, 0.1), log_ratios)
    assert torch.autograd.gradcheck(lambda r, k: dpok_loss(r, ADVANTAGES, k, 0.1, 0.01), (log_ratios, kl))
    assert torch.autograd.gradcheck(lambda r: rwr_loss(r, rwr_weights(ADVANTAGES, 0.2)), log_ratios)
    assert torch.autograd.gradcheck(lambda r: preferred_loss(r, chosen, weights), log_ratios)
