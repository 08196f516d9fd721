"""One resumable training stage: a progress bar, and a checkpoint every half minute that a killed run continues from."""

from __future__ import annotations

import os
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import torch
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeElapsedColumn, TimeRemainingColumn

SAVE_EVERY_SECONDS = 30


class Stage:
    """Counts the steps of one stage; saves and restores the state of everything named in `parts`.

    Each part has state_dict() and load_state_dict(). Randomness inside a step must come from the step number alone,
    so that a resumed run takes the steps an undisturbed one would have taken.
    """

    def __init__(self, name: str, folder: Path, total: int, **parts: Any) -> None:
        self.name, self.total, self.parts = name, total, parts
        self.path = folder / f"{name}.pt"
        self.averages: dict[str, float] = {}
        folder.mkdir(parents=True, exist_ok=True)
        self.first = self._restore()

    def _restore(self) -> int:
        if not self.path.exists():
            return 0
        state = torch.load(self.path, weights_only=True)
        for key, part in self.parts.items():
            part.load_state_dict(state[key])
        return int(state["step"])

    def save(self, step: int) -> None:
        state = {key: part.state_dict() for key, part in self.parts.items()} | {"step": step}
        temporary = self.path.with_suffix(".part")
        torch.save(state, temporary)
        os.replace(temporary, self.path)

    def report(self, **values: float) -> None:
        """Fold values into the running averages shown in the progress bar."""
        for key, value in values.items():
            self.averages[key] = 0.98 * self.averages.get(key, value) + 0.02 * value

    def steps(self) -> Iterator[int]:
        columns = (
            TextColumn("{task.description}"),
            BarColumn(),
            MofNCompleteColumn(),
            TimeElapsedColumn(),
            TimeRemainingColumn(),
        )
        with Progress(*columns, refresh_per_second=0.5) as progress:
            task = progress.add_task(self.name, total=self.total, completed=self.first)
            saved = time.monotonic()
            for step in range(self.first, self.total):
                torch.manual_seed(step)
                yield step
                figures = "  ".join(f"{key} {value:.4f}" for key, value in self.averages.items())
                progress.update(task, completed=step + 1, description=f"{self.name}  {figures}")
                if time.monotonic() - saved > SAVE_EVERY_SECONDS:
                    self.save(step + 1)
                    saved = time.monotonic()
        self.save(self.total)
