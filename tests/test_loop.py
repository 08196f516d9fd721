"""The scripted annotator of `make loop` votes as it prefers; the loop itself is run by `make loop`."""

from __future__ import annotations

from typing import Any

from PIL import Image

from benchmarks.loop import decider


class Shown:
    """Serves grey images whose brightness is the number in their url."""

    def image(self, url: str) -> Image.Image:
        return Image.new("RGB", (4, 4), (int(url),) * 3)


def brightness(image: Image.Image) -> float:
    return float(image.getpixel((0, 0))[0])  # type: ignore[index]


def task(*shades: int) -> dict[str, Any]:
    return {"images": [{"id": f"image-{shade}", "url": str(shade)} for shade in shades]}


def test_a_group_is_ranked_best_first() -> None:
    ballot = decider(Shown(), brightness)(task(20, 200, 90))  # type: ignore[arg-type]
    assert ballot == {"outcome": "ranking", "ranking": ["image-200", "image-90", "image-20"]}


def test_of_two_the_better_one_is_picked() -> None:
    ballot = decider(Shown(), brightness)(task(20, 90))  # type: ignore[arg-type]
    assert ballot == {"outcome": "best", "best_image_id": "image-90"}


def test_equal_images_are_a_tie() -> None:
    assert decider(Shown(), brightness)(task(50, 50)) == {"outcome": "tie"}  # type: ignore[arg-type]
