"""What a reward is: a scorer under its name, called in batches, whose answers are checked. No torch."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field
from itertools import islice
from pathlib import Path
from typing import Any

from PIL import Image

from d3po_core.errors import BadImage, BadParams, BadReward, CoreError

MAX_SCORE = 1e100
"""Sums of so large scores, and of their squares, are still numbers."""
Scorer = Callable[[list[Image.Image], list[str]], Sequence[float]]
"""A batch of images and their prompts -> one number an image, higher is better. A tensor or an array of [N] will do."""


@dataclass(frozen=True)
class Reward:
    """A scorer by its name. `score` gives finite numbers, one an image, or says which reward failed and how."""

    name: str
    scorer: Scorer = field(repr=False)
    batch_size: int = 16

    def score(self, images: Sequence[Image.Image], prompts: Sequence[str]) -> list[float]:
        """One float an image, higher is better, whatever the size of the batches.

        Raises BadParams unless there is one prompt an image; BadReward if the scorer fails or answers anything but finite
        numbers, one an image; and what a scorer itself has to say (RewardUnavailable, ModelMissing, ...).
        """
        if len(images) != len(prompts):
            raise BadParams(f"There are {len(images)} images and {len(prompts)} prompts; a reward needs one prompt an image.")
        scores: list[float] = []
        for first in range(0, len(images), self.batch_size):
            batch = slice(first, first + self.batch_size)
            scores += self._batch(list(images[batch]), list(prompts[batch]))
        return scores

    def _batch(self, images: list[Image.Image], prompts: list[str]) -> list[float]:
        try:
            answer: Any = self.scorer(images, prompts)
            if isinstance(answer, Iterator):  # it may fail on its way, or never end
                answer = list(islice(answer, len(images) + 1))
        except CoreError:
            raise
        except Exception as error:
            raise BadReward(f"The reward {self.name} failed on {len(images)} images: {type(error).__name__}: {error}") from error
        return checked(self.name, answer, len(images))


def checked(name: str, answer: Any, count: int) -> list[float]:
    """The answer of a scorer as `count` finite floats. Raises BadReward, naming the scorer and the first fault."""
    try:
        values = list(answer)
    except TypeError as error:
        raise BadReward(f"The reward {name} answered {_shown(answer)} for {count} images, not a list of numbers.") from error
    if len(values) != count:
        raise BadReward(f"The reward {name} answered {len(values)} scores for {count} images.")
    return [_finite(name, position, value) for position, value in enumerate(values)]


def _finite(name: str, position: int, value: Any) -> float:
    try:
        number = math.nan if isinstance(value, str | bytes) else float(value)
    except (TypeError, ValueError, OverflowError):
        number = math.nan
    if not abs(number) <= MAX_SCORE:  # neither is NaN
        raise BadReward(
            f"The reward {name} answered {_shown(value)} for image {position} of its batch; scores are finite numbers, at most "
            "1e100 in size."
        )
    return number


def _shown(value: Any) -> str:
    text = repr(value)
    return text if len(text) <= 60 else f"{text[:57]}..."


def stored_image(path: Path) -> Image.Image:
    """An image file's own pixels as RGB: nothing turned, scaled or managed for colour. Raises BadImage if it is none."""
    try:
        with Image.open(path) as image:
            return image.convert("RGB")
    except (OSError, SyntaxError, ValueError, Image.DecompressionBombError) as error:
        raise BadImage(f"{path} is no image that can be read: {error}") from error
