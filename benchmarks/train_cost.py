"""What training one group costs: the published loop, ours, and a bare forward and backward pass of the same batches.

One thread, the embedded model's U-Net, T = 20, classifier-free guidance; a LoRA and full ranking of 7 images is what the result
quotes, best of 7, a pair of images and full weights follow. Times are processor time, in turns of the three; the published
loop's is timed pair by pair, each pair once, since its pairs cost alike. Memory is what each adds to the loaded model.
"""

from __future__ import annotations

import json
import tempfile
from collections.abc import Callable
from functools import partial
from itertools import combinations
from pathlib import Path
from statistics import fmean, stdev
from typing import Annotated, Any, Literal

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

Kind = Literal["lora", "full"]
MODES = {
    "full ranking of 7": (7, [Pair(*pair) for pair in combinations(range(7), 2)]),
    "best of 7": (7, [Pair(0, other) for other in range(1, 7)]),
    "pairwise": (2, [Pair(0, 1)]),
}
MEASURED: list[tuple[str, Kind]] = [*((mode, "lora") for mode in MODES), ("full ranking of 7", "full")]
console = Console(highlight=False, width=140)


class Bench:
    """One group on disk, a policy, and the three ways to go through it."""

    def __init__(self, denoiser: Denoiser, folder: Path, images: int, pairs: list[Pair], steps: int, weights: Kind) -> None:
        self.denoiser = denoiser
        self.params = TrainingParams(lora_rank=8, timesteps_per_update=2, timestep_fraction=1, weights=weights)
        denoiser.use_adapter(None)
        sampling = SamplingParams(images_per_prompt=images, num_inference_steps=steps)
        self.trajectory = next(sample_groups(denoiser, ["a cat face"], sampling)).trajectory
        path = folder / f"{images}.safetensors"
        self.group = TrainingGroup(path, self.trajectory.save(path), pairs)
        self.policy = new_policy(denoiser, self.params, parent=None, reference=None)
        self.learner = Learner(self.policy, [self.group], self.params, Accelerator(cpu=True))
        self.plan = Plan([tuple(self.trajectory.trainable_steps)], self.params)
        self.loop = PublishedLoop(denoiser, [*self.policy.parameters], self.params)

    def ours(self) -> None:
        """One pass over the group, as a round makes it: the exact KL at every tenth update."""
        for number, update in enumerate(visited(self.plan, [self.group])):
            self.learner.learn(update, number)

    def published(self, pair: Pair) -> None:
        self.loop.learn(self.trajectory, [pair])

    def floor(self, steps: int | None = None) -> None:
        """The U-Net's forward and backward pass of all images at every timestep (or so many), and nothing else."""
        header, latents = self.trajectory.header, self.trajectory.latents
        conditioning = self.trajectory.conditioning.expand(len(latents))
        for k in self.trajectory.trainable_steps[:steps]:
            timesteps = torch.full((len(latents),), header.steps[k].timestep)
            self.denoiser.predict(latents[:, k], timesteps, conditioning, header.params.guidance_scale).mean().backward()
        self.learner.optimizer.zero_grad(set_to_none=True)


def peak_memories(steps: int) -> list[dict[str, int]]:
    """Bytes that ours and the floor add to what is loaded, for every row of MEASURED."""
    account_exactly()  # before anything is loaded: a forked process would fill what its parent freed, unseen
    denoiser = load_denoiser(WEIGHTS)
    peaks = []
    with tempfile.TemporaryDirectory(prefix="d3po-cost-") as folder:
        Bench(denoiser, Path(folder), *MODES["pairwise"], steps, "lora").ours()  # whatever is imported on first use
        for mode, weights in MEASURED:
            bench = Bench(denoiser, Path(folder), *MODES[mode], steps, weights)
            bench.floor(1)
            peaks.append({name: in_child(partial(added, work)) for name, work in (("ours", bench.ours), ("floor", bench.floor))})
    return peaks


def added(work: Callable[[], None]) -> int:
    with PeakMemory() as peak:
        work()
    return peak.added


def measure(denoiser: Denoiser, folder: Path, mode: str, steps: int, repeats: int, weights: Kind) -> dict[str, Any]:
    images, pairs = MODES[mode]
    bench = Bench(denoiser, folder, images, pairs, steps, weights)
    bench.floor(1)
    seconds: dict[str, list[float]] = {"published": [], "ours": [], "floor": []}
    for turn in range(repeats):
        for pair in pairs[turn::repeats] or pairs[:1]:
            seconds["published"].append(len(pairs) * processor_seconds(lambda pair=pair: bench.published(pair)))
        seconds["ours"].append(processor_seconds(bench.ours))
        seconds["floor"].append(processor_seconds(bench.floor))
    mean = {name: fmean(times) for name, times in seconds.items()}
    return {
        "mode": mode,
        "weights": weights,
        "pairs": len(pairs),
        "seconds": mean,
        "relative_error": {name: stdev(times) / len(times) ** 0.5 / mean[name] for name, times in seconds.items()},
        "published_over_ours": mean["published"] / mean["ours"],
        "ours_over_floor": mean["ours"] / mean["floor"],
    }


def run(steps: int, repeats: int) -> dict[str, Any]:
    torch.set_num_threads(1)
    peaks = in_child(lambda: peak_memories(steps))
    denoiser = load_denoiser(WEIGHTS)
    with tempfile.TemporaryDirectory(prefix="d3po-cost-") as folder:
        rows = [measure(denoiser, Path(folder), mode, steps, repeats, weights) for mode, weights in MEASURED]
    for row, peak in zip(rows, peaks, strict=True):
        row |= {"peak_bytes": peak, "peak_memory_over_floor": peak["ours"] / peak["floor"]}
    names = ("mode", "weights", "published_over_ours", "ours_over_floor", "peak_memory_over_floor")
    flat = rows[0]["peak_bytes"]["ours"] / rows[1]["peak_bytes"]["ours"]
    return {**{name: rows[0][name] for name in names}, "steps": steps, "memory_21_pairs_over_6": flat, "modes": rows}


def show(result: dict[str, Any]) -> None:
    table = Table(
        "mode", "trained", "published, s", "ours, s", "floor, s", "published / ours", "ours / floor", "peak memory / floor"
    )
    for row in result["modes"]:
        seconds = [f"{row['seconds'][name]:.2f} ± {row['relative_error'][name]:.1%}" for name in row["seconds"]]
        ratios = [f"{row[name]:.2f}" for name in ("published_over_ours", "ours_over_floor", "peak_memory_over_floor")]
        table.add_row(row["mode"], row["weights"], *seconds, *ratios)
    console.print(table)
    console.print(f"± is one standard error; peak memory of ours with 21 pairs over 6: {result['memory_21_pairs_over_6']:.3f}")


def main(
    steps: Annotated[int, typer.Option(help="T, the denoising steps.")] = 20,
    repeats: Annotated[int, typer.Option(min=2, help="Turns; the mean of each counts.")] = 2,
    json_line: Annotated[bool, typer.Option("--json", help="Print the result as one JSON line at the end.")] = False,
) -> None:
    """Measure training's cost and print the table."""
    result = run(steps, repeats)
    show(result)
    if json_line:
        print(json.dumps(result))


if __name__ == "__main__":
    typer.run(main)
