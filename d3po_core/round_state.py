"""What a killed round continues from."""

from __future__ import annotations

import time
from pathlib import Path
from typing import Any

import torch
from torch import nn
from torch.optim import Optimizer

from d3po_core.errors import BadState
from d3po_core.files import written_whole

SAVE_EVERY_SECONDS = 20.0
LARGEST_SHARE = 0.05
"""Of a round's time, spent on saving: states of full weights are large."""


class RoundState:
    """Weights, their moving average, optimizer and gradient scale, random numbers and last figures after so many updates.

    `identity` stands for the round: parameters, groups and pairs. Data order needs no saving, it follows from the number of
    updates. Raises BadState if the file belongs to another round or cannot be read.
    """

    def __init__(
        self, path: Path, identity: str, parameters: list[nn.Parameter], optimizer: Optimizer, ema: Ema, scaler: Any
    ) -> None:
        self.path, self.identity = path, identity
        self.parameters, self.optimizer, self.ema, self.scaler = parameters, optimizer, ema, scaler
        self.updates, self.values = 0, dict[str, float]()
        self._next_save = time.monotonic() + SAVE_EVERY_SECONDS
        path.parent.mkdir(parents=True, exist_ok=True)
        if path.exists():
            self._load()

    def _load(self) -> None:
        try:
            state = torch.load(self.path, weights_only=True, map_location="cpu")
            identity = state["identity"]
        except Exception as error:  # torch.load has no error of its own for bytes that are none of its
            raise BadState(f"{self.path}, what an unfinished round left, cannot be read; remove it to start over.") from error
        if identity != self.identity:
            raise BadState(
                f"{self.path} is what an unfinished round with other parameters, votes or groups left; remove it to start over."
            )
        copy_into(self.parameters, state["parameters"])
        copy_into(self.ema.average, state["ema"])
        self.optimizer.load_state_dict(state["optimizer"])
        self.scaler.load_state_dict(state["scaler"])
        torch.set_rng_state(state["random"])
        self.updates, self.values = state["updates"], state["values"]

    def advance(self, updates: int, values: dict[str, float], keeper: bool) -> None:
        """Take note of an update; the keeper, one process of all, saves every SAVE_EVERY_SECONDS."""
        self.updates, self.values = updates, values
        if keeper and time.monotonic() > self._next_save:
            began = time.monotonic()
            self.save()
            ended = time.monotonic()
            self._next_save = ended + max(SAVE_EVERY_SECONDS, (ended - began) / LARGEST_SHARE)

    def save(self) -> None:
        """Write the file, whole or not at all."""
        state = {
            "identity": self.identity,
            "parameters": [p.detach() for p in self.parameters],
            "ema": self.ema.average,
            "optimizer": self.optimizer.state_dict(),
            "scaler": self.scaler.state_dict(),
            "random": torch.get_rng_state(),
            "updates": self.updates,
            "values": self.values,
        }
        with written_whole(self.path) as file:
            torch.save(state, file)


class Ema:
    """Exponential moving average of parameters, warmed up: decay min(d, (1+n)/(10+n)) after n updates. d = 0: none is kept."""

    def __init__(self, parameters: list[nn.Parameter], decay: float) -> None:
        self.parameters, self.decay = parameters, decay
        self.average = [p.detach().clone() for p in parameters] if decay else []

    @torch.no_grad()
    def update(self, updates: int) -> None:
        if self.average:
            torch._foreach_lerp_(self.average, [*self.parameters], 1 - min(self.decay, (1 + updates) / (10 + updates)))

    def apply(self) -> None:
        """The parameters become their average."""
        if self.average:
            copy_into(self.parameters, self.average)


@torch.no_grad()
def copy_into(targets: list[Any], values: list[torch.Tensor]) -> None:
    for target, value in zip(targets, values, strict=True):
        target.copy_(value)
