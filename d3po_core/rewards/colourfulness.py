"""Colourfulness after Hasler and Suesstrunk (Measuring colourfulness in natural images, SPIE 2003)."""

from __future__ import annotations

import numpy as np
from PIL import Image


def colourfulness(image: Image.Image) -> float:
    """M = sigma_rgyb + 0.3 mu_rgyb over the opponent axes R-G and (R+G)/2-B of 8-bit RGB. 0 is grey, above 80 vivid."""
    red, green, blue = np.asarray(image.convert("RGB"), dtype=np.float64).transpose(2, 0, 1)
    red_green, yellow_blue = red - green, (red + green) / 2 - blue
    deviation = np.hypot(red_green.std(), yellow_blue.std())
    mean = np.hypot(red_green.mean(), yellow_blue.mean())
    return float(deviation + 0.3 * mean)
