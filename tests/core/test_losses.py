from __future__ import annotations

import math

import pytest
import torch
from torch import Tensor

from d3po_core.losses import d3po_loss, gaussian_kl, kl_estimate, pair_accuracy

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
    x, shift = random(5, 200_000), 0.3
    log_ratios = -((x - shift) ** 2) / 2 + x**2 / 2
    assert kl_estimate(log_ratios).item() == pytest.approx(shift**2 / 2, rel=0.02)
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
