"""Rewards: scores of a stored image, higher is better, that can vote in a person's place.

Importing this package loads no torch and no numpy; a reward's own code is imported when it is loaded.
"""

from importlib import import_module
from typing import Any

from d3po_core.rewards.base import MAX_SCORE, Reward, Scorer, stored_image
from d3po_core.rewards.outcomes import rated
from d3po_core.rewards.params import ChosenReward, NoParams, RewardParams
from d3po_core.rewards.registry import KNOWN, PLUG_INS, is_light, load_reward, names, validated

_MEASURES = ("colourfulness", "compressibility", "jpeg_kilobytes")

__all__ = [
    "KNOWN",
    "MAX_SCORE",
    "PLUG_INS",
    "ChosenReward",
    "NoParams",
    "Reward",
    "RewardParams",
    "Scorer",
    "colourfulness",
    "compressibility",
    "is_light",
    "jpeg_kilobytes",
    "load_reward",
    "names",
    "rated",
    "stored_image",
    "validated",
]  # fmt: skip


def __getattr__(name: str) -> Any:
    if name not in _MEASURES:
        raise AttributeError(f"module 'd3po_core.rewards' has no attribute {name!r}")
    return getattr(import_module("d3po_core.rewards.pixels"), name)
