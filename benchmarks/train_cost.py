"""What training one group costs: the published loop, ours, and a bare forward and backward pass of the same batches.

One thread, the embedded model's U-Net, T = 20, classifier-free guidance; full ranking of 7 images, best of 7, and a pair of
images; a LoRA, or full weights with --weights full. Times are processor time, in turns; memory is what each adds to the
loaded model.
"""

from __future__ import annotations

import json
import tempfile
from collections.abc import Callable
from itertools import combinations
from pathlib import Path
from typing import Annotated, Any

import torch
import typer
from accelerate import Accelerator
from rich.console import Console
from rich.table import Table

from benchmarks.measure import PeakMemory, account_exactly, in_child, processor_seconds
from benchmarks.published import PublishedLoop
from d3po_core.demo_model import WEIGHTS
from d3po_core.denoisers import Denoiser, load_denoiser
from d3po_core.learner import Learner
from d3po_core.params import SamplingParams, TrainingParams
from d3po_core.plan import Plan, TrainingGroup, visited
from d3po_core.policy import new_policy
from d3po_core.preferences import Pair
from d3po_core.sampling import sample_groups

MODES = {
    "full ranking of 7": (7, [Pair(*pair) for pair in combinations(range(7), 2)]),
    "best of 7": (7, [Pair(0, other) for other in range(1, 7)]),
    "pairwise": (2, [Pair(0, 1)]),
}
console = Console(highlight=False, width=120)


class Bench:
    """One group on disk, a policy, and the three ways to go through it."""

    def __init__(self, denoiser: Denoiser, folder: Path, images: int, pairs: list[Pair], steps: int, weights: str) -> None:
        self.denoiser = denoiser
        self.params = TrainingParams(timestep_fraction=1.0, max_kl=1.0, weights="full" if weights == "full" else "lora")
        denoiser.use_adapter(None)
        sampling = SamplingParams(images_per_prompt=images, num_inference_steps=steps)
        self.trajectory = next(sample_groups(denoiser, ["a cat face"], sampling)).trajectory
        path = folder / f"{images}.safetensors"
        self.group = TrainingGroup(path, self.trajectory.save(path), pairs)
        self.policy = new_policy(denoiser, self.params, parent=None, reference=None)
        self.learner = Learner(self.policy, [self.group], self.params, Accelerator(cpu=True))
        self.plan = Plan([tuple(self.trajectory.trainable_steps)], self.params)

    def ours(self) -> None:
        for update in visited(self.plan, [self.group]):
            self.learner.learn(update)

    def published(self) -> None:
        PublishedLoop(self.denoiser, [*self.policy.parameters], self.params).learn(self.trajectory, self.group.pairs)

    def floor(self) -> None:
        """The U-Net's forward and backward pass of all images at every timestep, and nothing else."""
        header, latents = self.trajectory.header, self.trajectory.latents
        conditioning = self.trajectory.conditioning.expand(len(latents))
        for k in self.trajectory.trainable_steps:
            timesteps = torch.full((len(latents),), header.steps[k].timestep)
            self.denoiser.predict(latents[:, k], timesteps, conditioning, header.params.guidance_scale).mean().backward()
        self.learner.optimizer.zero_grad(set_to_none=True)


def memory(work: Callable[[], None]) -> int:
    def measured() -> int:
        account_exactly()
        with PeakMemory() as peak:
            work()
        return peak.added

    return int(in_child(measured))


def measure(denoiser: Denoiser, folder: Path, mode: str, steps: int, repeats: int, weights: str) -> dict[str, Any]:
    images, pairs = MODES[mode]
    bench = Bench(denoiser, folder, images, pairs, steps, weights)
    ways: dict[str, Callable[[], None]] = {"published": bench.published, "ours": bench.ours, "floor": bench.floor}
    peak = {name: memory(ways[name]) for name in ("ours", "floor")}
    bench.floor()
    seconds: dict[str, list[float]] = {name: [] for name in ways}
    for _ in range(repeats):
        for name, work in ways.items():
            rounds = 1 if name == "published" else 2
            seconds[name] += [processor_seconds(work) for _ in range(rounds)]
    best = {name: min(times) for name, times in seconds.items()}
    return {
        "mode": mode,
        "pairs": len(pairs),
        "seconds": best,
        "peak_bytes": peak,
        "published_over_ours": best["published"] / best["ours"],
        "ours_over_floor": best["ours"] / best["floor"],
        "peak_memory_over_floor": peak["ours"] / peak["floor"],
    }


def run(steps: int, repeats: int, weights: str) -> dict[str, Any]:
    torch.set_num_threads(1)
    denoiser = load_denoiser(WEIGHTS)
    with tempfile.TemporaryDirectory(prefix="d3po-cost-") as folder:
        rows = [measure(denoiser, Path(folder), mode, steps, repeats, weights) for mode in MODES]
    names = ("published_over_ours", "ours_over_floor", "peak_memory_over_floor")
    flat = rows[0]["peak_bytes"]["ours"] / rows[1]["peak_bytes"]["ours"]
    quoted = {name: rows[0][name] for name in names}
    return {**quoted, "mode": rows[0]["mode"], "weights": weights, "memory_21_pairs_over_6": flat, "modes": rows}


def show(result: dict[str, Any]) -> None:
    table = Table("mode", "published, s", "ours, s", "floor, s", "published / ours", "ours / floor", "peak memory / floor")
    for row in result["modes"]:
        seconds = [f"{row['seconds'][name]:.2f}" for name in ("published", "ours", "floor")]
        ratios = [f"{row[name]:.2f}" for name in ("published_over_ours", "ours_over_floor", "peak_memory_over_floor")]
        table.add_row(row["mode"], *seconds, *ratios)
    console.print(table)


def main(
    steps: Annotated[int, typer.Option(help="T, the denoising steps.")] = 20,
    repeats: Annotated[int, typer.Option(help="Turns; the fastest of each counts.")] = 1,
    weights: Annotated[str, typer.Option(help="What is trained: lora or full.")] = "lora",
    json_line: Annotated[bool, typer.Option("--json", help="Print the result as one JSON line at the end.")] = False,
) -> None:
    """Measure training's cost and print the table."""
    result = run(steps, repeats, weights)
    show(result)
    if json_line:
        print(json.dumps(result))


if __name__ == "__main__":
    typer.run(main)
