from __future__ import annotations

from collections.abc import Callable
from itertools import pairwise
from typing import Any

import pytest
import torch
from diffusers import DDIMScheduler, EulerDiscreteScheduler, FlowMatchEulerDiscreteScheduler
from torch import Tensor
from torch.distributions import Normal

from d3po_core.errors import BadParams, NoDensity, UnsupportedModel
from d3po_core.transitions import DdimTransition, FlowTransition, Step, Transition, log_prob

SHAPE = (2, 4, 8, 8)


def scheduler(**options: Any) -> DDIMScheduler:
    """Stable Diffusion 1.5's schedule, changed by `options`."""
    defaults = {"beta_start": 0.00085, "beta_end": 0.012, "beta_schedule": "scaled_linear", "clip_sample": False}
    return DDIMScheduler(**{**defaults, "set_alpha_to_one": False, "steps_offset": 1, **options})


def in_float64(theirs: DDIMScheduler) -> DDIMScheduler:
    """Their step computes in the type of these two; in float32 they are off by 1e-6 before the step even starts."""
    theirs.alphas_cumprod, theirs.final_alpha_cumprod = theirs.alphas_cumprod.double(), theirs.final_alpha_cumprod.double()
    return theirs


def noise(seed: int, dtype: torch.dtype = torch.float64) -> Tensor:
    return torch.randn(SHAPE, generator=torch.Generator().manual_seed(seed), dtype=dtype)


DDIM = [DdimTransition(scheduler(prediction_type=kind), 20, 1.0) for kind in ("epsilon", "v_prediction", "sample")]
FLOW = FlowTransition([1 - k / 20 for k in range(21)], 1.0)


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
    theirs = in_float64(theirs) if dtype == torch.float64 else theirs
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


def test_zero_terminal_snr_with_v_prediction_stays_finite_where_diffusers_does_not() -> None:
    theirs = in_float64(scheduler(rescale_betas_zero_snr=True, timestep_spacing="trailing", prediction_type="v_prediction"))
    output, latents, z = noise(0), noise(1), noise(2)
    finite = 0
    for count in range(2, 60, 3):
        transition = DdimTransition(theirs, count, 1.0)
        assert transition.steps[0].timestep == 999
        for step in transition.steps:
            ours = transition.mean(output, latents, [step] * 2) + step.sigma * z
            expected = theirs.step(output, step.timestep, latents, eta=1.0, variance_noise=z).prev_sample
            assert torch.isfinite(ours).all()
            if torch.isfinite(expected).all():
                torch.testing.assert_close(ours, expected, atol=1e-10, rtol=1e-10)
                finite += 1
    assert finite > 500


@pytest.mark.parametrize("prediction_type", ["epsilon", "v_prediction", "sample"])
def test_a_scheduler_that_clips_is_followed_exactly(prediction_type: str) -> None:
    theirs = in_float64(scheduler(prediction_type=prediction_type, clip_sample=True, clip_sample_range=0.5))
    transition = DdimTransition(theirs, 20, 1.0)
    output, latents, z = noise(0), noise(1), noise(2)
    for step in transition.steps:
        expected = theirs.step(output, step.timestep, latents, eta=1.0, variance_noise=z).prev_sample
        ours = transition.mean(output, latents, [step] * 2) + step.sigma * z
        torch.testing.assert_close(ours, expected, atol=1e-10, rtol=1e-10)


def flow_scheduler(count: int, **options: Any) -> FlowMatchEulerDiscreteScheduler:
    theirs = FlowMatchEulerDiscreteScheduler(**{"shift": 3.0, **options})
    theirs.set_timesteps(count)
    return theirs


@pytest.mark.parametrize("count", [1, 2, 28])
@pytest.mark.parametrize("eta", [1.0, 0.3])
def test_a_flow_step_is_its_closed_form(count: int, eta: float) -> None:
    levels = flow_scheduler(count).sigmas.double().tolist()
    transition = FlowTransition(levels, eta)
    x, v = noise(0), noise(1)
    for step, (s, after) in zip(transition.steps, pairwise(levels), strict=True):
        dt = after - s
        sigma = 0.7 * eta * (s / (1 - (after if s == 1 else s))) ** 0.5
        mean = x * (1 + sigma**2 / (2 * s) * dt) + v * (1 + sigma**2 * (1 - s) / (2 * s)) * dt
        torch.testing.assert_close(transition.mean(v, x, [step] * 2), mean, atol=1e-12, rtol=1e-12)
        assert step.sigma == pytest.approx(sigma * (-dt) ** 0.5, rel=1e-12)


@pytest.mark.parametrize("count", [1, 2, 28])
def test_a_flow_step_without_noise_is_the_euler_step_of_diffusers(count: int) -> None:
    theirs = flow_scheduler(count)
    transition = FlowTransition(theirs.sigmas.tolist(), 1e-4)
    assert torch.tensor([step.timestep for step in transition.steps]).equal(theirs.timesteps)
    x, v = noise(0, torch.float32), noise(1, torch.float32)
    for step, timestep in zip(transition.steps, theirs.timesteps, strict=True):
        expected = theirs.step(v, timestep, x).prev_sample
        torch.testing.assert_close(transition.mean(v, x, [step] * 2), expected, atol=1e-6, rtol=1e-6)
        assert step.sigma < 1e-3


@pytest.mark.parametrize("levels", [[1.0], [0.0, 1.0], [1.5, 0.5, 0.0], [0.5, 0.5, 0.0], [1.0, float("nan")]])
def test_noise_levels_that_do_not_fall_are_refused(levels: list[float]) -> None:
    with pytest.raises(UnsupportedModel, match="do not fall from at most 1 to at least 0"):
        FlowTransition(levels, 1.0)


def test_half_precision_models_step_in_float32() -> None:
    output, latents = noise(0, torch.float16), noise(1, torch.float16)
    for transition in (*DDIM, FLOW):
        step = [transition.steps[5]] * 2
        mean = transition.mean(output, latents, step)
        assert mean.dtype == torch.float32
        torch.testing.assert_close(mean, transition.mean(output.double(), latents.double(), step).float(), atol=1e-5, rtol=1e-5)


@pytest.mark.parametrize(("dtype", "tolerance"), [(torch.float64, 1e-12), (torch.float32, 1e-5), (torch.bfloat16, 1e-5)])
def test_log_prob_is_the_normal_density_averaged_over_an_image(dtype: torch.dtype, tolerance: float) -> None:
    steps = [Step(9, 8, 0.05), Step(9, 8, 0.9)]
    sigma = torch.tensor([0.05, 0.9], dtype=torch.float64).view(-1, 1, 1, 1)
    mean = noise(0).to(dtype)
    latents = (mean.double() + sigma * noise(1)).to(dtype)
    actual = log_prob(latents, mean, steps)
    assert actual.dtype == (torch.float64 if dtype == torch.float64 else torch.float32)
    expected = Normal(mean.double(), sigma).log_prob(latents.double()).mean(dim=(1, 2, 3))
    torch.testing.assert_close(actual.double(), expected, atol=tolerance, rtol=tolerance)


def test_a_step_without_noise_has_no_density() -> None:
    with pytest.raises(NoDensity, match=r"The step from timestep 1 has sigma 0\.0"):
        log_prob(noise(0), noise(1), [Step(51, 1, 0.3), Step(1, -49, 0.0)])


@pytest.mark.parametrize("transition", [*DDIM, FLOW], ids=["epsilon", "v_prediction", "sample", "flow"])
def test_the_gradient_of_a_log_prob_reaches_the_model_output(transition: Transition) -> None:
    steps = [transition.steps[3], transition.steps[12]]
    latents, next_latents, output = (noise(seed)[:, :, :2, :2] for seed in range(3))

    def density(output: Tensor) -> Tensor:
        return log_prob(next_latents, transition.mean(output, latents, steps), steps)

    assert torch.autograd.gradcheck(density, output.requires_grad_(True), atol=1e-6, rtol=1e-6)


def test_the_gradient_of_a_log_prob_in_the_latents_and_the_mean_is_its_derivative() -> None:
    steps = [Step(9, 8, 0.3), Step(5, 4, 0.9)]
    latents, mean = (noise(seed)[:, :, :2, :2].clone().requires_grad_(True) for seed in range(2))
    assert torch.autograd.gradcheck(lambda x, mu: log_prob(x, mu, steps), (latents, mean), atol=1e-6, rtol=1e-6)


@pytest.mark.parametrize(
    ("options", "count", "sentence"),
    [
        ({"thresholding": True}, 20, "thresholds the predicted image"),
        ({"rescale_betas_zero_snr": True}, 20, "needs v_prediction"),
        ({"prediction_type": "flow"}, 20, "predicts 'flow'"),
    ],
)
def test_a_schedule_without_an_exact_density_is_refused(options: dict[str, Any], count: int, sentence: str) -> None:
    with pytest.raises(UnsupportedModel, match=sentence):
        DdimTransition(scheduler(**options), count, 1.0)


@pytest.mark.parametrize(
    ("options", "count", "sentence"),
    [
        ({}, 1000, "cannot be cut into 1000 steps"),
        ({"num_train_timesteps": 100}, 101, "cannot be cut into 101 steps"),
        ({"timestep_spacing": "trailing"}, 61, "cannot be cut into 61 steps"),
        ({"set_alpha_to_one": True}, 1, "adds no noise anywhere"),
    ],
)
def test_a_number_of_steps_that_the_schedule_lacks_is_refused(options: dict[str, Any], count: int, sentence: str) -> None:
    with pytest.raises(BadParams, match=sentence):
        DdimTransition(scheduler(**options), count, 1.0)


@pytest.mark.parametrize("eta", [0.0, -0.1, 1.01, float("nan")])
@pytest.mark.parametrize("make", [lambda eta: DdimTransition(scheduler(), 20, eta), lambda eta: FlowTransition([1.0, 0.0], eta)])
def test_an_eta_without_a_density_is_refused(make: Callable[[float], Transition], eta: float) -> None:
    with pytest.raises(BadParams, match=f"eta is {eta}"):
        make(eta)


def test_another_kind_of_scheduler_is_refused() -> None:
    with pytest.raises(UnsupportedModel, match="EulerDiscreteScheduler; this library steps with DDIMScheduler"):
        DdimTransition(EulerDiscreteScheduler(), 20, 1.0)
