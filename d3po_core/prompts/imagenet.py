"""Names of the 1,000 classes of ILSVRC 2012 in their order: the first noun of each class in WordNet 3.0 (NOTICE). No torch."""

from __future__ import annotations

from pathlib import Path

FILE = Path(__file__).parent / "imagenet.txt"
ANIMALS = 398
"""The first classes are animals, from the tench to the puffer."""


def imagenet() -> list[str]:
    """998 names: a crane is a bird and a machine, a maillot two garments."""
    return list(dict.fromkeys(FILE.read_text(encoding="utf-8").splitlines()))


def imagenet_animals() -> list[str]:
    return FILE.read_text(encoding="utf-8").splitlines()[:ANIMALS]
