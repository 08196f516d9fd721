"""What a training round logged, as charts that say what to conclude."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from math import hypot, inf, sqrt
from statistics import fmean, stdev

from server.models import Metric
from server.pages.charts import Chart, Point, draw

MOST_POINTS = 40
COIN_LOSS = 0.69315
NOTHING_CLEAR = "No clear change within the round: a duel tells whether it helped."


def charts(metrics: Sequence[Metric], csv: str, algorithm: str = "d3po") -> list[Chart]:
    """Loss, pair accuracy and log-ratio by optimizer step; a chart whose values were not logged is left out."""
    plots = [_d3po_loss if algorithm == "d3po" else _loss, _pair_accuracy, _log_ratio]
    return [chart for plot in plots if (chart := plot(metrics, csv)) is not None]


@dataclass(frozen=True)
class Ends:
    """Means over the first and the last third, with the standard errors of the last and of the difference."""

    first: float
    last: float
    last_error: float
    error: float

    @property
    def change(self) -> int:
        """-1 or 1 where it fell or rose by more than twice its standard error, else 0."""
        moved = self.last - self.first
        return (moved > 2 * self.error) - (moved < -2 * self.error)


def _ends(values: Sequence[float]) -> Ends:
    third = max(1, len(values) // 3)
    first, last = values[:third], values[-third:]
    errors = [stdev(part) / sqrt(third) if third > 1 else inf for part in (first, last)]
    return Ends(fmean(first), fmean(last), errors[1], hypot(*errors))


def _d3po_loss(metrics: Sequence[Metric], csv: str) -> Chart | None:
    ways = {-1: "It falls: the votes are being learned.", 1: "It rises: the round went astray.", 0: NOTHING_CLEAR}

    def caption(ends: Ends) -> str:
        means = f"Mean {ends.first:.5f} in the first third, {ends.last:.5f} in the last; {COIN_LOSS} is a coin’s."
        return f"{means} {ways[ends.change]}"

    return _draw(_by_value(metrics, "loss"), csv, "Loss", "loss (nats a pair)", caption)


def _loss(metrics: Sequence[Metric], csv: str) -> Chart | None:
    """Of an algorithm whose loss starts near zero in every update, whatever was learned before."""

    def caption(ends: Ends) -> str:
        means = f"Mean {ends.first:.5f} in the first third, {ends.last:.5f} in the last."
        return f"{means} Whether anything was learned is in the pair accuracy."

    return _draw(_by_value(metrics, "loss"), csv, "Loss", "loss", caption)


def _pair_accuracy(metrics: Sequence[Metric], csv: str) -> Chart | None:
    def caption(ends: Ends) -> str:
        told = f"Pairs ordered as people did: {ends.first * 100:.0f} % in the first third, {ends.last * 100:.0f} % in the last."
        agrees = ends.last - 2 * ends.last_error > 0.5
        return f"{told} {'The policy agrees with the votes.' if agrees else 'Not told apart from chance within the round.'}"

    return _draw(_by_value(metrics, "pair_accuracy"), csv, "Pair accuracy", "share of pairs", caption, reference=0.5, span=(0, 1))


def _log_ratio(metrics: Sequence[Metric], csv: str) -> Chart | None:
    def caption(ends: Ends) -> str:
        return f"How far the policy moved from its reference: mean {ends.last:+.2g} in the last third, the band is one deviation."

    return _draw(_log_ratio_points(metrics), csv, "Log-ratio", "log-ratio (nats)", caption, reference=0.0)


def _draw(
    points: list[Point], csv: str, title: str, y_name: str, caption: Callable[[Ends], str],
    reference: float | None = None, span: tuple[float, float] | None = None,
) -> Chart | None:  # fmt: skip
    if not points:
        return None
    return draw(
        points, title=title, caption=caption(_ends([point.y for point in points])), csv=csv, x_name="optimizer step",
        y_name=y_name, reference=reference, span=span, whole_x=True,
    )  # fmt: skip


def _by_value(metrics: Sequence[Metric], name: str) -> list[Point]:
    """Means of neighbouring steps, with their smallest and largest value."""
    seen = [metric for metric in metrics if metric.values.get(name) is not None]
    return [
        Point(chunk[-1].step, fmean(values), min(values), max(values))
        for chunk in _chunks(seen)
        if (values := [metric.values[name] for metric in chunk])
    ]


def _log_ratio_points(metrics: Sequence[Metric]) -> list[Point]:
    names = ("log_ratio_mean", "log_ratio_std")
    seen = [metric for metric in metrics if all(metric.values.get(name) is not None for name in names)]
    points = []
    for chunk in _chunks(seen):
        mean, std = (fmean(metric.values[name] for metric in chunk) for name in names)
        points.append(Point(chunk[-1].step, mean, mean - std, mean + std))
    return points


def _chunks(metrics: Sequence[Metric]) -> list[Sequence[Metric]]:
    size = -(-len(metrics) // MOST_POINTS) or 1
    return [metrics[start : start + size] for start in range(0, len(metrics), size)]
