"""One stochastic reverse step and its log-density: DDIM with eta > 0.

With alpha-bar a at t and a' at t' (Song et al. 2021, eq. 12 and 16; METHOD.md):

    x0      = (x - sqrt(1-a) e) / sqrt(a)                 epsilon prediction
    sigma^2 = eta^2 (1-a')/(1-a) (1 - a/a')
    mu      = sqrt(a') x0 + sqrt(1-a'-sigma^2) e
    x'      = mu + sigma z,   z ~ N(0, I)
    l       = mean over C,H,W of [ -(x'-mu)^2 / (2 sigma^2) - ln sigma - 0.5 ln 2 pi ]
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor

from d3po_core.errors import UnsupportedModel

LOG_SQRT_2PI = 0.5 * math.log(2 * math.pi)


@dataclass(frozen=True)
class Step:
    """One denoising step: from timestep t to t' (negative: to the clean image), with its standard deviation."""

    timestep: int
    next_timestep: int
    sigma: float


class DdimTransition:
    """The DDIM chain of one scheduler configuration.

    Coefficients are float64 Python numbers, so tensors keep their own dtype. Raises UnsupportedModel for a scheduler
    that this step is not exact for: clipping or thresholding of x0, or epsilon prediction with zero terminal SNR; and
    for a number of steps that the scheduler cannot take.
    """

    def __init__(self, scheduler: Any, num_inference_steps: int, eta: float) -> None:
        config = scheduler.config
        if type(scheduler).__name__ != "DDIMScheduler":
            raise UnsupportedModel(f"The pipeline uses {type(scheduler).__name__}; this library steps with DDIMScheduler.")
        if config.clip_sample or config.thresholding:
            raise UnsupportedModel(
                "The scheduler clips the predicted image (clip_sample or thresholding); its step has no exact density."
            )
        if config.prediction_type not in ("epsilon", "v_prediction", "sample"):
            raise UnsupportedModel(
                f"The scheduler predicts {config.prediction_type!r}; known are epsilon, v_prediction and sample."
            )
        self.prediction_type = config.prediction_type
        self.eta = eta
        self._alphas = scheduler.alphas_cumprod.double().tolist()
        self._final_alpha = float(scheduler.final_alpha_cumprod)
        if self._alphas[-1] == 0.0 and self.prediction_type == "epsilon":
            raise UnsupportedModel(
                "Epsilon prediction with zero terminal SNR is infinite at the first step; the model needs v_prediction."
            )
        scheduler.set_timesteps(num_inference_steps)
        stride = config.num_train_timesteps // num_inference_steps
        timesteps = scheduler.timesteps.tolist()
        # Leading spacing leaves the table at its end, trailing spacing at its start (61 steps of 1000: the last is -1).
        if not all(0 <= t < len(self._alphas) for t in timesteps):
            raise UnsupportedModel(
                f"The scheduler cannot be cut into {num_inference_steps} steps; choose another number, such as 20."
            )
        self.steps = [self._step(t, t - stride) for t in timesteps]
        if not any(step.sigma > 0 for step in self.steps):
            raise UnsupportedModel(f"With {num_inference_steps} steps this scheduler adds no noise anywhere; take at least 2.")

    def alpha(self, timestep: int) -> float:
        """alpha-bar at a timestep; the scheduler's final value before the first one."""
        return self._alphas[timestep] if timestep >= 0 else self._final_alpha

    def _step(self, timestep: int, next_timestep: int) -> Step:
        a, b = self.alpha(timestep), self.alpha(next_timestep)
        variance = (1 - b) / (1 - a) * (1 - a / b)
        return Step(timestep, next_timestep, self.eta * math.sqrt(max(variance, 0.0)))

    def mean(self, model_output: Tensor, latents: Tensor, steps: Sequence[Step]) -> Tensor:
        """mu of the next latents. model_output, latents: [B,C,H,W]; steps: one of each row. Returns [B,C,H,W]."""

        def column(values: list[float]) -> Tensor:
            return torch.tensor(values, dtype=latents.dtype, device=latents.device).view(-1, 1, 1, 1)

        a = [self.alpha(s.timestep) for s in steps]
        b = [self.alpha(s.next_timestep) for s in steps]
        root_a, root_1a = column([math.sqrt(x) for x in a]), column([math.sqrt(1 - x) for x in a])
        if self.prediction_type == "epsilon":
            epsilon, x0 = model_output, (latents - root_1a * model_output) / root_a
        elif self.prediction_type == "sample":
            epsilon, x0 = (latents - root_a * model_output) / root_1a, model_output
        else:
            epsilon, x0 = root_a * model_output + root_1a * latents, root_a * latents - root_1a * model_output
        direction = [math.sqrt(max(1 - y - s.sigma**2, 0.0)) for y, s in zip(b, steps, strict=True)]
        return column([math.sqrt(y) for y in b]) * x0 + column(direction) * epsilon


def log_prob(next_latents: Tensor, mean: Tensor, sigma: Tensor) -> Tensor:
    """Gaussian log-density averaged over C,H,W. next_latents, mean: [B,C,H,W]; sigma: [B] > 0. Returns float32 [B]."""
    difference = next_latents.float() - mean.float()
    sigma = sigma.float()
    squared = difference.square().mean(dim=(1, 2, 3))
    return -squared / (2 * sigma.square()) - sigma.log() - LOG_SQRT_2PI
