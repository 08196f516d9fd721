"""What a training round logged, as charts that say what to conclude."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from statistics import fmean

from server.models import Metric
from server.pages.charts import Chart, Point, draw

MOST_POINTS = 40
COIN_LOSS = 0.6931


def charts(metrics: Sequence[Metric], csv: str) -> list[Chart]:
    """Loss, pair accuracy and log-ratio by optimizer step; a chart whose values were not logged is left out."""
    plots = [_loss, _pair_accuracy, _log_ratio]
    return [chart for plot in plots if (chart := plot(metrics, csv)) is not None]


def _loss(metrics: Sequence[Metric], csv: str) -> Chart | None:
    def caption(first: float, last: float) -> str:
        way = (
            "It falls: the votes are being learned." if last < first else "It does not fall: little was learned from these votes."
        )
        return f"From {first:.4f} to {last:.4f} (a coin: {COIN_LOSS}). {way}"

    return _draw(_by_value(metrics, "loss"), csv, "Loss", "loss (nats a pair)", caption)


def _pair_accuracy(metrics: Sequence[Metric], csv: str) -> Chart | None:
    def caption(first: float, last: float) -> str:
        told = f"Pairs ordered as people did: from {first * 100:.0f} % to {last * 100:.0f} %."
        return f"{told} {'Above one half the policy agrees with the votes.' if last > 0.5 else 'Not above chance.'}"

    return _draw(_by_value(metrics, "pair_accuracy"), csv, "Pair accuracy", "share of pairs", caption, reference=0.5, span=(0, 1))


def _log_ratio(metrics: Sequence[Metric], csv: str) -> Chart | None:
    def caption(first: float, last: float) -> str:
        return f"How far the policy moved from its reference: mean {last:+.3f} at the end, the band is one standard deviation."

    return _draw(_log_ratio_points(metrics), csv, "Log-ratio", "log-ratio (nats)", caption, reference=0.0)


def _draw(
    points: list[Point], csv: str, title: str, y_name: str, caption: Callable[[float, float], str],
    reference: float | None = None, span: tuple[float, float] | None = None,
) -> Chart | None:  # fmt: skip
    if not points:
        return None
    tenth = max(1, len(points) // 10)
    first, last = fmean(point.y for point in points[:tenth]), fmean(point.y for point in points[-tenth:])
    return draw(
        points, title=title, caption=caption(first, last), csv=csv, x_name="optimizer step", y_name=y_name,
        reference=reference, span=span, whole_x=True,
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
