"""`python -m tests.core.train_child JOB.json`: a training round in a process of its own, one of several or one to be killed."""

from __future__ import annotations

import json
import os
import signal
import sys
from dataclasses import asdict
from pathlib import Path
from typing import Any

import torch
from accelerate import PartialState
from safetensors.torch import save_file

from d3po_core import round_state, training
from d3po_core.denoisers import load_denoiser
from d3po_core.params import TrainingParams
from d3po_core.plan import TrainingGroup
from d3po_core.preferences import Pair


def write_job(path: Path, model: Path, groups: list[TrainingGroup], params: TrainingParams, **more: Any) -> Path:
    """more: out, kill_after (SIGKILL itself after that update), record (a folder for every process's gradients and weights),
    device ("cuda": each process takes its own)."""
    rows = [(str(group.path), group.sha256, [asdict(pair) for pair in group.pairs], group.scores) for group in groups]
    path.write_text(json.dumps({"model": model, "groups": rows, "params": params.model_dump(), **more}, default=str))
    return path


class Recorder(training.Learner):
    """Keeps each update's gradient as the optimizer gets it, before clipping."""

    gradients: dict[str, torch.Tensor] = {}

    def sum_over_processes(self) -> None:
        super().sum_over_processes()
        update = len(self.gradients) // len(self.parameters)
        for number, parameter in enumerate(self.parameters):
            self.gradients[f"{update}.{number}"] = parameter.grad.cpu().clone()


def main(job: dict[str, Any]) -> None:
    round_state.SAVE_EVERY_SECONDS, round_state.LARGEST_SHARE = -1, float("inf")
    device = str(PartialState().device) if job.get("device") == "cuda" else "cpu"
    denoiser = load_denoiser(job["model"], device=device)
    groups = [
        TrainingGroup(Path(path), sha, [Pair(**pair) for pair in pairs], scores) for path, sha, pairs, scores in job["groups"]
    ]

    def observe(update: int, total: int, values: dict[str, float]) -> None:
        print(update, flush=True)
        if update == job.get("kill_after"):
            os.kill(os.getpid(), signal.SIGKILL)

    if record := job.get("record"):
        training.Learner = Recorder
    training.train_round(denoiser, groups, TrainingParams(**job["params"]), Path(job["out"]), observe=observe)
    if record:
        rank = PartialState().process_index
        weights = {name: value.cpu().contiguous() for name, value in denoiser.pipeline.unet.state_dict().items()}
        save_file(weights, Path(record) / f"weights-{rank}")
        save_file(Recorder.gradients, Path(record) / f"gradients-{rank}")


if __name__ == "__main__":
    main(json.loads(Path(sys.argv[1]).read_text()))
