"""Scores to outcomes: dominance as the paper has it, weighted sums, and preferences that state exactly the wins."""

from __future__ import annotations

import random
import re
from pathlib import Path
from typing import Any

import pytest
from PIL import Image

from d3po_core.errors import BadReward
from d3po_core.preferences import Preference, pairs_from
from d3po_core.rewards import dominance, preferences_of, weighted_sum

ROOT = Path(__file__).parents[3]
A, B, C = (30.0, 10.0, 6.0), (20.0, 8.0, 5.0), (40.0, 4.0, 4.0)
"""Three images by three rewards, the example in the paper's code: A beats B, C is comparable to neither."""


def by_reward(*images: tuple[float, ...]) -> list[list[float]]:
    return [list(row) for row in zip(*images, strict=True)]


def test_dominance_is_at_least_as_good_everywhere_and_better_somewhere() -> None:
    assert dominance(by_reward(A, B, C)) == [(0, 1)]
    assert dominance(by_reward((1.0, 2.0), (1.0, 1.0))) == [(0, 1)]
    assert dominance(by_reward((1.0, 2.0), (2.0, 1.0))) == []
    assert dominance(by_reward((1.0, 2.0), (1.0, 2.0))) == []


def test_one_reward_orders_the_images() -> None:
    wins = dominance([[0.1, 0.7, 0.3]])
    assert sorted(wins) == [(1, 0), (1, 2), (2, 0)]
    assert preferences_of(wins, 3) == [Preference("ranking", ranking=(1, 2, 0))]


def test_weights_make_one_score_of_several() -> None:
    total = weighted_sum(by_reward(A, B, C), [1.0, 2.0, 0.0])
    assert total == [50.0, 36.0, 48.0]
    assert preferences_of(dominance([total]), 3) == [Preference("ranking", ranking=(0, 2, 1))]


def test_a_negative_weight_turns_a_reward_round() -> None:
    assert dominance([weighted_sum([[1.0, 2.0]], [-1.0])]) == [(0, 1)]


def test_a_constant_reward_gives_a_tie_and_no_pairs() -> None:
    preferences = preferences_of(dominance([[0.5] * 4]), 4)
    assert preferences == [Preference("tie")]
    assert pairs_from(preferences, 4) == []


def test_of_two_images_the_better_is_the_best() -> None:
    assert preferences_of(dominance([[0.1, 0.7]]), 2) == [Preference("best", best=1)]


@pytest.mark.parametrize("rewards", [1, 2, 3])
@pytest.mark.parametrize("levels", [2, 100])
def test_preferences_leave_exactly_the_pairs_that_were_won(rewards: int, levels: int) -> None:
    rng = random.Random(rewards * levels)
    for _ in range(100):
        wins = dominance([[float(rng.randrange(levels)) for _ in range(5)] for _ in range(rewards)])
        pairs = pairs_from(preferences_of(wins, 5), 5)
        assert sorted((pair.chosen, pair.rejected) for pair in pairs) == sorted(wins)
        assert all(pair.weight == 1 for pair in pairs)


@pytest.mark.parametrize("scores", [[], [[1.0, 2.0], [1.0]]])
def test_rewards_of_other_images_are_not_combined(scores: list[list[float]]) -> None:
    with pytest.raises(BadReward, match="score the same images"):
        dominance(scores)


def test_every_reward_has_a_weight() -> None:
    with pytest.raises(BadReward, match="2 rewards and 1 weights"):
        weighted_sum([[1.0], [2.0]], [1.0])


def test_the_example_of_the_guide_runs() -> None:
    blocks = re.findall(r"```python\n(.*?)```", (ROOT / "docs/rewards.md").read_text(encoding="utf-8"), re.DOTALL)
    flat, vivid = Image.new("RGB", (16, 16)), Image.new("RGB", (16, 16), (255, 0, 0))
    names: dict[str, Any] = {"images": [flat, vivid], "prompts": ["a cat face"] * 2}
    for block in blocks:
        exec(block, names)
    assert names["pairs"] == pairs_from([Preference("best", best=1)], 2)
    assert names["brightness"]("cpu")([flat, Image.new("RGB", (16, 16), "white")], ["", ""]) == [0, 256]
