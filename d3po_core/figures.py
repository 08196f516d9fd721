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
FIGURES = ("loss", "pair_accuracy", "log_ratio", "log_ratio_squared", "clip_fraction", "kl")


@dataclass(frozen=True)
class Seen:
    """One item's figures, float32 scalars that are still on the device."""

    timestep: float
    values: dict[str, Tensor]


@torch.no_grad()
def seen_of(
    timestep: float, ratios: Tensor, loss: Tensor, grad_norm: Tensor, chosen: Tensor, rejected: Tensor, clip: float
) -> Seen:
    """ratios: float32 [N]; loss, grad_norm: float32 scalars; chosen, rejected: int64 [P]."""
    clipped = (ratios < math.log1p(-clip)) | (ratios > math.log1p(clip))
    values = {
        "loss": loss,
        "pair_accuracy": pair_accuracy(ratios[None], chosen, rejected),
        "log_ratio": ratios.mean(),
        "log_ratio_squared": ratios.double().square().mean().float(),
        "clip_fraction": clipped.float().mean(),
        "kl": kl_estimate(ratios),
        "grad_norm": grad_norm,
    }
    return Seen(timestep, values)


def rows_of(seen: Sequence[Seen]) -> list[Row]:
    """The figures of all items of a process's share, read from the device at once."""
    scalars = [value for item in seen for value in item.values.values()]
    numbers = iter(torch.stack(scalars).tolist() if scalars else [])
    return [{**{name: next(numbers) for name in item.values}, "timestep": item.timestep} for item in seen]


def figures(rows: Sequence[Row]) -> dict[str, float]:
    """Means over an update's items, and the mean gradient norm of each timestep's items as grad_norm_t<timestep>."""
    mean = {name: fmean(row[name] for row in rows) for name in FIGURES}
    norms = defaultdict[str, list[float]](list)
    further = {name: [row[name] for row in rows if name in row] for name in ("kl_sampler", "kl_exact")}
    for row in rows:
        norms[f"grad_norm_t{row['timestep']:.0f}"].append(row["grad_norm"])
    return {
        "loss": mean["loss"],
        "pair_accuracy": mean["pair_accuracy"],
        "log_ratio_mean": mean["log_ratio"],
        "log_ratio_std": math.sqrt(max(mean["log_ratio_squared"] - mean["log_ratio"] ** 2, 0.0)),
        "clip_fraction": mean["clip_fraction"],
        "kl": mean["kl"],
        **{name: fmean(values) for name, values in further.items() if values},
        **{name: fmean(values) for name, values in norms.items()},
    }
