"""Log-ratios of the policy against its reference on recorded steps, and the proof that they start at zero."""

from __future__ import annotations

from contextlib import AbstractContextManager, nullcontext

import torch
from torch import Tensor

from d3po_core.denoisers import Denoiser
from d3po_core.errors import BadTrajectory
from d3po_core.params import TrainingParams
from d3po_core.plan import TrainingGroup
from d3po_core.trajectory import Trajectory
from d3po_core.transitions import log_prob

FLOAT32_TOLERANCE = 1e-3
"""Of |l_theta - l_ref| at theta = reference. Half precision may reach a tenth of the clip, which still changes no pair."""


def step_mean(denoiser: Denoiser, trajectory: Trajectory, step: int, images: slice = slice(None)) -> Tensor:
    """mu of the latents after a step, of some images of a group. Float32 [n,C,H,W].

    Where all images share their latents, as at the first step, the model is evaluated once: [1,C,H,W].
    """
    header, device = trajectory.header, denoiser.device
    latents = trajectory.latents[images, step].to(device)
    if torch.equal(latents, latents[:1].expand_as(latents)):
        latents = latents[:1]
    taken = [header.steps[step]] * len(latents)
    timesteps = torch.full((len(latents),), header.steps[step].timestep, device=device)
    conditioning = trajectory.conditioning.to(device).expand(len(latents))
    output = denoiser.predict(latents, timesteps, conditioning, header.params.guidance_scale)
    return denoiser.transition(header.params).mean(output, latents, taken)


def log_probs(denoiser: Denoiser, trajectory: Trajectory, step: int, images: slice = slice(None)) -> Tensor:
    """l_theta of the recorded latents after a step. Float32 [n]."""
    next_latents = trajectory.latents[images, step + 1].to(denoiser.device)
    mean = step_mean(denoiser, trajectory, step, images)
    return log_prob(next_latents, mean.expand_as(next_latents), [trajectory.header.steps[step]] * len(next_latents))


def log_ratios(denoiser: Denoiser, trajectory: Trajectory, step: int, images: slice = slice(None)) -> Tensor:
    """l_theta - l_ref of some images of a group at one step, l_ref as the trajectory holds it. Float32 [n]."""
    return log_probs(denoiser, trajectory, step, images) - trajectory.log_probs[images, step].to(denoiser.device)


def autocast(denoiser: Denoiser, params: TrainingParams) -> AbstractContextManager[object]:
    """The number format that `params.mixed_precision` asks for."""
    formats = {"bf16": torch.bfloat16, "fp16": torch.float16}
    if params.mixed_precision == "no":
        return nullcontext()
    return torch.autocast(denoiser.device.type, formats[params.mixed_precision])


@torch.no_grad()
def check_ratio_is_one(denoiser: Denoiser, group: TrainingGroup, params: TrainingParams) -> None:
    """Prove |l_theta - l_ref| <= tolerance at theta = reference on all steps of one group.

    The tolerance is FLOAT32_TOLERANCE, or clip/10 where the model runs in half precision. Raises BadTrajectory beyond it.
    """
    trajectory = Trajectory.load(group.path)
    exact = denoiser.dtype == torch.float32 and params.mixed_precision == "no"
    allowed = FLOAT32_TOLERANCE if exact else params.clip / 10
    with autocast(denoiser, params):
        worst = max(log_ratios(denoiser, trajectory, step).abs().max().item() for step in trajectory.trainable_steps)
    if not worst <= allowed:
        raise BadTrajectory(
            f"Recomputing {group.path} with the sampling policy gives log-probabilities that differ by {worst:.1e} "
            f"(allowed {allowed:.0e}); the number format or the library versions changed since it was sampled."
        )
