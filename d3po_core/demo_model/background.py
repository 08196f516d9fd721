"""Which background an image of the embedded model has, and which one its prompt asked for. No torch."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from d3po_core.demo_model.captions import COLOURS

BORDER = 5


def background_of(prompt: str) -> str | None:
    """The background colour that the prompt names, or None."""
    return next((colour for colour in COLOURS if prompt.endswith(f" {colour} background")), None)


def border_colour(image: Image.Image) -> NDArray[np.float32]:
    """Median colour of the image's border, 5 pixels wide: float32 [3], RGB 0..255."""
    array = np.asarray(image.convert("RGB"), dtype=np.float32)
    frame = np.ones(array.shape[:2], dtype=bool)
    frame[BORDER:-BORDER, BORDER:-BORDER] = False
    return np.median(array[frame], axis=0)


def colour_distance(image: Image.Image, colour: str) -> float:
    """Euclidean distance between the border's colour and a named background, in RGB levels: 0 to 442."""
    return float(np.linalg.norm(border_colour(image) - np.asarray(COLOURS[colour], dtype=np.float32)))


def seen_background(image: Image.Image) -> str:
    """The named colour nearest to the median colour of the image's border."""
    return min(COLOURS, key=lambda name: colour_distance(image, name))
