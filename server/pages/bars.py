"""Shares as horizontal bars with intervals: places on a canvas for the template. Knows nothing of what is shared out."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

WIDTH, LEFT, RIGHT, TOP, ROW = 360, 104, 300, 8, 34


@dataclass(frozen=True)
class Share:
    """One bar: a share in 0..1 with its interval; None where there is nothing to take a share of yet."""

    label: str
    share: float | None
    low: float
    high: float


@dataclass(frozen=True)
class Bar:
    label: str
    text: str
    y: float
    end: float | None
    low: float
    high: float


@dataclass(frozen=True)
class Bars:
    title: str
    caption: str
    csv: str
    bars: list[Bar]
    ticks: list[tuple[float, str]]
    height: int
    bottom: int
    width: int = WIDTH
    left: int = LEFT
    right: int = RIGHT


def draw(shares: Sequence[Share], *, title: str, caption: str, csv: str) -> Bars:
    bars = [_bar(share, TOP + ROW * (place + 0.5)) for place, share in enumerate(shares)]
    bottom = TOP + ROW * len(shares)
    return Bars(title, caption, csv, bars, [(_across(at / 4), f"{at * 25} %") for at in range(5)], bottom + 24, bottom)


def _bar(share: Share, y: float) -> Bar:
    end = None if share.share is None else _across(share.share)
    text = "no votes yet" if share.share is None else f"{share.share * 100:.1f} %"
    return Bar(share.label, text, y, end, _across(share.low), _across(share.high))


def _across(share: float) -> float:
    return round(LEFT + share * (RIGHT - LEFT), 1)
