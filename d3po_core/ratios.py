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
from d3po_core.transfer import to_device
from d3po_core.transitions import log_prob

FLOAT32_TOLERANCE = 1e-3
"""Of |l_theta - l_ref| at theta = reference."""
HALF_TOLERANCE = 1e-2
"""The same in half precision: a tenth of the published clip, which changes no pair."""


def step_mean(denoiser: Denoiser, trajectory: Trajectory, step: int, images: slice = slice(None)) -> Tensor:
    """mu of the latents after a step, of some images of a group. Float32 [n,C,H,W].

    Where all images share their latents, as at the first step, the model is evaluated once: [1,C,H,W].
    """
    header, device = trajectory.header, denoiser.device
    latents = trajectory.latents[images, step]
    if torch.equal(latents, latents[:1].expand_as(latents)):  # on the host, where a trajectory is read: no wait
        latents = latents[:1]
    latents = to_device(latents, device)
    taken = [header.steps[step]] * len(latents)
    timesteps = torch.full((len(latents),), header.steps[step].timestep, device=device)
    conditioning = trajectory.conditioning.to(device).expand(len(latents))
    output = denoiser.predict(latents, timesteps, conditioning, header.params.guidance_scale)
    return denoiser.transition(header.params).mean(output, latents, taken)


def log_prob_at(mean: Tensor, trajectory: Trajectory, step: int, images: slice = slice(None)) -> Tensor:
    """l of the recorded latents after a step, given the step's mean for some images of a group. Float32 [n]."""
    next_latents = to_device(trajectory.latents[images, step + 1], mean.device)
    return log_prob(next_latents, mean.expand_as(next_latents), [trajectory.header.steps[step]] * len(next_latents))


def log_ratios(denoiser: Denoiser, trajectory: Trajectory, step: int) -> Tensor:
    """l_theta - l_ref of a group's images at one step, l_ref as the trajectory holds it. Float32 [N]."""
    mean = step_mean(denoiser, trajectory, step)
    return log_prob_at(mean, trajectory, step) - trajectory.log_probs[:, step].to(mean.device)


@torch.no_grad()
def all_log_probs(denoiser: Denoiser, trajectory: Trajectory, params: TrainingParams) -> Tensor:
    """l of every image at every step under what the denoiser carries now, as a reference's. Float32 [N,T], on the CPU."""
    log_probs = torch.zeros_like(trajectory.log_probs)
    with autocast(denoiser, params):
        for step in trajectory.trainable_steps:
            log_probs[:, step] = log_prob_at(step_mean(denoiser, trajectory, step), trajectory, step).cpu()
    return log_probs


def autocast(denoiser: Denoiser, params: TrainingParams) -> AbstractContextManager[object]:
    """The number format that `params.mixed_precision` asks for."""
    formats = {"bf16": torch.bfloat16, "fp16": torch.float16}
    if params.mixed_precision == "no":
        return nullcontext()
    return torch.autocast(denoiser.device.type, formats[params.mixed_precision])


@torch.no_grad()
def check_ratio_is_one(denoiser: Denoiser, group: TrainingGroup, clip: float) -> float:
    """Prove |l_theta - l_ref| <= tolerance at theta = the policy that sampled, on all steps of one group.

    Computed in the number format that sampled; the tolerance is FLOAT32_TOLERANCE, or the larger of HALF_TOLERANCE and clip/10
    for a model loaded in half precision. Returns the largest difference. Raises BadTrajectory beyond the tolerance.
    """
    trajectory = Trajectory.load(group.path)
    allowed = FLOAT32_TOLERANCE if denoiser.dtype == torch.float32 else max(HALF_TOLERANCE, clip / 10)
    worst = max(log_ratios(denoiser, trajectory, step).abs().max().item() for step in trajectory.trainable_steps)
    if not worst <= allowed:
        raise BadTrajectory(
            f"Recomputing {group.path} with the sampling policy gives log-probabilities that differ by {worst:.1e} "
            f"(allowed {allowed:.0e}); the number format or the library versions changed since it was sampled."
        )
    return worst
