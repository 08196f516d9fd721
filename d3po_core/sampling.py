"""Draw groups of images and record what training needs: the visible loop."""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Iterator
from dataclasses import dataclass

import torch
from PIL import Image
from torch import Tensor

from d3po_core.conditioning import Conditioning, stack
from d3po_core.denoisers import Denoiser
from d3po_core.errors import NotFinite
from d3po_core.params import ChainParams, DuelParams, SamplingParams
from d3po_core.trajectory import Header, Trajectory
from d3po_core.transitions import log_prob

Observe = Callable[[int, int], None]


@dataclass(frozen=True)
class SampledGroup:
    """N images of one prompt, their seeds, and the chain that led to them."""

    position: int
    prompt: str
    images: list[Image.Image]
    seeds: list[int]
    trajectory: Trajectory


def seed_of(*parts: int | str) -> int:
    """A 63-bit seed from the round's seed and a place in the round, the same on every machine."""
    digest = hashlib.sha256(" ".join(map(str, parts)).encode()).digest()
    return int.from_bytes(digest[:8], "big") >> 1


def initial_latents(shape: tuple[int, int, int], *parts: int | str) -> Tensor:
    """x_T, float32 [C,H,W], drawn on the CPU."""
    return torch.randn(shape, generator=torch.Generator().manual_seed(seed_of("x_T", *parts)))


@torch.no_grad()
def denoise(
    denoiser: Denoiser,
    latents: Tensor,
    conditioning: Conditioning,
    seeds: list[int],
    params: ChainParams,
    observe: Observe,
) -> tuple[Tensor, Tensor]:
    """Run the chain for a batch; one CPU generator an image, drawn from in step order.

    latents: x_T [B,C,H,W]. Returns all latents [B,T+1,C,H,W] and log-probabilities float32 [B,T], computed from the
    latents as stored. Raises NotFinite at the first step that yields NaN or infinity.
    """
    transition = denoiser.transition(params)
    generators = [torch.Generator().manual_seed(seed) for seed in seeds]
    chain, log_probs = [latents], []
    for k, step in enumerate(transition.steps):
        steps = [step] * len(latents)
        timesteps = torch.full((len(latents),), step.timestep, device=latents.device)
        mean = transition.mean(denoiser.predict(latents, timesteps, conditioning, params.guidance_scale), latents, steps)
        noise = torch.stack([torch.randn(latents.shape[1:], generator=g) for g in generators])
        latents = (mean + step.sigma * noise.to(mean)).to(denoiser.dtype)
        if not torch.isfinite(latents).all():
            raise NotFinite(f"Sampling gave NaN or infinity at timestep {step.timestep}; try a lower guidance scale or float32.")
        chain.append(latents)
        log_probs.append(log_prob(latents, mean, steps) if step.sigma > 0 else mean.new_zeros(len(latents)))
        observe(k + 1, len(transition.steps))
    return torch.stack(chain, dim=1), torch.stack(log_probs, dim=1)


def sample_groups(
    denoiser: Denoiser,
    prompts: list[str],
    params: SamplingParams,
    first_position: int = 0,
    observe: Observe = lambda done, total: None,
) -> Iterator[SampledGroup]:
    """Draw one group a prompt, all in one batch; group k has the position first_position + k in its round.

    Images of a group share x_T; the noise of image i comes from (params.seed, position, i) alone, so an image does not
    depend on the batch or the worker that drew it. `observe(done, total)` is called after every denoising step.
    """
    if not prompts:
        return
    count = params.images_per_prompt
    positions = range(first_position, first_position + len(prompts))
    encoded = [denoiser.encode(prompt, params) for prompt in prompts]
    conditioning = stack([told for told in encoded for _ in range(count)])
    shape = denoiser.latent_shape(params)
    start = torch.stack([initial_latents(shape, params.seed, p) for p in positions])
    latents = start.repeat_interleave(count, dim=0).to(denoiser.device, denoiser.dtype)
    seeds = [seed_of(params.seed, p, i) for p in positions for i in range(count)]
    chain, log_probs = denoise(denoiser, latents, conditioning, seeds, params, observe)
    images = denoiser.decode(chain[:, -1])
    steps = tuple(denoiser.transition(params).steps)
    for k, (position, prompt) in enumerate(zip(positions, prompts, strict=True)):
        mine = slice(k * count, (k + 1) * count)
        header = Header(
            prompt=prompt,
            position=position,
            params=params,
            steps=steps,
            seeds=tuple(seeds[mine]),
            model=denoiser.model,
            policy=denoiser.policy,
            dtype=str(denoiser.dtype).removeprefix("torch."),
        )
        trajectory = Trajectory(header, chain[mine], log_probs[mine], encoded[k])
        yield SampledGroup(position, prompt, images[mine], seeds[mine], trajectory)


def sample_duel(
    denoiser: Denoiser,
    items: list[tuple[str, int]],
    params: DuelParams,
    observe: Observe = lambda done, total: None,
) -> list[Image.Image]:
    """Draw one image for each (prompt, seed). Two policies given the same items get the same x_T and the same noise."""
    encoded = stack([denoiser.encode(prompt, params) for prompt, _ in items])
    shape = denoiser.latent_shape(params)
    start = torch.stack([initial_latents(shape, prompt, seed) for prompt, seed in items])
    seeds = [seed_of("duel", prompt, seed) for prompt, seed in items]
    chain, _ = denoise(denoiser, start.to(denoiser.device, denoiser.dtype), encoded, seeds, params, observe)
    return denoiser.decode(chain[:, -1])
