"""What an update showed: figures of its items, gathered from all processes, as the numbers that are logged."""

from __future__ import annotations

import math
from collections import defaultdict
from collections.abc import Sequence
from dataclasses import dataclass
from statistics import fmean

import torch
from torch import Tensor

from d3po_core.losses import kl_estimate, pair_accuracy

Row = dict[str, float]
KLS = ("kl", "kl_sampler", "kl_exact", "kl_base")
FIGURES = ("loss", "pair_accuracy", "log_ratio", "clip_fraction", *KLS, "advantage", "weight")
SPREAD = ("log_ratio", "advantage", "weight")
"""Of these the standard deviation is shown beside the mean; their items hold `<name>_squared` too."""


@dataclass(frozen=True)
class Seen:
    """One item's figures, float32 scalars that are still on the device."""

    timestep: float
    values: dict[str, Tensor]


@torch.no_grad()
def seen_of(
    timestep: float, ratios: Tensor, loss: Tensor, grad_norm: Tensor, chosen: Tensor, rejected: Tensor, clip: float | None
) -> Seen:
    """ratios: float32 [N]; loss, grad_norm: float32 scalars; chosen, rejected: int64 [P]; clip: None where nothing is clipped."""
    values = {"loss": loss, **spread("log_ratio", ratios), "kl": kl_estimate(ratios), "grad_norm": grad_norm}
    if len(chosen):
        values["pair_accuracy"] = pair_accuracy(ratios[None], chosen, rejected)
    if clip is not None:
        clipped = (ratios < math.log1p(-clip)) | (ratios > math.log1p(clip))
        values["clip_fraction"] = clipped.float().mean()
    return Seen(timestep, values)


def spread(name: str, values: Tensor) -> dict[str, Tensor]:
    """What the mean and the standard deviation of `values`, float32 [N], over all items come from."""
    return {name: values.mean(), f"{name}_squared": values.double().square().mean().float()}


def rows_of(seen: Sequence[Seen]) -> list[Row]:
    """The figures of all items of a process's share, read from the device at once."""
    scalars = [value for item in seen for value in item.values.values()]
    numbers = iter(torch.stack(scalars).tolist() if scalars else [])
    return [{**{name: next(numbers) for name in item.values}, "timestep": item.timestep} for item in seen]


def figures(rows: Sequence[Row]) -> dict[str, float]:
    """Means over those of an update's items that have the figure, and the mean gradient norm of each timestep's items as
    grad_norm_t<timestep>."""
    shown = {}
    for name in FIGURES:
        if not (values := [row[name] for row in rows if name in row]):
            continue
        mean = fmean(values)
        shown[f"{name}_mean" if name in SPREAD else name] = mean
        if name in SPREAD:
            squared = fmean(row[f"{name}_squared"] for row in rows if name in row)
            shown[f"{name}_std"] = math.sqrt(max(squared - mean**2, 0.0))
    norms = defaultdict[str, list[float]](list)
    for row in rows:
        norms[f"grad_norm_t{row['timestep']:.0f}"].append(row["grad_norm"])
    return shown | {name: fmean(values) for name, values in norms.items()}
