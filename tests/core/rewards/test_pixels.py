"""Scores read the stored pixels: smaller files, more colour and the right background score higher."""

from __future__ import annotations

import numpy as np
import pytest
from PIL import Image

from d3po_core.demo_model.captions import COLOURS
from d3po_core.rewards import load_reward
from d3po_core.rewards.pixels import background, colourfulness, compressibility, jpeg_kilobytes


def noise(seed: int) -> Image.Image:
    return Image.fromarray(np.random.default_rng(seed).integers(0, 256, (64, 64, 3), dtype=np.uint8))


def test_a_flat_image_is_a_smaller_jpeg_than_noise() -> None:
    flat = Image.new("RGB", (64, 64), (90, 120, 200))
    assert jpeg_kilobytes(flat) < jpeg_kilobytes(noise(0))
    assert compressibility(flat) == -jpeg_kilobytes(flat)


def test_grey_has_no_colourfulness() -> None:
    assert colourfulness(Image.new("RGB", (8, 8), (119, 119, 119))) == 0


def test_colourfulness_of_two_flat_halves_is_the_published_formula() -> None:
    image = Image.new("RGB", (2, 1), (255, 0, 0))
    image.putpixel((1, 0), (0, 0, 255))
    # R-G: 255, 0; (R+G)/2-B: 127.5, -255
    deviation = np.hypot(127.5, (127.5 + 255) / 2)
    mean = np.hypot(127.5, (127.5 - 255) / 2)
    assert colourfulness(image) == pytest.approx(deviation + 0.3 * mean)


def test_a_vivid_image_is_more_colourful_than_its_faded_copy() -> None:
    vivid = noise(1)
    faded = Image.blend(vivid, Image.new("RGB", vivid.size, (119, 119, 119)), 0.7)
    assert colourfulness(vivid) > colourfulness(faded)


@pytest.mark.parametrize("asked", COLOURS)
def test_the_named_background_scores_highest_whatever_the_picture_shows(asked: str) -> None:
    def painted(colour: str) -> Image.Image:
        image = Image.new("RGB", (64, 64), COLOURS[colour])
        image.paste((0, 0, 0), (8, 8, 56, 56))
        return image

    prompt = f"a cat face on a {asked} background"
    scores = {colour: background(painted(colour), prompt) for colour in COLOURS}
    assert scores[asked] == 0
    assert all(score < 0 for colour, score in scores.items() if colour != asked)


def test_without_a_named_background_every_image_scores_alike() -> None:
    assert load_reward("background").score([noise(0), noise(1)], ["a cat face"] * 2) == [0.0, 0.0]


def test_the_rewards_by_name_are_these_measures() -> None:
    images, prompts = [noise(0), Image.new("RGB", (64, 64))], ["a cat face on a red background"] * 2
    for name, measure in (("compressibility", compressibility), ("incompressibility", jpeg_kilobytes)):
        assert load_reward(name).score(images, prompts) == [measure(image) for image in images]
    assert load_reward("colourfulness").score(images, prompts) == [colourfulness(image) for image in images]
    assert load_reward("background").score(images, prompts) == [
        background(images[0], prompts[0]),
        background(images[1], prompts[1]),
    ]
