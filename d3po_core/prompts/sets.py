"""A prompt set: prompts with weights, and a held-out part that no round draws from. No torch."""

from __future__ import annotations

import hashlib
import random
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field

from d3po_core.errors import BadPrompts
from d3po_core.params import MAX_PROMPT_CHARACTERS

HELD_OUT_SHARE = 0.2
MAX_PROMPTS = 10_000
"""Prompts of a set."""
MAX_WEIGHT = 1e9


@dataclass(frozen=True)
class PromptSet:
    """`prompts` are for sampling and training rounds, `reserved` for duels and held-out scores; they share nothing.

    weights: how often a prompt is drawn beside one of weight 1, for those of another weight.
    """

    name: str
    prompts: tuple[str, ...]
    reserved: tuple[str, ...]
    weights: Mapping[str, float] = field(default_factory=dict)

    def draw(self, count: int, seed: int) -> list[str]:
        """`count` prompts; the same seed draws the same ones.

        Without weights they are distinct as long as the set lasts; with weights each draw is independent of the others.
        """
        return self._draw(self.prompts, count, f"{self.name} {seed}")

    def held_out(self, count: int, seed: int) -> list[str]:
        """The same from the held-out part. A set of one prompt has none: there only noise is unseen, and it is drawn itself."""
        return self._draw(self.reserved or self.prompts, count, f"{self.name} held out {seed}")

    def _draw(self, prompts: tuple[str, ...], count: int, seed: str) -> list[str]:
        rng = random.Random(seed)
        if self.weights:
            return rng.choices(prompts, [self.weights.get(prompt, 1.0) for prompt in prompts], k=count)
        drawn: list[str] = []
        while len(drawn) < count:
            drawn += rng.sample(prompts, min(count - len(drawn), len(prompts)))
        return drawn


def new_set(name: str, prompts: Iterable[str] | Mapping[str, float], held_out_share: float = HELD_OUT_SHARE) -> PromptSet:
    """The prompts, a fixed share of them held out: which ones depends on their text alone, not on their order or number.

    prompts: each once, or with weights above 0, at most MAX_WEIGHT. Of two prompts or more at least one is held out and one
    is not. Raises BadPrompts for none, for more than 10,000, for an empty or overlong one, for a weight that is none, and for
    a share outside 0..1.
    """
    weights = dict(prompts) if isinstance(prompts, Mapping) else dict.fromkeys(prompts, 1.0)
    _check(name, weights, held_out_share)
    by_hash = sorted(weights, key=_place)
    reserved = {prompt for prompt in by_hash if _place(prompt) < held_out_share}
    reserved = (reserved | {by_hash[0]}) - {by_hash[-1]} if len(by_hash) > 1 else set()
    unequal = {prompt: weight for prompt, weight in weights.items() if weight != 1}
    return PromptSet(name, tuple(p for p in weights if p not in reserved), tuple(p for p in weights if p in reserved), unequal)


def _place(prompt: str) -> float:
    """0 to 255/256, uniform over prompts."""
    return hashlib.sha256(prompt.encode()).digest()[0] / 256


def _check(name: str, weights: Mapping[str, float], held_out_share: float) -> None:
    if not weights:
        raise BadPrompts(f"The prompt set {name} has no prompts.")
    if len(weights) > MAX_PROMPTS:
        raise BadPrompts(f"The prompt set {name} has {len(weights):,} prompts; at most {MAX_PROMPTS:,} are taken.")
    if not 0 < held_out_share < 1:
        raise BadPrompts(f"The share of held-out prompts is {held_out_share}; it must lie between 0 and 1.")
    for prompt, weight in weights.items():
        if not prompt.strip():
            raise BadPrompts(f"The prompt set {name} has an empty prompt.")
        if len(prompt) > MAX_PROMPT_CHARACTERS:
            raise BadPrompts(
                f"The prompt set {name} has a prompt of {len(prompt):,} characters, {prompt[:40]!r}...; "
                f"at most {MAX_PROMPT_CHARACTERS:,} are taken."
            )
        if not 0 < weight <= MAX_WEIGHT:  # neither is NaN
            raise BadPrompts(f"The weight of the prompt {prompt[:40]!r} is {weight}; it must be above 0, and at most 1e9.")
