"""A folder as the published code's sampling script leaves it, and votes as its training script reads them. Needs torch."""

from __future__ import annotations

import json
import pickle
from collections.abc import Sequence
from pathlib import Path

import torch

from d3po_core.denoisers import Denoiser, load_denoiser
from d3po_core.params import SamplingParams
from d3po_core.sampling import SampledGroup, sample_groups

SAMPLING = SamplingParams(images_per_prompt=3, num_inference_steps=4, guidance_scale=5.0, eta=1.0, seed=3)
PROMPTS = ["a cat", "two dogs on a hill "]
VOTES = {"Alice": [[1, 0, 0], [0, 0, 1]], "Bob": [[0, -1, 0.25], [0, 0, -1]]}


def drawn(model: Path, prompts: Sequence[str] = PROMPTS) -> tuple[dict[str, torch.Tensor], list[SampledGroup]]:
    """The tensors of a sample.pkl in half precision, and the groups that they are of."""
    denoiser: Denoiser = load_denoiser(model)
    groups = list(sample_groups(denoiser, list(prompts), SAMPLING))
    latents = torch.stack([group.trajectory.latents for group in groups]).half()
    embeds = torch.stack([group.trajectory.conditioning.prompt_embeds.expand(3, -1, -1) for group in groups]).half()
    timesteps = torch.tensor([step.timestep for step in groups[0].trajectory.header.steps])
    # Slices of one tensor, then joined: so the published script makes them.
    before, after = torch.cat([latents[:, :, :-1]]), torch.cat([latents[:, :, 1:]])
    tensors = {"prompt_embeds": embeds, "timesteps": timesteps.repeat(len(groups), 1), "latents": before, "next_latents": after}
    return tensors, groups


def sample_folder(folder: Path, model: Path, votes: dict[str, list[list[float]]] = VOTES) -> Path:
    tensors, groups = drawn(model)
    (folder / "images").mkdir(parents=True)
    for number, image in enumerate(image for group in groups for image in group.images):
        image.save(folder / "images" / f"{number:05}.png")
    (folder / "prompt.json").write_text(json.dumps(PROMPTS))
    with (folder / "sample.pkl").open("wb") as file:
        pickle.dump(tensors, file)
    (folder / "json").mkdir()
    for name, numbers in votes.items():
        (folder / "json" / f"{name}.json").write_text(json.dumps(numbers))
    return folder
