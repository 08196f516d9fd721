from __future__ import annotations

import pytest

from server.models import Metric
from server.pages.charts import BOTTOM, TOP, Point, draw, ticks
from server.pages.training_plots import MOST_POINTS, charts

WORDS = {"title": "t", "caption": "c", "csv": "/x", "x_name": "step", "y_name": "loss"}


@pytest.mark.parametrize(
    ("low", "high", "expected"),
    [(0, 1, [0, 0.5, 1]), (0.61, 0.69, [0.6, 0.62, 0.64, 0.66, 0.68, 0.7]), (0, 97, [0, 50, 100]), (-3, 4, [-4, -2, 0, 2, 4])],
)
def test_ticks_are_round_and_enclose(low: float, high: float, expected: list[float]) -> None:
    assert ticks(low, high) == pytest.approx(expected)


def test_whole_ticks_have_no_fractions() -> None:
    assert ticks(1, 2, whole=True) == [1, 2]
    assert ticks(3, 3, whole=True) == [2, 3, 4]


def test_larger_values_are_drawn_higher() -> None:
    chart = draw([Point(0, 0.0), Point(1, 1.0)], **WORDS)

    (_, first), (_, last) = (map(float, place.split(",")) for place in chart.line.split())
    assert (first, last) == (BOTTOM, TOP)


def test_one_point_is_still_a_chart() -> None:
    chart = draw([Point(2, 0.7, 0.5, 0.9)], **WORDS, whole_x=True)

    assert len(chart.dots) == len(chart.bars) == 1
    assert "2" in [tick.label for tick in chart.x_ticks]


def logged(values: list[dict[str, float | None]]) -> list[Metric]:
    return [Metric(round_id="r", step=step, values=row) for step, row in enumerate(values, start=1)]


def test_training_is_three_charts_that_say_what_to_conclude() -> None:
    rows = [
        {"loss": 0.7 - step / 1000, "pair_accuracy": 0.5 + step / 1000, "log_ratio_mean": 0.01, "log_ratio_std": 0.02}
        for step in range(100)
    ]

    loss, accuracy, ratio = charts(logged(rows), "/metrics.csv")

    assert "It falls: the votes are being learned." in loss.caption
    assert "52 % in the first third, 58 % in the last. The policy agrees with the votes." in accuracy.caption
    assert "mean +0.01 in the last third" in ratio.caption
    assert {chart.csv for chart in (loss, accuracy, ratio)} == {"/metrics.csv"}


def test_noise_is_not_called_learning() -> None:
    rows = [{"loss": 0.6931 + 1e-5 * (-1) ** step, "pair_accuracy": float(step % 2)} for step in range(40)]

    loss, accuracy = charts(logged(rows), "/metrics.csv")

    assert "No clear change" in loss.caption
    assert "Not told apart from chance" in accuracy.caption


def test_a_loss_that_has_no_coin_to_compare_with_is_not_judged() -> None:
    rows = [{"loss": step / 1000, "pair_accuracy": 0.6, "log_ratio_mean": 0.01, "log_ratio_std": 0.02} for step in range(20)]

    loss, accuracy, _ = charts(logged(rows), "/metrics.csv", "ddpo")

    assert loss.caption == (
        "Mean 0.00250 in the first third, 0.01650 in the last. Whether anything was learned is in the pair accuracy."
    )
    assert "The policy agrees with the votes" in accuracy.caption


def test_a_long_training_is_drawn_with_few_points() -> None:
    [chart] = charts(logged([{"loss": 0.7}] * 2_345), "/metrics.csv")

    assert MOST_POINTS // 2 < len(chart.line.split()) <= MOST_POINTS


def test_what_was_not_logged_is_not_drawn() -> None:
    assert charts(logged([{"loss": None}, {"grad_norm": 1.0}]), "/metrics.csv") == []
    assert charts([], "/metrics.csv") == []
