"""Scores to preferences: dominance as the paper has it, and weighted sums."""

from __future__ import annotations

import random
import re
from pathlib import Path
from typing import Any

import pytest
from PIL import Image

from d3po_core.errors import BadReward
from d3po_core.preferences import Pair, dominance, pairs_from
from d3po_core.rewards import rated

ROOT = Path(__file__).parents[3]
A, B, C = (30.0, 10.0, 6.0), (20.0, 8.0, 5.0), (40.0, 4.0, 4.0)
"""Three images by three rewards, the example in the paper's code: A beats B, C is comparable to neither."""


def by_reward(*images: tuple[float, ...]) -> list[list[float]]:
    return [list(row) for row in zip(*images, strict=True)]


def wins(scores: list[list[float]], weights: list[float] | None = None) -> set[tuple[int, int]]:
    pairs = pairs_from([rated(scores, weights)], len(scores[0]))
    assert all(pair.weight == 1 for pair in pairs)
    return {(pair.chosen, pair.rejected) for pair in pairs}


def test_dominance_is_at_least_as_good_everywhere_and_better_somewhere() -> None:
    assert wins(by_reward(A, B, C)) == {(0, 1)}
    assert wins(by_reward((1.0, 2.0), (1.0, 1.0))) == {(0, 1)}
    assert wins(by_reward((1.0, 2.0), (2.0, 1.0))) == set()
    assert wins(by_reward((1.0, 2.0), (1.0, 2.0))) == set()


def test_one_reward_orders_the_images() -> None:
    assert wins([[0.1, 0.7, 0.3]]) == {(1, 0), (1, 2), (2, 0)}


def test_weights_make_one_number_of_several() -> None:
    assert rated(by_reward(A, B, C), [1.0, 2.0, 0.0]).ratings == [(50.0,), (36.0,), (48.0,)]
    assert wins(by_reward(A, B, C), [1.0, 2.0, 0.0]) == {(0, 1), (0, 2), (2, 1)}


def test_a_negative_weight_turns_a_reward_round() -> None:
    assert wins([[1.0, 2.0]], [-1.0]) == {(0, 1)}


def test_a_constant_reward_gives_no_pairs() -> None:
    assert wins([[0.5] * 4]) == set()


@pytest.mark.parametrize("rewards", [1, 2, 3])
@pytest.mark.parametrize("levels", [2, 100])
def test_dominance_is_a_partial_order(rewards: int, levels: int) -> None:
    rng = random.Random(rewards * levels)
    for _ in range(50):
        ratings = [[float(rng.randrange(levels)) for _ in range(rewards)] for _ in range(5)]
        found = set(dominance(ratings))
        assert not any((j, i) in found for i, j in found)
        assert all((i, k) in found for i, j in found for other, k in found if other == j)


@pytest.mark.parametrize("scores", [[], [[1.0, 2.0], [1.0]]])
def test_rewards_of_other_images_are_not_combined(scores: list[list[float]]) -> None:
    with pytest.raises(BadReward, match="score the same images"):
        rated(scores)


def test_every_reward_has_a_weight() -> None:
    with pytest.raises(BadReward, match="2 rewards and 1 weights"):
        rated([[1.0], [2.0]], [1.0])


def test_the_example_of_the_guide_runs() -> None:
    blocks = re.findall(r"```python\n(.*?)```", (ROOT / "docs/rewards.md").read_text(encoding="utf-8"), re.DOTALL)
    flat, vivid = Image.new("RGB", (16, 16)), Image.new("RGB", (16, 16), (255, 0, 0))
    names: dict[str, Any] = {"images": [flat, vivid], "prompts": ["a cat face"] * 2}
    for block in blocks:
        exec(block, names)
    assert names["pairs"] == [Pair(1, 0)]
    assert names["brightness"]("cpu")([flat, Image.new("RGB", (16, 16), "white")], ["", ""]) == [0, 256]
