"""JPEG compressibility, as DDPO measures it (arXiv 2305.13301): the size of the image as a JPEG of quality 95."""

from __future__ import annotations

from io import BytesIO

from PIL import Image

QUALITY = 95


def jpeg_kilobytes(image: Image.Image) -> float:
    """Size in kB (1,000 bytes) of the image saved as JPEG of quality 95."""
    buffer = BytesIO()
    image.convert("RGB").save(buffer, format="JPEG", quality=QUALITY)
    return buffer.tell() / 1000


def compressibility(image: Image.Image) -> float:
    """Minus the JPEG size in kB: smaller files score higher."""
    return -jpeg_kilobytes(image)
