from __future__ import annotations

from typing import Any

import pytest
import torch
from diffusers import DDIMScheduler, EulerDiscreteScheduler
from torch import Tensor
from torch.distributions import Normal

from d3po_core.errors import UnsupportedModel
from d3po_core.transitions import DdimTransition, log_prob

SHAPE = (2, 4, 8, 8)


def scheduler(**options: Any) -> DDIMScheduler:
    """Stable Diffusion 1.5's schedule, changed by `options`."""
    defaults = {"beta_start": 0.00085, "beta_end": 0.012, "beta_schedule": "scaled_linear", "clip_sample": False}
    return DDIMScheduler(**{**defaults, "set_alpha_to_one": False, "steps_offset": 1, **options})


def noise(seed: int, dtype: torch.dtype = torch.float64) -> Tensor:
    return torch.randn(SHAPE, generator=torch.Generator().manual_seed(seed), dtype=dtype)


@pytest.mark.parametrize("prediction_type", ["epsilon", "v_prediction", "sample"])
@pytest.mark.parametrize("timestep_spacing", ["leading", "trailing", "linspace"])
@pytest.mark.parametrize("set_alpha_to_one", [False, True])
@pytest.mark.parametrize(("dtype", "tolerance"), [(torch.float32, 1e-5), (torch.float64, 1e-10)])
@pytest.mark.parametrize(("count", "eta"), [(20, 1.0), (7, 0.3)])
def test_a_step_is_the_step_of_diffusers(
    prediction_type: str,
    timestep_spacing: str,
    set_alpha_to_one: bool,
    dtype: torch.dtype,
    tolerance: float,
    count: int,
    eta: float,
) -> None:
    theirs = scheduler(prediction_type=prediction_type, timestep_spacing=timestep_spacing, set_alpha_to_one=set_alpha_to_one)
    # Their step computes in the type of these two; in float32 they are off by 1e-6 before the step even starts.
    theirs.alphas_cumprod, theirs.final_alpha_cumprod = theirs.alphas_cumprod.to(dtype), theirs.final_alpha_cumprod.to(dtype)
    transition = DdimTransition(theirs, count, eta)
    assert [step.timestep for step in transition.steps] == theirs.timesteps.tolist()
    clean, e, error, z = (noise(seed, dtype) for seed in range(4))
    for step in transition.steps:
        t = torch.tensor([step.timestep] * 2)
        truth = {"epsilon": e, "sample": clean, "v_prediction": theirs.get_velocity(clean, e, t)}[prediction_type]
        latents, output = theirs.add_noise(clean, e, t), truth + 0.1 * error
        expected = theirs.step(output, step.timestep, latents, eta=eta, variance_noise=z).prev_sample
        torch.testing.assert_close(
            transition.mean(output, latents, [step] * 2) + step.sigma * z, expected, atol=tolerance, rtol=tolerance
        )


def test_a_batch_may_mix_steps() -> None:
    transition = DdimTransition(scheduler(), 20, 1.0)
    latents, output = noise(0), noise(1)
    first, last = transition.steps[0], transition.steps[-1]
    mixed = transition.mean(output, latents, [first, last])
    torch.testing.assert_close(mixed[:1], transition.mean(output[:1], latents[:1], [first]))
    torch.testing.assert_close(mixed[1:], transition.mean(output[1:], latents[1:], [last]))


def test_the_step_to_a_fully_clean_image_has_no_noise() -> None:
    sigmas = [step.sigma for step in DdimTransition(scheduler(set_alpha_to_one=True), 20, 1.0).steps]
    assert sigmas[-1] == 0
    assert min(sigmas[:-1]) > 0


def test_zero_terminal_snr_with_v_prediction_stays_finite() -> None:
    zero_snr = {"rescale_betas_zero_snr": True, "timestep_spacing": "trailing", "prediction_type": "v_prediction"}
    for count in range(2, 60):
        transition = DdimTransition(scheduler(**zero_snr), count, 1.0)
        assert transition.steps[0].timestep == 999
        assert torch.isfinite(transition.mean(noise(0), noise(1), [transition.steps[0]] * 2)).all()


def test_log_prob_is_the_normal_density_averaged_over_an_image() -> None:
    mean, sigma = noise(0), torch.tensor([0.05, 0.9], dtype=torch.float64)
    column = sigma.view(-1, 1, 1, 1)
    latents = mean + column * noise(1)
    expected = Normal(mean, column).log_prob(latents).mean(dim=(1, 2, 3))
    actual = log_prob(latents, mean, sigma)
    assert actual.dtype == torch.float32
    torch.testing.assert_close(actual.double(), expected, atol=1e-6, rtol=1e-6)


def test_the_gradient_of_a_log_prob_reaches_the_model_output() -> None:
    transition = DdimTransition(scheduler(), 20, 1.0)
    steps = [transition.steps[3], transition.steps[12]]
    sigma = torch.tensor([step.sigma for step in steps])
    latents, next_latents = noise(0)[:, :, :2, :2], noise(1)[:, :, :2, :2]

    def density(output: Tensor) -> Tensor:
        return log_prob(next_latents, transition.mean(output, latents, steps), sigma)

    output = noise(2)[:, :, :2, :2].requires_grad_(True)
    # Quadratic in the output, so central differences are exact and a wide step keeps float32's rounding small.
    assert torch.autograd.gradcheck(density, output, eps=0.1, atol=1e-3, rtol=1e-3)


@pytest.mark.parametrize(
    ("options", "count", "sentence"),
    [
        ({"clip_sample": True}, 20, "clips the predicted image"),
        ({"thresholding": True}, 20, "clips the predicted image"),
        ({"rescale_betas_zero_snr": True}, 20, "needs v_prediction"),
        ({"prediction_type": "flow"}, 20, "predicts 'flow'"),
        ({}, 1000, "cannot be cut into 1000 steps"),
        ({"timestep_spacing": "trailing"}, 61, "cannot be cut into 61 steps"),
        ({"set_alpha_to_one": True}, 1, "adds no noise anywhere"),
    ],
)
def test_a_schedule_without_an_exact_density_is_refused(options: dict[str, Any], count: int, sentence: str) -> None:
    with pytest.raises(UnsupportedModel, match=sentence):
        DdimTransition(scheduler(**options), count, 1.0)


def test_another_kind_of_scheduler_is_refused() -> None:
    with pytest.raises(UnsupportedModel, match="EulerDiscreteScheduler; this library steps with DDIMScheduler"):
        DdimTransition(EulerDiscreteScheduler(), 20, 1.0)
