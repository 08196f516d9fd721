"""Line charts as numbers for the template: places on a canvas, ticks with labels, a caption. Knows nothing of what is plotted."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

WIDTH, HEIGHT = 360, 220
LEFT, RIGHT, TOP, BOTTOM = 60, 352, 28, 184


@dataclass(frozen=True)
class Tick:
    at: float
    label: str


@dataclass(frozen=True)
class Point:
    """`low` and `high` are an interval around y, where there is one."""

    x: float
    y: float
    low: float | None = None
    high: float | None = None


@dataclass(frozen=True)
class Chart:
    title: str
    caption: str
    csv: str
    x_name: str
    y_name: str
    x_ticks: list[Tick]
    y_ticks: list[Tick]
    line: str
    band: str
    bars: list[tuple[float, float, float]]
    dots: list[tuple[float, float]]
    reference: float | None
    width: int = WIDTH
    height: int = HEIGHT
    left: int = LEFT
    right: int = RIGHT
    bottom: int = BOTTOM


def draw(
    points: Sequence[Point], *, title: str, caption: str, csv: str, x_name: str, y_name: str, reference: float | None = None,
    span: tuple[float, float] | None = None, whole_x: bool = False, dots: bool = False,
) -> Chart:  # fmt: skip
    """`reference` is a y that the eye compares with; `span` fixes the y axis; `dots` marks points with bars, not with a band."""
    dots = dots or len(points) == 1
    ys = [y for point in points for y in (point.y, point.low, point.high) if y is not None]
    ys += [reference] if reference is not None else []
    y_values = ticks(*(span or (min(ys), max(ys))))
    x_values = ticks(min(p.x for p in points), max(p.x for p in points), whole=whole_x)
    x_range = (points[0].x, points[-1].x) if len(points) > 1 else (x_values[0], x_values[-1])

    def across(x: float) -> float:
        return round(_scale(x, *x_range, LEFT + 8, RIGHT - 8), 1)

    def up(y: float) -> float:
        return round(_scale(y, y_values[0], y_values[-1], BOTTOM, TOP), 1)

    ranged = [(across(p.x), up(p.low), up(p.high)) for p in points if p.low is not None and p.high is not None]
    outline = [(x, high) for x, _, high in ranged] + [(x, low) for x, low, _ in reversed(ranged)]
    return Chart(
        title, caption, csv, x_name, y_name,
        x_ticks=[Tick(across(x), _label(x)) for x in x_values if x_range[0] <= x <= x_range[1]],
        y_ticks=[Tick(up(y), _label(y)) for y in y_values],
        line=_joined([(across(p.x), up(p.y)) for p in points]),
        band="" if dots else _joined(outline),
        bars=ranged if dots else [],
        dots=[(across(p.x), up(p.y)) for p in points] if dots else [],
        reference=None if reference is None else up(reference),
    )  # fmt: skip


def ticks(low: float, high: float, *, whole: bool = False, about: int = 4) -> list[float]:
    """Round numbers that enclose low..high, some `about` + 1 of them."""
    if high - low < 1e-9:
        low, high = low - (1 if whole else 0.5), high + (1 if whole else 0.5)
    rough = (high - low) / about
    magnitude = 10.0 ** math.floor(math.log10(rough))
    step = next(magnitude * nice for nice in (1, 2, 5, 10) if magnitude * nice >= rough * 0.999)
    step = max(1.0, step) if whole else step
    first, last = math.floor(low / step + 1e-9), math.ceil(high / step - 1e-9)
    return [count * step for count in range(first, last + 1)]


def _scale(value: float, low: float, high: float, start: float, end: float) -> float:
    return start + (value - low) / (high - low) * (end - start)


def _joined(places: Sequence[tuple[float, float]]) -> str:
    return " ".join(f"{x},{y}" for x, y in places)


def _label(value: float) -> str:
    return f"{value:.6g}"
