"""What an update showed: sums over its items, gathered from all processes, as the numbers that are logged."""

from __future__ import annotations

import math
from collections import defaultdict
from collections.abc import Sequence
from statistics import fmean

import torch
from torch import Tensor

from d3po_core.losses import kl_estimate, pair_accuracy

Row = dict[str, float]
FIGURES = ("loss", "pair_accuracy", "log_ratio", "log_ratio_squared", "clip_fraction", "kl")


@torch.no_grad()
def row_of(
    timestep: float, ratios: Tensor, loss: Tensor, grad_norm: Tensor, chosen: Tensor, rejected: Tensor, clip: float
) -> Row:
    """One item's figures, read from the device at once. ratios: float32 [N]."""
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
    read = torch.stack(list(values.values())).tolist()
    return {**dict(zip(values, read, strict=True)), "timestep": timestep}


def figures(rows: Sequence[Row]) -> dict[str, float]:
    """Means over an update's items, and the mean gradient norm of each timestep's items as grad_norm_t<timestep>."""
    mean = {name: fmean(row[name] for row in rows) for name in FIGURES}
    norms = defaultdict[str, list[float]](list)
    exact = [row["kl_exact"] for row in rows if "kl_exact" in row]
    for row in rows:
        norms[f"grad_norm_t{row['timestep']:.0f}"].append(row["grad_norm"])
    return {
        "loss": mean["loss"],
        "pair_accuracy": mean["pair_accuracy"],
        "log_ratio_mean": mean["log_ratio"],
        "log_ratio_std": math.sqrt(max(mean["log_ratio_squared"] - mean["log_ratio"] ** 2, 0.0)),
        "clip_fraction": mean["clip_fraction"],
        "kl": mean["kl"],
        **({"kl_exact": fmean(exact)} if exact else {}),
        **{name: fmean(values) for name, values in norms.items()},
    }
