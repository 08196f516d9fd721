"""Pictures, and pictures in storage."""

from __future__ import annotations

from PIL import Image

from server.storage import Storage


def picture(colour: str = "red", width: int = 64, height: int = 64) -> Image.Image:
    return Image.new("RGB", (width, height), colour)


def stored_image(storage: Storage, colour: str = "red", width: int = 64, height: int = 64) -> str:
    """The SHA-256 of a picture that lies in `storage`."""
    return storage.put_image(picture(colour, width, height))
