"""The published code's sample.pkl (yk7333/d3po), both ways: groups of it as trajectories, and trajectories as such a file.

    prompt_embeds [G,N,L,D] · timesteps [G,T] int64 · latents, next_latents [G,N,T,C,H,W]

Its half-precision numbers fit the model's float32 exactly, so they come back value for value. What it does not say has to be
told (eta, guidance scale, base model) or computed: the log-probabilities and the empty prompt's embedding, by the base model.
Its seeds are lost, so no image of it can be drawn again; they are 0.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

import torch
from torch import Tensor

from d3po_core.conditioning import Conditioning
from d3po_core.denoisers import Denoiser
from d3po_core.errors import BadSamples
from d3po_core.files import written_whole
from d3po_core.params import SamplingParams, TrainingParams
from d3po_core.pickled import Stream, dump_tensors, load_tensors
from d3po_core.ratios import all_log_probs
from d3po_core.trajectory import Header, Trajectory, file_sha256

FORMATS = (torch.float16, torch.bfloat16, torch.float32)
NAMES = {"prompt_embeds": 4, "timesteps": 2, "latents": 6, "next_latents": 6}


@dataclass(frozen=True)
class Samples:
    """A sample.pkl, mapped: nothing of a group is in memory before it is asked for."""

    path: Path
    prompt_embeds: Tensor
    timesteps: Tensor
    latents: Tensor
    next_latents: Tensor

    def chain(self, group: int) -> Tensor:
        """The latents before every step and after the last, [N,T+1,C,H,W]; next_latents must be latents one step on."""
        before, after = self.latents[group], self.next_latents[group]
        apart = (before[:, 1:] != after[:, :-1]).flatten(2).any(dim=2)
        if apart.any():
            image, step = apart.nonzero()[0].tolist()
            raise BadSamples(
                f"{self.path}: in group {group}, image {image}, next_latents of step {step} is not latents of step {step + 1}."
            )
        return self._finite("latents", group, torch.cat([before, after[:, -1:]], dim=1))

    def embedding(self, group: int) -> Tensor:
        """What all images of a group were drawn from, [L,D]."""
        embeds = self._finite("prompt_embeds", group, self.prompt_embeds[group])
        if not torch.equal(embeds, embeds[:1].expand_as(embeds)):
            raise BadSamples(f"{self.path}: the images of group {group} have different prompt_embeds, so different prompts.")
        return embeds[0].clone()

    def _finite(self, name: str, group: int, tensor: Tensor) -> Tensor:
        bad = ~torch.isfinite(tensor).flatten(1).all(dim=1)
        if bad.any():
            raise BadSamples(f"{self.path} holds NaN or infinity in {name} of group {group}, image {int(bad.nonzero()[0])}.")
        return tensor


def read_samples(path: Path) -> Samples:
    """Map a sample.pkl and check its shapes. Raises BadSamples naming the file and the fault."""
    found = load_tensors(path)
    if found.keys() != NAMES.keys():
        raise BadSamples(f"{path} should hold {', '.join(NAMES)}; it holds {', '.join(map(str, found)) or 'nothing'}.")
    samples = Samples(path, **found)
    groups, images, steps = samples.latents.shape[:3] if samples.latents.ndim == 6 else (0, 0, 0)
    fits = (
        all(found[name].ndim == dimensions for name, dimensions in NAMES.items())
        and samples.next_latents.shape == samples.latents.shape
        and samples.next_latents.dtype == samples.latents.dtype
        and samples.timesteps.shape == (groups, steps)
        and samples.prompt_embeds.shape[:2] == (groups, images)
        and samples.timesteps.dtype == torch.int64
        and samples.latents.dtype in FORMATS
        and samples.prompt_embeds.dtype in FORMATS
        and samples.latents.numel() > 0
    )
    if not fits:
        shapes = ", ".join(f"{name} {tensor.dtype} {list(tensor.shape)}" for name, tensor in found.items())
        raise BadSamples(f"The shapes or number formats in {path} do not go together: {shapes}.")
    return samples


def check_fits(samples: Samples, groups: int, params: SamplingParams, denoiser: Denoiser) -> None:
    """BadSamples unless the file holds so many groups, drawn as `params` say by a model like the loaded one."""
    path, (held, images, steps) = samples.path, samples.latents.shape[:3]
    if (held, images, steps) != (groups, params.images_per_prompt, params.num_inference_steps):
        raise BadSamples(
            f"{path} holds {held} groups of {images} images in {steps} steps; "
            f"expected are {groups} of {params.images_per_prompt} in {params.num_inference_steps}."
        )
    told = denoiser.encode("", params)
    if told.tensors().keys() != {"prompt_embeds", "negative_prompt_embeds"}:
        raise BadSamples(
            f"{path} has no place for what the base model is told beside the prompt; take a Stable Diffusion 1 or 2."
        )
    here = {"latents": denoiser.latent_shape(params), "prompt_embeds": tuple(told.prompt_embeds.shape)}
    there = {"latents": tuple(samples.latents.shape[3:]), "prompt_embeds": tuple(samples.prompt_embeds.shape[2:])}
    for name, shape in there.items():
        if shape != here[name]:
            raise BadSamples(f"{path} holds {name} of {list(shape)} an image, and the base model's are {list(here[name])}.")
    taken = [step.timestep for step in denoiser.transition(params).steps]
    for group, timesteps in enumerate(samples.timesteps.tolist()):
        if timesteps != taken:
            raise BadSamples(f"{path}: group {group} took the timesteps {timesteps}, and the base model's are {taken}.")


def trajectory_of(samples: Samples, group: int, prompt: str, params: SamplingParams, denoiser: Denoiser) -> Trajectory:
    """A group as training takes it, but for its log-probabilities, which are 0 until `with_log_probs`."""
    images, steps = params.images_per_prompt, tuple(denoiser.transition(params).steps)
    negative = denoiser.encode("", params).negative_prompt_embeds
    header = Header(
        prompt=prompt, position=group, params=params, steps=steps, seeds=(0,) * images, model=denoiser.model,
        policy=denoiser.policy, dtype=str(denoiser.dtype).removeprefix("torch."), batch_size=images,
    )  # fmt: skip
    latents = samples.chain(group).to(denoiser.dtype)
    told = Conditioning(samples.embedding(group).to(denoiser.dtype), None if negative is None else negative.cpu())
    return Trajectory(header, latents, torch.zeros(images, len(steps)), told)


def with_log_probs(trajectory: Trajectory, denoiser: Denoiser) -> Trajectory:
    """l_ref from the stored latents, by what the denoiser carries: one evaluation an image and step, the first shared."""
    log_probs = all_log_probs(denoiser, trajectory, TrainingParams())
    return Trajectory(trajectory.header, trajectory.latents, log_probs, trajectory.conditioning)


def stored(samples: Samples, group: int, prompt: str, params: SamplingParams, denoiser: Denoiser, path: Path) -> str:
    """Write a group's trajectory; one that a killed import left is taken as it is. Returns its SHA-256.

    Raises BadSamples where the file that is there holds anything else: nothing is written over it.
    """
    wanted = trajectory_of(samples, group, prompt, params, denoiser)
    if not path.exists():
        return with_log_probs(wanted, denoiser).save(path)
    there = Trajectory.load(path)
    same = there.header == wanted.header and torch.equal(there.latents, wanted.latents)
    if not same or not torch.equal(there.conditioning.prompt_embeds, wanted.conditioning.prompt_embeds):
        raise BadSamples(f"{path} is there already and holds something else than group {group}; it stays. Take another name.")
    return file_sha256(path)


def write_samples(path: Path, groups: Sequence[tuple[Path, str | None]]) -> None:
    """Write a sample.pkl of the trajectories (file, SHA-256 or None), group by group.

    Numbers are float16 where every one of them is exactly that, else float32. Raises BadTrajectory for a damaged file,
    BadSamples where groups differ in size or hold what the format has no place for.
    """
    first = Trajectory.load(*groups[0])
    halves = {"latents": True, "prompt_embeds": True}
    for file, sha256 in groups:
        trajectory = Trajectory.load(file, sha256)
        _check_place(trajectory, first, file)
        for name in halves:
            tensor = trajectory.tensors()[name]
            halves[name] = halves[name] and torch.equal(tensor.half().to(tensor.dtype), tensor)
    dtypes = {name: torch.float16 if half else torch.float32 for name, half in halves.items()}
    images, count = first.latents.shape[:2]
    steps, shape = count - 1, tuple(first.latents.shape[2:])

    def stream(dtype: torch.dtype, of_group: tuple[int, ...], part: Callable[[Trajectory], Tensor]) -> Stream:
        def parts() -> Iterator[Tensor]:
            for file, _ in groups:
                yield part(Trajectory.load(file))

        return Stream(dtype, (len(groups), *of_group), parts)

    told = tuple(first.conditioning.prompt_embeds.shape)
    tensors = {
        "prompt_embeds": stream(
            dtypes["prompt_embeds"], (images, *told), lambda one: one.conditioning.prompt_embeds.expand(images, *told)
        ),
        "timesteps": stream(torch.int64, (steps,), lambda one: torch.tensor([int(step.timestep) for step in one.header.steps])),
        "latents": stream(dtypes["latents"], (images, steps, *shape), lambda one: one.latents[:, :-1]),
        "next_latents": stream(dtypes["latents"], (images, steps, *shape), lambda one: one.latents[:, 1:]),
    }
    with written_whole(path) as written:
        dump_tensors(written, tensors)


def _check_place(trajectory: Trajectory, first: Trajectory, file: Path) -> None:
    if trajectory.conditioning.tensors().keys() - {"prompt_embeds", "negative_prompt_embeds"}:
        raise BadSamples(f"{file} holds more than a prompt's embedding, which the published format has no place for.")
    for name, tensor in (("latents", first.latents), ("prompt_embeds", first.conditioning.prompt_embeds)):
        here = trajectory.tensors()[name]
        if here.shape != tensor.shape:
            raise BadSamples(
                f"{file} holds {name} {list(here.shape)} and the first group {list(tensor.shape)}; "
                "the published format takes groups of one size only."
            )
