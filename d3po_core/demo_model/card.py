"""The model card: what the shipped weights were measured to do, and a grid of their samples."""

from __future__ import annotations

import json
from pathlib import Path

import torch
from PIL import Image
from torch import Tensor

from d3po_core.demo_model.captions import COLOURS, caption
from d3po_core.demo_model.compose import compose
from d3po_core.demo_model.emoji import Emoji, is_held_out
from d3po_core.demo_model.judge import background_accuracy, group_spread, load_judge, name_retrieval
from d3po_core.demo_model.vae import random_composites
from d3po_core.denoisers import Denoiser, load_denoiser
from d3po_core.params import DuelParams, SamplingParams
from d3po_core.prompts import prompt_set
from d3po_core.sampling import sample_duel, sample_groups

GRID_PROMPTS = (
    "a cat face", "a smiling face", "a fruit", "a heart on a blue background", "a red apple", "a dog face", "a bird", "a flower",
)  # fmt: skip
GUIDANCE = 5.0


def write_card(folder: Path, emoji: list[Emoji], rgba: Tensor, steps: int) -> None:
    """Measure the pipeline in `folder`; write its README.md, card.json and samples.webp there."""
    denoiser = load_denoiser(folder)
    figures = {"training_steps": steps, **measure(denoiser, folder, emoji, rgba)}
    (folder / "card.json").write_text(json.dumps(figures, indent=2) + "\n", encoding="utf-8")
    grid(denoiser).save(folder / "samples.webp", quality=90)
    (folder / "README.md").write_text(TEXT.format(**figures), encoding="utf-8")


def measure(denoiser: Denoiser, folder: Path, emoji: list[Emoji], rgba: Tensor) -> dict[str, float]:
    """Reconstruction error, accuracy on held-out (emoji, colour) combinations, spread within groups."""
    held_out = [caption(e.name, colour) for e in emoji for colour in COLOURS if is_held_out(e, colour)]
    prompts = held_out[:: max(1, len(held_out) // 96)][:96]
    drawn = sample_duel(denoiser, [(prompt, 0) for prompt in prompts], DuelParams(guidance_scale=GUIDANCE))
    kinds = prompt_set("demo").held_out(64, seed=0)
    drawn_kinds = sample_duel(denoiser, [(prompt, 0) for prompt in kinds], DuelParams(guidance_scale=GUIDANCE))
    composites = random_composites(rgba, 64, torch.Generator().manual_seed(99))
    with torch.no_grad():
        vae = denoiser.pipeline.vae
        rebuilt = vae.decode(vae.encode(composites).latent_dist.mean).sample.clamp(-1, 1)
    params = SamplingParams(images_per_prompt=6, guidance_scale=GUIDANCE)
    groups = list(sample_groups(denoiser, prompt_set("demo").draw(8, seed=1), params))
    return {
        "reconstruction_error": (rebuilt - composites).abs().mean().item() * 127.5,
        "background_accuracy": background_accuracy(drawn, prompts),
        "name_retrieval": name_retrieval(drawn, prompts, folder),
        "prompt_set_retrieval": name_retrieval(drawn_kinds, kinds, folder),
        "judge_on_composites": judge_accuracy(emoji, rgba, folder),
        "spread_within_group": sum(group_spread(g.images) for g in groups) / len(groups),
        "spread_between_groups": group_spread([g.images[0] for g in groups]),
    }


def judge_accuracy(emoji: list[Emoji], rgba: Tensor, folder: Path) -> float:
    """Share of fresh composites whose name the judge gives right: the ceiling of name_retrieval."""
    colour = torch.arange(len(emoji)) % len(COLOURS)
    images = compose(rgba, colour, torch.Generator().manual_seed(98))
    model, _ = load_judge(folder)
    with torch.no_grad():
        return (model(images).argmax(dim=1) == torch.arange(len(emoji))).float().mean().item()


def grid(denoiser: Denoiser) -> Image.Image:
    """Eight prompts, six images each, one prompt a row."""
    groups = list(sample_groups(denoiser, list(GRID_PROMPTS), SamplingParams(images_per_prompt=6, guidance_scale=GUIDANCE)))
    return tile([image for group in groups for image in group.images], columns=6)


def tile(images: list[Image.Image], columns: int, scale: int = 2, gap: int = 4) -> Image.Image:
    """Images in rows of `columns`, enlarged, on mid-grey."""
    width, height = images[0].width * scale, images[0].height * scale
    rows = -(-len(images) // columns)
    sheet = Image.new("RGB", (columns * (width + gap) + gap, rows * (height + gap) + gap), (119, 119, 119))
    for k, image in enumerate(images):
        place = gap + (k % columns) * (width + gap), gap + (k // columns) * (height + gap)
        sheet.paste(image.resize((width, height), Image.Resampling.BICUBIC), place)
    return sheet


TEXT = """# The embedded demo model

A small latent text-to-image diffusion model of emoji, in the layout of Stable Diffusion 1.5 (CLIP text encoder, U-Net,
autoencoder, DDIM scheduler), 64 x 64 pixels, fp16 safetensors. It exists so that the whole loop can be seen without a
GPU and without a network. Its flaws are its purpose: distorted faces, weak alignment, wrong details are what people
vote on. It is of no other use.

![six images a prompt](samples.webp)

One prompt a row, six images each, guidance 5, 20 steps: {prompts}.

| measured by `card.py` when these weights were written | |
|---|---|
| U-Net and text encoder steps (batch 32) | {training_steps} |
| reconstruction error of the autoencoder (mean absolute, 0..255) | {reconstruction_error:.1f} |
| background colour right, held-out combinations of name and colour | {background_accuracy:.0%} |
| name retrieved among 181, held-out combinations of name and colour | {name_retrieval:.0%} |
| name, kind or family retrieved, held-out prompts of the demo prompt set | {prompt_set_retrieval:.0%} |
| the judge itself on clean composites (the ceiling of the two above) | {judge_on_composites:.0%} |
| spread within a group (mean absolute pixel difference, 0..255) | {spread_within_group:.0f} |
| spread between different prompts | {spread_between_groups:.0f} |

## Data and licences

Images: Noto Emoji by Google, Apache License 2.0, taken from the npm package emoji-datasource-google 16.0.0 (its data:
MIT, Cal Henderson), moved, turned, mirrored and scaled over eight background colours with patterns. The autoencoder saw
438 emoji of the categories Animals & Nature, Food & Drink and Smileys & Emotion; judge, text encoder and U-Net the 181 of
them that a person can name at this size. Captions name the emoji, its kind or its family, and the background in every
second case; 10 % of the combinations of emoji and colour are held out. The weights are under the licence of this
repository.

## Rebuild

`make demo-model` trains everything again: autoencoder, decoder, judge, then text encoder and U-Net together. Two to
three hours on two CPU cores; it may be stopped and goes on where it was.
""".replace("{prompts}", "; ".join(GRID_PROMPTS))
