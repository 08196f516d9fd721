"""Advantages by prompt: hand-computed values, the latest sixteen, and the batch's statistics while there are fewer."""

from __future__ import annotations

import json
import random
from statistics import fmean, pstdev

import pytest

from d3po_core.advantages import PromptStatistics


def test_a_new_prompt_takes_the_batchs_statistics() -> None:
    # mean 3, population deviation sqrt(3.5)
    advantages = PromptStatistics().advantages(["a", "a", "b", "b"], [1.0, 2.0, 3.0, 6.0])
    assert advantages == pytest.approx([-2 / 3.5**0.5, -1 / 3.5**0.5, 0.0, 3 / 3.5**0.5], rel=1e-5)


def test_a_known_prompt_takes_its_own_with_this_batch_in_them() -> None:
    statistics = PromptStatistics({"a": [0.0, 0.0]}, size=4, min_count=4)
    # a: 0, 0, 4, 4: mean 2, deviation 2. b is new: batch 4, 100, 4: mean 36, deviation sqrt(2048)
    assert statistics.advantages(["a", "b", "a"], [4.0, 100.0, 4.0]) == pytest.approx([1.0, 64 / 2048**0.5, 1.0], rel=1e-5)


def test_only_the_latest_are_remembered() -> None:
    statistics = PromptStatistics(size=2, min_count=2)
    statistics.advantages(["a"] * 3, [50.0, 1.0, 3.0])
    assert statistics.history == {"a": [1.0, 3.0]}
    # 3, 5: mean 4, deviation 1
    assert statistics.advantages(["a"], [5.0]) == pytest.approx([1.0], rel=1e-5)


def test_sixteen_are_remembered_and_enough() -> None:
    statistics = PromptStatistics()
    rng = random.Random(0)
    rewards = [rng.random() for _ in range(40)]
    for reward in rewards[:15]:
        assert statistics.advantages(["a"], [reward]) == pytest.approx([0.0])  # alone in its batch
    for number in range(15, 40):
        latest = rewards[max(0, number - 15) : number + 1]
        expected = (rewards[number] - fmean(latest)) / pstdev(latest)
        assert statistics.advantages(["a"], [rewards[number]]) == pytest.approx([expected], rel=1e-4)


def test_equal_rewards_have_no_advantage() -> None:
    assert PromptStatistics().advantages(["a", "b"] * 8, [0.1] * 16) == pytest.approx([0.0] * 16, abs=1e-6)


def test_what_is_remembered_survives_as_json() -> None:
    one = PromptStatistics(size=3, min_count=2)
    one.advantages(["a", "b", "a"], [1.0, 2.0, 4.0])
    other = PromptStatistics(json.loads(json.dumps(one.history)), size=3, min_count=2)
    assert other.advantages(["a", "b"], [3.0, 5.0]) == one.advantages(["a", "b"], [3.0, 5.0])
    assert other.history == one.history


def test_every_reward_has_a_prompt() -> None:
    statistics = PromptStatistics()
    with pytest.raises(ValueError, match="argument"):
        statistics.advantages(["a"], [1.0, 2.0])
    assert statistics.history == {}
