"""Whatever a scorer answers, a reward gives one finite number an image or says which reward failed and how."""

from __future__ import annotations

import math
from collections.abc import Sequence
from itertools import count
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from PIL import Image

from d3po_core.errors import BadImage, BadParams, BadReward, RewardUnavailable
from d3po_core.rewards import Reward, stored_image


def blank(count: int) -> list[Image.Image]:
    return [Image.new("RGB", (2, 2)) for _ in range(count)]


def answering(answer: Any) -> Reward:
    return Reward("taste", lambda images, prompts: answer)


@pytest.mark.parametrize("answer", [(1, 2.5), torch.tensor([1.0, 2.5]), np.array([1, 2.5]), [np.float32(1), True + 1.5]])
def test_lists_arrays_and_tensors_are_read_as_floats(answer: Any) -> None:
    scores = answering(answer).score(blank(2), ["a", "b"])
    assert scores == [1.0, 2.5]
    assert all(type(score) is float for score in scores)


@pytest.mark.parametrize(
    ("answer", "says"),
    [
        ([1.0, math.nan], "taste answered nan for image 1"),
        ([math.inf, 1.0], "taste answered inf for image 0"),
        (torch.tensor([math.nan, 1.0]), r"taste answered tensor\(nan\) for image 0"),
        ([1.0, -1e101], "taste answered -1e[+]101 for image 1 .* at most 1e100 in size"),
        ([1.0], "taste answered 1 scores for 2 images"),
        ([1.0, 2.0, 3.0], "taste answered 3 scores for 2 images"),
        ([], "taste answered 0 scores for 2 images"),
        (None, "taste answered None for 2 images, not a list of numbers"),
        (0.5, "taste answered 0.5 for 2 images"),
        ([1.0, None], "taste answered None for image 1"),
        (["1.0", "2.0"], "taste answered '1.0' for image 0"),
        ("12", "taste answered '1' for image 0"),
        ([1.0, "x" * 100], r"taste answered 'xxx+\.\.\. for image 1"),
        ([1.0, torch.ones(2)], "taste answered tensor"),
    ],
)
def test_any_other_answer_is_refused_by_name(answer: Any, says: str) -> None:
    with pytest.raises(BadReward, match=says):
        answering(answer).score(blank(2), ["a", "b"])


def test_batches_are_no_larger_than_asked_and_the_order_is_kept() -> None:
    sizes = []

    def count(images: list[Image.Image], prompts: list[str]) -> Sequence[float]:
        sizes.append((len(images), len(prompts)))
        return [float(prompt) for prompt in prompts]

    assert Reward("count", count, batch_size=3).score(blank(7), list("0123456")) == [0, 1, 2, 3, 4, 5, 6]
    assert sizes == [(3, 3), (3, 3), (1, 1)]
    assert Reward("count", count).score([], []) == []


def test_there_is_a_prompt_for_every_image() -> None:
    with pytest.raises(BadParams, match="2 images and 1 prompts"):
        answering([1.0, 2.0]).score(blank(2), ["a"])


def failing(error: Exception) -> Reward:
    def fail(images: list[Image.Image], prompts: list[str]) -> Sequence[float]:
        raise error

    return Reward("taste", fail)


def test_a_scorer_that_fails_is_named_with_its_reason() -> None:
    with pytest.raises(BadReward, match="The reward taste failed on 1 images: ZeroDivisionError: by zero"):
        failing(ZeroDivisionError("by zero")).score(blank(1), ["a"])


def test_a_generator_is_read_as_far_as_there_are_images_and_may_fail_on_its_way() -> None:
    assert answering(iter([1, 2.5])).score(blank(2), ["a", "b"]) == [1.0, 2.5]
    with pytest.raises(BadReward, match="answered 3 scores for 2 images"):
        answering(count()).score(blank(2), ["a", "b"])

    with pytest.raises(BadReward, match="The reward taste failed on 2 images: ZeroDivisionError"):
        answering(1 / number for number in (1, 0)).score(blank(2), ["a", "b"])


def test_what_a_scorer_has_to_say_itself_is_left_alone() -> None:
    with pytest.raises(RewardUnavailable, match="gone"):
        failing(RewardUnavailable("gone")).score(blank(1), ["a"])


def test_a_stored_image_is_read_as_it_was_stored(tmp_path: Path) -> None:
    pixels = np.random.default_rng(0).integers(0, 256, (4, 6, 3), dtype=np.uint8)
    turned = Image.Exif()
    turned[0x0112] = 6  # orientation: viewers turn it by 90 degrees
    Image.fromarray(pixels).save(tmp_path / "a.webp", lossless=True, exif=turned)
    image = stored_image(tmp_path / "a.webp")
    assert image.mode == "RGB"
    assert (np.asarray(image) == pixels).all()


@pytest.mark.parametrize("content", [b"", b"no image", None])
def test_a_file_that_is_no_image_is_named(content: bytes | None, tmp_path: Path) -> None:
    path = tmp_path / "a.png"
    if content is not None:
        path.write_bytes(content)
    with pytest.raises(BadImage, match=r"a\.png is no image that can be read"):
        stored_image(path)


def test_a_truncated_image_is_named(tmp_path: Path) -> None:
    path = tmp_path / "a.png"
    Image.fromarray(np.random.default_rng(0).integers(0, 256, (64, 64, 3), dtype=np.uint8)).save(path)
    path.write_bytes(path.read_bytes()[:4000])
    with pytest.raises(BadImage, match=r"a\.png"):
        stored_image(path)
