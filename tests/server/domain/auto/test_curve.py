"""What evaluations are worth, and when one is worse than chance explains. Numbers only."""

from __future__ import annotations

import pytest

from d3po_core.rewards import ChosenReward, RewardParams
from server.domain.auto import AutoParams, curve
from server.domain.auto.curve import Evaluation, Judged
from server.domain.auto.steps import steps


def evaluation(epoch: int = 0, **scores: list[float]) -> Evaluation:
    by_item = {reward: {("a cat", seed): value for seed, value in enumerate(values)} for reward, values in scores.items()}
    return Evaluation(epoch, f"round {epoch}", None, by_item)


def params(*rewards: ChosenReward, combine: str = "pareto") -> AutoParams:
    return AutoParams(reward=RewardParams(rewards=list(rewards), combine=combine))


def means(done: list[Evaluation], asked: AutoParams) -> list[float]:
    return [one.mean for one in curve.judged(done, asked)]


def test_the_interval_of_a_mean() -> None:
    told = curve.figure([1.0, 2.0, 3.0, 4.0])
    assert (told.mean, told.low, told.high) == pytest.approx((2.5, 1.2349, 3.7651), abs=1e-4)


def test_one_reward_is_worth_its_score() -> None:
    done = [evaluation(0, jpeg=[-10.0, -30.0]), evaluation(1, jpeg=[-8.0, -20.0])]
    assert means(done, params(ChosenReward(name="jpeg"))) == [-20.0, -14.0]


def test_weights_add_up() -> None:
    asked = params(ChosenReward(name="a", weight=2.0), ChosenReward(name="b", weight=-1.0), combine="weighted")
    assert means([evaluation(0, a=[1.0, 3.0], b=[1.0, 1.0])], asked) == [3.0]


def test_without_weights_each_counts_in_its_own_spread_before_training() -> None:
    asked = params(ChosenReward(name="a"), ChosenReward(name="b"))
    start = evaluation(0, a=[0.0, 2.0], b=[0.0, 2000.0])
    one, other = means([start, evaluation(1, a=[1.0, 3.0], b=[-1000.0, 1000.0])], asked)
    assert one == pytest.approx(other)


def test_a_reward_that_is_constant_at_first_keeps_its_unit() -> None:
    asked = params(ChosenReward(name="a"), ChosenReward(name="b"))
    assert means([evaluation(0, a=[1.0, 1.0], b=[0.0, 2.0])], asked)[0] == pytest.approx(1.0 + 2**-0.5)


def judged(*values: float) -> Judged:
    return curve.judged([evaluation(0, jpeg=list(values))], params(ChosenReward(name="jpeg")))[0]


def test_the_comparison_is_item_by_item() -> None:
    """All items a little lower is a loss although the items differ far more among themselves."""
    told = curve.lost(judged(0.9, 49.8, 99.0), judged(1.0, 50.0, 99.5))
    assert told is not None
    assert told.mean == pytest.approx(-0.8 / 3)
    assert curve.lost(judged(1.1, 49.0, 99.5), judged(1.0, 50.0, 99.5)) is None
    assert curve.lost(judged(1.0, 50.0), judged(1.0, 50.0)) is None


def test_the_same_loss_on_every_item_is_certain() -> None:
    assert curve.lost(judged(1.0, 2.0), judged(2.0, 3.0)) is not None


def test_a_regression_is_one_against_the_best_so_far_not_the_last() -> None:
    done = [judged(1.0, 2.0, 3.0), judged(5.0, 6.1, 7.0), judged(4.9, 6.2, 6.95), judged(4.0, 5.0, 6.1)]
    found = curve.regression(done)
    assert found is not None
    assert (found[0], found[1]) == (done[3], done[1])
    assert curve.regression(done[:3]) is None


def test_of_equal_ones_the_first_is_the_best() -> None:
    done = [judged(1.0, 2.0), judged(2.0, 1.0)]
    assert curve.best(done) is done[0]


def test_the_order_of_the_rounds() -> None:
    learning = ("sample", "reward", "training")
    assert list(steps(2, 1)) == [
        ("evaluation", 0),
        *((kind, 1) for kind in (*learning, "evaluation")),
        *((kind, 2) for kind in (*learning, "evaluation")),
    ]
    assert [step for step in steps(5, 3) if step[0] == "evaluation"] == [("evaluation", epoch) for epoch in (0, 3, 5)]
