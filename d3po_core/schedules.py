"""How much each timestep weighs, and how the learning rate goes over a round."""

from __future__ import annotations

import math
from collections.abc import Sequence

import torch

from d3po_core.params import TrainingParams
from d3po_core.transitions import Step, Transition


def step_weights(transition: Transition, steps: Sequence[Step], weighting: str) -> list[float]:
    """The weight of each step's loss, 1 on average over `steps`, all of which have a density.

    "uniform": 1. "sensitivity": proportional to sigma / |d mu / d output|. A step's gradient grows with |d mu / d output| /
    sigma, which for Stable Diffusion is about 1 everywhere but in the last steps, where it is several times that.
    """
    if weighting == "uniform":
        return [1.0] * len(steps)
    none = torch.zeros(len(steps), 1, 1, 1, dtype=torch.float64)
    slope = (transition.mean(none + 1, none, steps) - transition.mean(none, none, steps)).abs().flatten()
    weights = torch.tensor([step.sigma for step in steps], dtype=torch.float64) / slope
    return (weights / weights.mean()).tolist()


def learning_rate_at(params: TrainingParams, update: int, updates: int) -> float:
    """The learning rate of update number 0..updates-1: a linear rise over `warmup_updates`, then constant or down towards 0."""
    rise = min(1.0, (update + 1) / params.warmup_updates) if params.warmup_updates else 1.0
    gone = update / updates
    fall = {"constant": 1.0, "linear": 1.0 - gone, "cosine": 0.5 * (1.0 + math.cos(math.pi * gone))}[params.lr_schedule]
    return params.learning_rate * rise * fall
