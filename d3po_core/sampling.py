"""Draw groups of images and record what training needs: the visible loop."""

from __future__ import annotations

import hashlib
from collections import deque
from collections.abc import Callable, Iterator
from dataclasses import dataclass

import torch
from PIL import Image
from torch import Tensor

from d3po_core.conditioning import Conditioning, stack
from d3po_core.denoisers import Denoiser
from d3po_core.errors import BadTrajectory, NotFinite, NotReproduced
from d3po_core.params import ChainParams, DuelParams, SamplingParams
from d3po_core.trajectory import Header, Trajectory
from d3po_core.transfer import Reading, to_device
from d3po_core.transitions import Step, log_prob

Observe = Callable[[int, int], None]
TOLERANCE = {"float32": 1e-4, "float16": 1e-2, "bfloat16": 1e-2}
QUEUED = {"cuda": 1}
"""Steps that a kind of device has before it while the host looks at an earlier one, so that it never waits for the host."""


@dataclass(frozen=True)
class SampledGroup:
    """N images of one prompt (RGB, 8 bits a channel), the seed of each one's noise, and the chain that led to them.

    `position` is the group's place in its round, from which its x_T follows.
    """

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
    latents as stored. Raises NotFinite, naming the first step that yielded NaN or infinity; an accelerator has begun the next
    one by then.
    """
    transition = denoiser.transition(params)
    generators = [torch.Generator().manual_seed(seed) for seed in seeds]
    chain, log_probs = [latents], list[Tensor]()
    unread = deque[tuple[Step, Reading]]()

    def settle() -> None:
        step, finite = unread.popleft()
        if not finite.get():
            raise NotFinite(f"Sampling gave NaN or infinity at timestep {step.timestep}; try a lower guidance scale or float32.")
        observe(len(log_probs) - len(unread), len(transition.steps))

    for step in transition.steps:
        steps = [step] * len(latents)
        timesteps = torch.full((len(latents),), step.timestep, device=latents.device)
        output = denoiser.predict(latents, timesteps, conditioning, params.guidance_scale)
        noise = torch.stack([torch.randn(latents.shape[1:], generator=g) for g in generators])  # while the device predicts
        mean = transition.mean(output, latents, steps)
        latents = (mean + step.sigma * to_device(noise, mean.device).to(mean)).to(denoiser.dtype)
        chain.append(latents)
        log_probs.append(log_prob(latents, mean, steps) if step.sigma > 0 else mean.new_zeros(len(latents)))
        unread.append((step, Reading(torch.isfinite(latents).all())))
        if len(unread) > QUEUED.get(latents.device.type, 0):
            settle()
    while unread:
        settle()
    return torch.stack(chain, dim=1), torch.stack(log_probs, dim=1)


def sample_groups(
    denoiser: Denoiser,
    prompts: list[str],
    params: SamplingParams,
    first_position: int = 0,
    observe: Observe = lambda done, total: None,
) -> Iterator[SampledGroup]:
    """Draw one group a prompt, all in one batch; group k has the position first_position + k in its round.

    Images of a group share x_T; the noise of image i comes from (params.seed, position, i) alone, so an image depends
    neither on the order nor on the worker that drew it, nor, within 1e-4 of a float32 chain, on the batch. For the U-Net
    families a plain pipeline call with the same latents, eta and one such generator an image draws it too; for flow matching
    see denoisers/flow_matching.py. `observe(done, total)` is called after every denoising step.

    A group's trajectory holds latents [N,T+1,C,H,W] in the model's dtype and log_probs float32 [N,T], in nats a latent dimension
    (the formula is in transitions.py); its tensors are on the model's device until they are saved. Raises BadParams for a size,
    a number of steps or an eta that the model cannot take, NotFinite if a step gives NaN or infinity.
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
            dtype=_name(denoiser.dtype),
            batch_size=len(seeds),
        )
        trajectory = Trajectory(header, chain[mine], log_probs[mine], encoded[k])
        yield SampledGroup(position, prompt, images[mine], seeds[mine], trajectory)


def rebuild(denoiser: Denoiser, header: Header, index: int) -> tuple[Image.Image, Tensor]:
    """Draw image `index` of a group again from its header alone. Returns the image and its latents [T+1,C,H,W].

    In float32 the image is drawn by itself; a half-precision chain depends on the batch's shape, so it is drawn in a batch
    as large as the group's was. Raises BadTrajectory if the group has no such image, or if the model, adapter, number
    format or scheduler that drew it is not the one loaded.
    """
    count = len(header.seeds)
    if not 0 <= index < count:
        raise BadTrajectory(f"The group for {header.prompt!r} has images 0 to {count - 1}; there is no image {index}.")
    _check_drawn_by(denoiser, header)
    rows = [index] if header.dtype == "float32" else [i % count for i in range(header.batch_size)]
    start = initial_latents(denoiser.latent_shape(header.params), header.params.seed, header.position)
    latents = start.expand(len(rows), *start.shape).to(denoiser.device, denoiser.dtype)
    conditioning = denoiser.encode(header.prompt, header.params).expand(len(rows))
    seeds = [header.seeds[i] for i in rows]
    chain, _ = denoise(denoiser, latents, conditioning, seeds, header.params, lambda done, total: None)
    mine = chain[rows.index(index)]
    return denoiser.decode(mine[-1:])[0], mine


def verify(denoiser: Denoiser, trajectory: Trajectory, index: int) -> Image.Image:
    """Draw image `index` of a stored group again (`rebuild`) and check every latent against the stored one; return the image.

    They may differ by TOLERANCE of the chain's number format. Raises NotReproduced beyond it, else as `rebuild`.
    """
    image, latents = rebuild(denoiser, trajectory.header, index)
    stored = trajectory.latents[index].to(latents)
    apart = (latents - stored).abs().max().item()
    if not apart <= TOLERANCE[trajectory.header.dtype]:
        raise NotReproduced(
            f"Image {index} of the group for {trajectory.header.prompt!r} was drawn again and its latents differ by up to "
            f"{apart:.1e} from the stored ones (allowed {TOLERANCE[trajectory.header.dtype]:.0e})."
        )
    return image


def _check_drawn_by(denoiser: Denoiser, header: Header) -> None:
    loaded = {
        "base model": (header.model, denoiser.model),
        "adapter": (header.policy, denoiser.policy),
        "number format": (header.dtype, _name(denoiser.dtype)),
        "scheduler": (header.steps, tuple(denoiser.transition(header.params).steps)),
    }
    for name, (recorded, here) in loaded.items():
        if recorded != here:
            raise BadTrajectory(f"The group for {header.prompt!r} was sampled with another {name} than the one loaded.")


def _name(dtype: torch.dtype) -> str:
    return str(dtype).removeprefix("torch.")


def sample_duel(
    denoiser: Denoiser,
    items: list[tuple[str, int]],
    params: DuelParams,
    observe: Observe = lambda done, total: None,
) -> list[Image.Image]:
    """Draw one image for each (prompt, seed), all in one batch; RGB, of the height and width in pixels that `params` ask for.

    Two policies given the same items get the same x_T and the same noise. Raises as `sample_groups`.
    """
    encoded = stack([denoiser.encode(prompt, params) for prompt, _ in items])
    shape = denoiser.latent_shape(params)
    start = torch.stack([initial_latents(shape, prompt, seed) for prompt, seed in items])
    seeds = [seed_of("duel", prompt, seed) for prompt, seed in items]
    chain, _ = denoise(denoiser, start.to(denoiser.device, denoiser.dtype), encoded, seeds, params, observe)
    return denoiser.decode(chain[:, -1])
