"""Measures of what an image shows, made for the embedded model: which name, which background colour.

`name_retrieval` is the share of images in which the retriever sees what the prompt named: the emoji itself, any of the
kind, or any of the family. It needs no prompt the model was trained on, only phrases of captions.py.
"""

from __future__ import annotations

from functools import cache
from pathlib import Path

import numpy as np
import torch
from PIL import Image
from safetensors import safe_open
from torch import Tensor

from d3po_core.demo_model import WEIGHTS
from d3po_core.demo_model.background import background_of, seen_background
from d3po_core.demo_model.retriever import FILE, Retriever


def pixels(images: list[Image.Image]) -> Tensor:
    """RGB images of one size to float32 [B,3,H,W] in -1..1."""
    stack = np.stack([np.asarray(image.convert("RGB"), dtype=np.float32) for image in images])
    return torch.from_numpy(stack).permute(0, 3, 1, 2) / 127.5 - 1


@cache
def load_judge(folder: Path = WEIGHTS) -> tuple[Retriever, list[tuple[str, ...]]]:
    """The shipped retriever and, for every class, its three phrases."""
    with safe_open(folder / FILE, framework="pt") as file:
        labels = [tuple(line.split("|")) for line in file.metadata()["labels"].split("\n")]
        state = {key: file.get_tensor(key) for key in file.keys()}  # noqa: SIM118
    model = Retriever(len(labels))
    model.load_state_dict({key: value.float() if value.is_floating_point() else value for key, value in state.items()})
    return model.eval().requires_grad_(False), labels


def phrase_of(prompt: str) -> str:
    """The prompt without its background."""
    return prompt.split(" on a ")[0].split(" on an ")[0]


@torch.no_grad()
def shows_what_was_asked(images: list[Image.Image], prompts: list[str], folder: Path = WEIGHTS) -> list[bool]:
    """For each image, whether the most probable phrase of the prompt's level (name, kind or family) is the prompt's.

    Raises ValueError for a prompt whose phrase no emoji carries.
    """
    model, labels = load_judge(folder)
    probabilities = model(pixels(images)).softmax(dim=1)
    verdicts = []
    for row, prompt in zip(probabilities, prompts, strict=True):
        phrase = phrase_of(prompt)
        level = next((k for k in range(3) for label in labels if label[k] == phrase), None)
        if level is None:
            raise ValueError(f"No picture is called {phrase!r}; name retrieval needs prompts of the demo prompt set.")
        score: dict[str, float] = {}
        for label, probability in zip(labels, row.tolist(), strict=True):
            score[label[level]] = score.get(label[level], 0.0) + probability
        verdicts.append(max(score, key=lambda name: score[name]) == phrase)
    return verdicts


def name_retrieval(images: list[Image.Image], prompts: list[str], folder: Path = WEIGHTS) -> float:
    """Share of images that show what their prompt names, 0..1."""
    verdicts = shows_what_was_asked(images, prompts, folder)
    return sum(verdicts) / len(verdicts)


def background_accuracy(images: list[Image.Image], prompts: list[str]) -> float:
    """Share of images, among prompts that name a background, whose border has the named colour."""
    asked = [(image, background_of(prompt)) for image, prompt in zip(images, prompts, strict=True)]
    verdicts = [seen_background(image) == colour for image, colour in asked if colour is not None]
    return sum(verdicts) / len(verdicts)


def group_spread(images: list[Image.Image]) -> float:
    """How much the images of one group differ: mean absolute pixel difference over all pairs, 0..255."""
    array = (pixels(images) + 1) * 127.5
    count = len(images)
    differences = [(array[i] - array[j]).abs().mean().item() for i in range(count) for j in range(i + 1, count)]
    return sum(differences) / len(differences)
