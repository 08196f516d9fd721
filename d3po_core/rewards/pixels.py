"""Scores that need nothing but an image's pixels: JPEG size, colourfulness, the demo's background. No torch."""

from __future__ import annotations

from collections.abc import Callable
from io import BytesIO

import numpy as np
from PIL import Image

from d3po_core.demo_model.background import background_of, colour_distance
from d3po_core.rewards.base import Scorer

QUALITY = 95


def jpeg_kilobytes(image: Image.Image) -> float:
    """Size in kB (1,000 bytes) of the image saved as JPEG of quality 95, as DDPO measures it (arXiv 2305.13301)."""
    buffer = BytesIO()
    image.convert("RGB").save(buffer, format="JPEG", quality=QUALITY)
    return buffer.tell() / 1000


def compressibility(image: Image.Image) -> float:
    """Minus the JPEG size in kB: smaller files score higher."""
    return -jpeg_kilobytes(image)


def colourfulness(image: Image.Image) -> float:
    """M = sigma_rgyb + 0.3 mu_rgyb over the opponent axes R-G and (R+G)/2-B of 8-bit RGB. 0 is grey, above 80 vivid.

    Hasler and Suesstrunk, Measuring colourfulness in natural images, SPIE 2003.
    """
    red, green, blue = np.asarray(image.convert("RGB"), dtype=np.float64).transpose(2, 0, 1)
    red_green, yellow_blue = red - green, (red + green) / 2 - blue
    deviation = np.hypot(red_green.std(), yellow_blue.std())
    mean = np.hypot(red_green.mean(), yellow_blue.mean())
    return float(deviation + 0.3 * mean)


def background(image: Image.Image, prompt: str) -> float:
    """Minus the distance, in RGB levels, of the border's colour to the background that the prompt names; 0 if it names none."""
    colour = background_of(prompt)
    return -colour_distance(image, colour) if colour else 0.0


def of_image(measure: Callable[[Image.Image], float]) -> Scorer:
    return lambda images, prompts: [measure(image) for image in images]


def of_image_and_prompt(measure: Callable[[Image.Image, str], float]) -> Scorer:
    return lambda images, prompts: [measure(image, prompt) for image, prompt in zip(images, prompts, strict=True)]


def compressibility_scorer(device: str) -> Scorer:
    return of_image(compressibility)


def incompressibility_scorer(device: str) -> Scorer:
    return of_image(jpeg_kilobytes)


def colourfulness_scorer(device: str) -> Scorer:
    return of_image(colourfulness)


def background_scorer(device: str) -> Scorer:
    return of_image_and_prompt(background)
