"""What a reward round found, as charts: how the scores of its images are spread, and the mean of round after round."""

from __future__ import annotations

from bisect import bisect_right
from collections import Counter
from itertools import pairwise
from math import ceil, sqrt

from sqlalchemy.orm import Session

from server.domain import scores
from server.domain.scores import RoundMean
from server.domain.scoring import params_of
from server.models import Project, Round
from server.pages.charts import Chart, Point, draw, ticks

MOST_BINS = 24


def charts(session: Session, project: Project, row: Round) -> list[Chart]:
    """Two for each reward; nothing before the first image is scored."""
    found, csv = scores.images(session, row), f"/rounds/{row.id}/scores.csv"
    drawn: list[Chart] = []
    for chosen in params_of(row).rewards:
        values = [image.scores[chosen.key] for image in found if chosen.key in image.scores]
        if values:
            drawn.append(distribution(values, chosen.name, csv, scores.mean_of(session, row, chosen.key)))
            drawn.append(course(scores.by_round(session, project, chosen.key), chosen.name, f"{csv}?by=round"))
    return drawn


def distribution(values: list[float], name: str, csv: str, mean: scores.Mean | None) -> Chart:
    """A histogram, drawn as its outline."""
    edges = ticks(min(values), max(values), about=min(MOST_BINS, max(4, ceil(sqrt(len(values))))))
    bins = Counter(min(bisect_right(edges, value), len(edges) - 1) for value in values)
    outline = [Point(edges[0], 0)]
    for place, (low, high) in enumerate(pairwise(edges), start=1):
        outline += [Point(low, bins[place]), Point(high, bins[place])]
    outline.append(Point(edges[-1], 0))
    caption = f"{len(values)} images" + (f", {told(mean)}." if mean else ".")
    return draw(outline, title=f"Spread of {name}", caption=caption, csv=csv, x_name=name, y_name="images")


def course(means: list[RoundMean], name: str, csv: str) -> Chart:
    points = [Point(mean.number, mean.mean.mean, mean.mean.low, mean.mean.high) for mean in means]
    return draw(
        points, title=f"Mean {name} by round", caption=_course_told(means), csv=csv, x_name="sample round",
        y_name="mean score, with 95 % interval", whole_x=True, dots=True,
    )  # fmt: skip


def told(mean: scores.Mean) -> str:
    """mean 42.1 [40.3, 43.9]"""
    interval = "" if mean.low is None or mean.high is None else f" [{mean.low:.4g}, {mean.high:.4g}]"
    return f"mean {mean.mean:.4g}{interval}"


def _course_told(means: list[RoundMean]) -> str:
    first, last = means[0], means[-1]
    if first is last:
        return f"Round {first.number}: {told(first.mean)}. In brackets the 95 % interval."
    if None in (first.mean.low, first.mean.high, last.mean.low, last.mean.high):
        return f"From {told(first.mean)} in round {first.number} to {told(last.mean)} in round {last.number}."
    ways = f"From {told(first.mean)} in round {first.number} to {told(last.mean)} in round {last.number}:"
    if (last.mean.low or 0) > (first.mean.high or 0):
        return f"{ways} it rose, the intervals lie apart."
    if (last.mean.high or 0) < (first.mean.low or 0):
        return f"{ways} it fell, the intervals lie apart."
    return f"{ways} the intervals overlap, so no change is clear."
