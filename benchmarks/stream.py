"""Does training's memory grow with the data set, and how many bytes is a group?

Trains a tiny random model on 200 and on 2,000 groups, one timestep each, and compares the peaks of anonymous memory (RssAnon).
A group's latents are 0.15 MB, so a data set held in memory would show as 300 MB. Bytes are those of a file with Stable
Diffusion 1.5's shapes against the published layout's tensors: latents and next_latents, and embeddings for every image.
"""

from __future__ import annotations

import dataclasses
import json
import tempfile
from itertools import combinations
from pathlib import Path
from typing import Annotated, Any

import torch
import typer
from rich.console import Console

from benchmarks.measure import PeakMemory, account_exactly, in_child
from d3po_core.conditioning import Conditioning
from d3po_core.denoisers import Denoiser, load_denoiser
from d3po_core.params import SamplingParams, TrainingParams
from d3po_core.plan import TrainingGroup
from d3po_core.preferences import Pair
from d3po_core.sampling import sample_groups
from d3po_core.training import train_round
from d3po_core.trajectory import Trajectory
from tests.factories.tiny_pipeline import tiny_pipeline

FEW, MANY = 200, 2_000
SAMPLING = SamplingParams(images_per_prompt=7)
TRAINING = TrainingParams(timestep_fraction=0.05, lora_rank=2)
TIMESTEP_BYTES = 8
console = Console(highlight=False)


def written(drawn: Trajectory, folder: Path, count: int) -> list[TrainingGroup]:
    """`count` files of the same chain under different positions."""
    pairs = [Pair(*pair) for pair in combinations(range(7), 2)]
    groups = []
    for position in range(count):
        path = folder / f"{position}.safetensors"
        one = dataclasses.replace(drawn, header=dataclasses.replace(drawn.header, position=position))
        groups.append(TrainingGroup(path, one.save(path), pairs))
    return groups


def peak_memory(denoiser: Denoiser, groups: list[TrainingGroup], out: Path) -> int:
    def measured() -> int:
        account_exactly()
        with PeakMemory() as peak:
            train_round(denoiser, groups, TRAINING, out)
        return peak.bytes

    return int(in_child(measured))


def group_bytes(drawn: Trajectory, folder: Path) -> tuple[int, int]:
    """Bytes of a group of SD 1.5's shapes in float16: our file, and the published tensors."""
    images, steps, shape, embeds = SAMPLING.images_per_prompt, SAMPLING.num_inference_steps, (4, 64, 64), (77, 768)
    trajectory = Trajectory(
        drawn.header,
        torch.zeros(images, steps + 1, *shape, dtype=torch.float16),
        torch.zeros(images, steps),
        Conditioning(torch.zeros(embeds, dtype=torch.float16), torch.zeros(embeds, dtype=torch.float16)),
    )
    trajectory.save(folder / "one.safetensors")
    latents, embedding = torch.Size(shape).numel(), torch.Size(embeds).numel()
    published = images * (2 * (2 * steps * latents + embedding) + TIMESTEP_BYTES * steps)
    return (folder / "one.safetensors").stat().st_size, published


def run(few: int, many: int) -> dict[str, Any]:
    torch.set_num_threads(1)
    with tempfile.TemporaryDirectory(prefix="d3po-stream-") as name:
        folder = Path(name)
        denoiser = load_denoiser(tiny_pipeline(folder / "model"))
        drawn = next(sample_groups(denoiser, ["a cat"], SAMPLING)).trajectory
        groups = written(drawn, folder / "groups", many)
        peaks = [peak_memory(denoiser, groups[:count], folder / f"out-{count}") for count in (few, many)]
        ours, published = group_bytes(drawn, folder)
    return {
        "memory_2000_over_200": peaks[1] / peaks[0],
        "bytes_over_published": ours / published,
        "groups": [few, many],
        "peak_bytes": peaks,
        "group_bytes": {"ours": ours, "published": published},
    }


def main(
    few: Annotated[int, typer.Option(help="Groups of the smaller data set.")] = FEW,
    many: Annotated[int, typer.Option(help="Groups of the larger data set.")] = MANY,
    json_line: Annotated[bool, typer.Option("--json", help="Print the result as one JSON line at the end.")] = False,
) -> None:
    """Measure both and print them."""
    result = run(few, many)
    few_mb, many_mb = (bytes_ / 2**20 for bytes_ in result["peak_bytes"])
    console.print(f"peak memory on {few} groups {few_mb:.0f} MiB, on {many} {many_mb:.0f}: {result['memory_2000_over_200']:.3f}")
    ours, published = result["group_bytes"]["ours"], result["group_bytes"]["published"]
    console.print(f"bytes a group {ours:,}, published layout {published:,}: {result['bytes_over_published']:.3f}")
    if json_line:
        print(json.dumps(result))


if __name__ == "__main__":
    typer.run(main)
