"""Prompt sets: named lists of prompts with a held-out part that no round draws from. No torch."""

from __future__ import annotations

import hashlib
import random
from dataclasses import dataclass

from d3po_core.prompts.demo import demo_prompts

HELD_OUT_SHARE = 0.2


@dataclass(frozen=True)
class PromptSet:
    """`prompts` are for sampling and training rounds, `reserved` for duels and held-out scores; they share nothing."""

    name: str
    prompts: tuple[str, ...]
    reserved: tuple[str, ...]

    def draw(self, count: int, seed: int) -> list[str]:
        """`count` prompts, distinct as long as the set lasts; the same seed draws the same ones."""
        return _draw(self.prompts, count, f"{self.name} {seed}")

    def held_out(self, count: int, seed: int) -> list[str]:
        return _draw(self.reserved, count, f"{self.name} held out {seed}")


def _draw(prompts: tuple[str, ...], count: int, seed: str) -> list[str]:
    rng = random.Random(seed)
    drawn: list[str] = []
    while len(drawn) < count:
        drawn += rng.sample(prompts, min(count - len(drawn), len(prompts)))
    return drawn


def _is_reserved(prompt: str) -> bool:
    return hashlib.sha256(prompt.encode()).digest()[0] < 256 * HELD_OUT_SHARE


_SETS = {"demo": demo_prompts}


def names() -> list[str]:
    return sorted(_SETS)


def prompt_set(name: str) -> PromptSet:
    """The prompt set of that name. Raises KeyError with a sentence if there is none."""
    if name not in _SETS:
        raise KeyError(f"There is no prompt set {name!r}; there are {', '.join(names())}.")
    prompts = _SETS[name]()
    kept = tuple(p for p in prompts if not _is_reserved(p))
    return PromptSet(name, kept, tuple(p for p in prompts if _is_reserved(p)))
