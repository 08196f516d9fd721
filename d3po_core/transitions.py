"""One stochastic reverse step and its log-density: DDIM with eta > 0, and the flow-matching SDE.

Every step is a Gaussian, x' = mu + sigma z with z ~ N(0, I), whose log-density is averaged over an image:

    l = mean over C,H,W of [ -(x'-mu)^2 / (2 sigma^2) - ln sigma - 0.5 ln 2 pi ]
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from itertools import pairwise
from typing import Any, Protocol

import torch
from torch import Tensor

from d3po_core.errors import BadParams, NoDensity, UnsupportedModel
from d3po_core.transfer import to_device

LOG_SQRT_2PI = 0.5 * math.log(2 * math.pi)
FLOW_NOISE = 0.7
FLOW_TIMESTEPS = 1000


@dataclass(frozen=True)
class Step:
    """One denoising step: from timestep t to t', with its standard deviation (0: no density).

    DDIM: integers, t' negative for the clean image. Flow matching: 1000 s and 1000 s' for the noise levels s > s' >= 0.
    """

    timestep: float
    next_timestep: float
    sigma: float


class Transition(Protocol):
    """A chain of Gaussian steps. Coefficients are float64 Python numbers; `mean` computes in float32 or better."""

    steps: list[Step]

    def mean(self, model_output: Tensor, latents: Tensor, steps: Sequence[Step]) -> Tensor:
        """mu of the next latents. model_output, latents: [B,C,H,W]; steps: one of each row. Returns float32 [B,C,H,W]
        (float64 for float64 latents)."""


class DdimTransition:
    """The DDIM chain of one scheduler configuration (Song et al. 2021, eq. 12 and 16).

    With alpha-bar a at t and a' at t':

        x0      = (x - sqrt(1-a) e) / sqrt(a)             epsilon prediction
        x0, e   = sqrt(a) x - sqrt(1-a) v, sqrt(a) v + sqrt(1-a) x     v prediction
        e       = (x - sqrt(a) x0) / sqrt(1-a)            sample prediction
        sigma^2 = eta^2 (1-a')/(1-a) (1 - a/a')
        mu      = sqrt(a') x0 + sqrt(1-a'-sigma^2) e

    t' is t - 1000 // T as in DDIMScheduler.step, whatever the spacing. Where the configuration clips x0 (clip_sample), mu
    uses the clipped x0 and the predicted e, as that step does; the density stays exact.

    Raises BadParams for eta outside (0, 1] (at 0 there is no density, above 1 no real mean) and for a number of steps that
    the scheduler cannot take; UnsupportedModel for another scheduler, for dynamic thresholding, for an unknown prediction
    type, and for epsilon prediction with zero terminal SNR, which is infinite at the first step.
    """

    def __init__(self, scheduler: Any, num_inference_steps: int, eta: float) -> None:
        _check_eta(eta)
        config = scheduler.config
        if type(scheduler).__name__ != "DDIMScheduler":
            raise UnsupportedModel(f"The pipeline uses {type(scheduler).__name__}; this library steps with DDIMScheduler.")
        if config.thresholding:
            raise UnsupportedModel("The scheduler thresholds the predicted image dynamically; this library has no step for that.")
        if config.prediction_type not in ("epsilon", "v_prediction", "sample"):
            raise UnsupportedModel(
                f"The scheduler predicts {config.prediction_type!r}; known are epsilon, v_prediction and sample."
            )
        self.prediction_type = config.prediction_type
        self.clip = config.clip_sample_range if config.clip_sample else math.inf
        self.eta = eta
        self._alphas = scheduler.alphas_cumprod.double().tolist()
        self._final_alpha = float(scheduler.final_alpha_cumprod)
        if self._alphas[-1] == 0.0 and self.prediction_type == "epsilon":
            raise UnsupportedModel(
                "Epsilon prediction with zero terminal SNR is infinite at the first step; the model needs v_prediction."
            )
        self.steps = [self._step(*pair) for pair in self._timesteps(scheduler, num_inference_steps)]
        if not any(step.sigma > 0 for step in self.steps):
            raise BadParams(f"With {num_inference_steps} steps this scheduler adds no noise anywhere; take at least 2.")

    def _timesteps(self, scheduler: Any, count: int) -> list[tuple[int, int]]:
        """(t, t') of every step. Raises BadParams if they leave the table: leading spacing at its end, trailing at its start."""
        trained = len(self._alphas)
        if count <= trained:
            scheduler.set_timesteps(count)
            timesteps = scheduler.timesteps.tolist()
            if all(0 <= t < trained for t in timesteps):
                return [(t, t - trained // count) for t in timesteps]
        raise BadParams(f"The scheduler cannot be cut into {count} steps; choose another number, such as 20.")

    def alpha(self, timestep: float) -> float:
        """alpha-bar at a timestep; the scheduler's final value before the first one."""
        return self._alphas[int(timestep)] if timestep >= 0 else self._final_alpha

    def _step(self, timestep: int, next_timestep: int) -> Step:
        a, b = self.alpha(timestep), self.alpha(next_timestep)
        variance = (1 - b) / (1 - a) * (1 - a / b)
        return Step(timestep, next_timestep, self.eta * math.sqrt(max(variance, 0.0)))

    def mean(self, model_output: Tensor, latents: Tensor, steps: Sequence[Step]) -> Tensor:
        output, latents = _precise(model_output), _precise(latents)
        a = [self.alpha(s.timestep) for s in steps]
        b = [self.alpha(s.next_timestep) for s in steps]
        direction = [math.sqrt(max(1 - y - s.sigma**2, 0.0)) for y, s in zip(b, steps, strict=True)]
        root_a, root_1a = _column([math.sqrt(x) for x in a], latents), _column([math.sqrt(1 - x) for x in a], latents)
        if self.prediction_type == "epsilon":
            epsilon, x0 = output, (latents - root_1a * output) / root_a
        elif self.prediction_type == "sample":
            epsilon, x0 = (latents - root_a * output) / root_1a, output
        else:
            epsilon, x0 = root_a * output + root_1a * latents, root_a * latents - root_1a * output
        if math.isfinite(self.clip):
            x0 = x0.clamp(-self.clip, self.clip)
        return _column([math.sqrt(y) for y in b], latents) * x0 + _column(direction, latents) * epsilon


class FlowTransition:
    """The flow-matching SDE with the marginals of the ODE dx = v ds (Flow-GRPO, arXiv 2505.05470, eq. 9).

    From noise level s to s' (dt = s' - s < 0), with noise a = 0.7 eta (their 0.7 at eta = 1):

        sigma_s = a sqrt(s / (1-s))                        at s = 1 the next level stands in for s inside 1-s
        mu      = x (1 + sigma_s^2 dt / 2s) + v (1 + sigma_s^2 (1-s) / 2s) dt
        sigma   = sigma_s sqrt(-dt)

    As eta goes to 0, mu goes to FlowMatchEulerDiscreteScheduler's own step, x + v dt.

    noise_levels: s of every step, falling, and the last s'; the scheduler's `sigmas`. Raises BadParams for eta outside
    (0, 1], UnsupportedModel for levels that do not fall from at most 1 to at least 0.
    """

    def __init__(self, noise_levels: Sequence[float], eta: float) -> None:
        _check_eta(eta)
        levels = list(noise_levels)
        if not (len(levels) > 1 and levels[0] <= 1 and levels[-1] >= 0 and all(s > t for s, t in pairwise(levels))):
            raise UnsupportedModel("The scheduler's noise levels do not fall from at most 1 to at least 0.")
        self.noise = FLOW_NOISE * eta
        self.steps = [self._step(s, t) for s, t in pairwise(levels)]

    def _step(self, s: float, t: float) -> Step:
        sigma = self.noise * math.sqrt(s / (1 - (s if s < 1 else t)))
        return Step(FLOW_TIMESTEPS * s, FLOW_TIMESTEPS * t, sigma * math.sqrt(s - t))

    def mean(self, model_output: Tensor, latents: Tensor, steps: Sequence[Step]) -> Tensor:
        velocity, latents = _precise(model_output), _precise(latents)
        keep, move = [], []
        for step in steps:
            s, dt = step.timestep / FLOW_TIMESTEPS, (step.next_timestep - step.timestep) / FLOW_TIMESTEPS
            # sigma_s^2 dt = -sigma^2, since sigma = sigma_s sqrt(-dt).
            keep.append(1 - step.sigma**2 / (2 * s))
            move.append(dt - step.sigma**2 * (1 - s) / (2 * s))
        return _column(keep, latents) * latents + _column(move, latents) * velocity


def log_prob(next_latents: Tensor, mean: Tensor, steps: Sequence[Step]) -> Tensor:
    """Gaussian log-density averaged over C,H,W. next_latents, mean: [B,C,H,W]; steps: one of each row.

    Returns float32 [B] whatever the latents' dtype (float64 for float64). Raises NoDensity for a step with sigma = 0.
    """
    if without := [step for step in steps if not step.sigma > 0]:
        raise NoDensity(f"The step from timestep {without[0].timestep} has sigma {without[0].sigma}, so no density.")
    difference = _precise(next_latents) - _precise(mean)
    sigma = to_device(torch.tensor([step.sigma for step in steps], dtype=difference.dtype), difference.device)
    return -difference.square().mean(dim=(1, 2, 3)) / (2 * sigma.square()) - sigma.log() - LOG_SQRT_2PI


def _check_eta(eta: float) -> None:
    if not 0 < eta <= 1:
        raise BadParams(f"eta is {eta}; it must be above 0, where a step has a density, and at most 1.")


def _precise(tensor: Tensor) -> Tensor:
    return tensor.to(torch.promote_types(tensor.dtype, torch.float32))


def _column(values: list[float], like: Tensor) -> Tensor:
    return to_device(torch.tensor(values, dtype=like.dtype), like.device).view(-1, 1, 1, 1)
