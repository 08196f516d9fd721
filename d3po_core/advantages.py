"""Rewards to advantages by the running statistics of each prompt, as DDPO does (arXiv 2305.13301). No torch."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from statistics import fmean, pstdev

SIZE = 16
"""Rewards of a prompt that are remembered, the latest."""
MIN_COUNT = 16
"""Fewer than this many say too little: then the whole batch's statistics are taken."""
TINY = 1e-6
"""Added to a deviation, so that equal rewards give no advantage instead of infinity."""


class PromptStatistics:
    """The latest rewards of each prompt.

    history: what an earlier one of its kind remembered; `history` is plain lists, to be stored as JSON between rounds.
    """

    def __init__(
        self, history: Mapping[str, Sequence[float]] | None = None, size: int = SIZE, min_count: int = MIN_COUNT
    ) -> None:
        self.history = {prompt: list(rewards)[-size:] for prompt, rewards in (history or {}).items()}
        self.size = size
        self.min_count = min_count

    def advantages(self, prompts: Sequence[str], rewards: Sequence[float]) -> list[float]:
        """Remember a batch of rewards and return (reward - mean) / deviation of each under its prompt, the batch included.

        A prompt with fewer than `min_count` remembered rewards takes mean and deviation of the batch. One prompt a reward,
        in any order; finite rewards.
        """
        batch = list(zip(prompts, rewards, strict=True))
        for prompt, reward in batch:
            self.history[prompt] = [*self.history.get(prompt, []), float(reward)][-self.size :]
        known = {prompt: self.history[prompt] for prompt in set(prompts)}
        scale = {p: _scale(latest if len(latest) >= self.min_count else rewards) for p, latest in known.items()}
        return [(reward - scale[p][0]) / scale[p][1] for p, reward in batch]


def _scale(rewards: Sequence[float]) -> tuple[float, float]:
    return fmean(rewards), pstdev(rewards) + TINY
