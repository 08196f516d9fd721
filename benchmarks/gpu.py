"""How well sampling and training use a GPU: images a second, and model FLOP utilisation against what its matrix units give.

Models of Stable Diffusion 1.5's and XL's shapes with random bfloat16 weights, made here. Sampling is `sample_groups`, pixels and
log-probabilities included; training is the library's own loop on a stored group, a LoRA, every timestep. Utilisation counts
the operations that the model's formulas ask for (benchmarks/flops.py), text encoders and optimizer left out, against the best
rate of a large matrix product in the same run. Each model runs as loaded and compiled.
"""

from __future__ import annotations

import gc
import json
import sys
import tempfile
import time
from collections.abc import Callable
from itertools import combinations
from pathlib import Path
from typing import Annotated, Any

import torch
import typer
from accelerate import Accelerator
from rich.console import Console
from rich.table import Table

from benchmarks.flops import decode_flops, predict_flops
from benchmarks.measure import PeakMemory
from benchmarks.random_models import SD15, SDXL, Shape, random_pipeline, tiny
from d3po_core.denoisers import Denoiser
from d3po_core.denoisers.loading import denoiser_of
from d3po_core.learner import Learner
from d3po_core.params import SamplingParams, TrainingParams
from d3po_core.plan import Plan, TrainingGroup, visited
from d3po_core.policy import LoraPolicy
from d3po_core.preferences import Pair
from d3po_core.sampling import SampledGroup, sample_groups

PROMPT = "a cat on a hill"
CEILING_SIDES = (4096, 8192, 16384)
CEILING_SECONDS = 1.0
NO_GPU = "This measures a GPU, and PyTorch sees no CUDA device here; --tiny runs the same code in small on the CPU."
console = Console(highlight=False, width=140)


class Machine:
    """Where it runs: a clock that waits for the device, and the largest memory in use."""

    def __init__(self, device: str) -> None:
        self.device = torch.device(device)
        self.is_cuda = self.device.type == "cuda"
        self.name = torch.cuda.get_device_name() if self.is_cuda else "CPU, tiny shapes: these numbers mean nothing"

    def wait(self) -> None:
        if self.is_cuda:
            torch.cuda.synchronize()

    def seconds(self, work: Callable[[], object], repeats: int) -> float:
        """Of one work(), the mean of `repeats` in a row."""
        self.wait()
        began = time.perf_counter()
        for _ in range(repeats):
            work()
        self.wait()
        return (time.perf_counter() - began) / repeats

    def peak_bytes(self, work: Callable[[], object]) -> int:
        """Device memory in use at most while work() runs, weights included; on the CPU anonymous memory."""
        if not self.is_cuda:
            with PeakMemory() as peak:
                work()
            return peak.bytes
        torch.cuda.reset_peak_memory_stats()
        work()
        return torch.cuda.max_memory_allocated()


def matmul_ceiling(machine: Machine, sides: tuple[int, ...], seconds: float) -> float:
    """Operations a second of the fastest square bfloat16 product, each size kept up for about `seconds`."""
    rates = []
    for side in sides:
        left, right = (torch.randn(side, side, device=machine.device, dtype=torch.bfloat16) for _ in range(2))
        product = torch.empty_like(left)

        def multiply(left: torch.Tensor = left, right: torch.Tensor = right, product: torch.Tensor = product) -> None:
            torch.matmul(left, right, out=product)

        once = machine.seconds(multiply, 3)
        rates.append(2 * side**3 / machine.seconds(multiply, max(1, round(seconds / once))))
    return max(rates)


class Bench:
    """One model, a batch to sample and a group to train on."""

    def __init__(self, machine: Machine, shape: Shape, steps: int, compiled: bool, folder: Path) -> None:
        self.machine, self.shape = machine, shape
        pipeline = random_pipeline(shape, str(machine.device), torch.bfloat16)
        self.denoiser: Denoiser = denoiser_of(pipeline, "random weights", compiled)
        self.sampling = SamplingParams(images_per_prompt=shape.images, num_inference_steps=steps)
        self.folder = folder

    def sample(self) -> list[SampledGroup]:
        return list(sample_groups(self.denoiser, [PROMPT] * self.shape.prompts, self.sampling))

    def sampling_flops(self) -> int:
        images = self.shape.prompts * self.shape.images
        conditioning = self.denoiser.encode(PROMPT, self.sampling)
        once = predict_flops(self.denoiser, conditioning, self.sampling, images)
        return self.sampling.num_inference_steps * once + decode_flops(self.denoiser, self.sampling, images)

    def start_training(self) -> None:
        """Put on a LoRA and store a group of as many images as are trained at once, ranked."""
        few = self.sampling.model_copy(update={"images_per_prompt": self.shape.trained})
        self.trajectory = next(sample_groups(self.denoiser, [PROMPT], few)).trajectory
        path = self.folder / "group.safetensors"
        pairs = [Pair(*pair) for pair in combinations(range(self.shape.trained), 2)]
        self.group = TrainingGroup(path, self.trajectory.save(path), pairs)
        params = TrainingParams(lora_rank=8, timesteps_per_update=2, timestep_fraction=1)
        self.policy = LoraPolicy(self.denoiser, params)
        self.learner = Learner(self.policy, [self.group], params, Accelerator(cpu=not self.machine.is_cuda))
        self.plan = Plan([tuple(self.trajectory.trainable_steps)], params)

    def train(self) -> None:
        for number, update in enumerate(visited(self.plan, [self.group])):
            self.learner.learn(update, number)

    def training_flops(self) -> int:
        """At the first step all images share x_T: one of them is evaluated. Exact KL and recomputation are not counted."""
        told, params, adapter = self.trajectory.conditioning, self.sampling, self.policy.config
        shared, every = (predict_flops(self.denoiser, told, params, n, adapter) for n in (1, self.shape.trained))
        return sum(shared if step == 0 else every for step in self.trajectory.trainable_steps)


def measure(machine: Machine, shape: Shape, steps: int, repeats: int, compiled: bool, ceiling: float) -> dict[str, Any]:
    with tempfile.TemporaryDirectory(prefix="d3po-gpu-") as folder:
        bench = Bench(machine, shape, steps, compiled, Path(folder))
        bench.sample()  # compiles, chooses algorithms
        sampling_peak = machine.peak_bytes(bench.sample)
        sampling = machine.seconds(bench.sample, repeats)
        bench.start_training()
        bench.train()
        training_peak = machine.peak_bytes(bench.train)
        training = machine.seconds(bench.train, repeats)
        row = {
            "model": shape.name,
            "compiled": compiled,
            "steps": steps,
            "images_sampled_at_once": shape.prompts * shape.images,
            "images_trained_at_once": shape.trained,
            "images_per_second_sampled": shape.prompts * shape.images / sampling,
            "images_per_second_trained": shape.trained / training,
            "sampling_utilisation": bench.sampling_flops() / sampling / ceiling,
            "training_utilisation": bench.training_flops() / training / ceiling,
            "sampling_peak_bytes": sampling_peak,
            "training_peak_bytes": training_peak,
        }
    del bench
    gc.collect()
    torch.cuda.empty_cache()
    return row


def run(
    machine: Machine, shapes: list[Shape], steps: int, repeats: int, ways: list[bool], sides: tuple[int, ...]
) -> dict[str, Any]:
    ceiling = matmul_ceiling(machine, sides, CEILING_SECONDS)
    rows = [measure(machine, shape, steps, repeats, compiled, ceiling) for shape in shapes for compiled in ways]
    versions = {"torch": torch.__version__, "cuda": torch.version.cuda}
    return {"device": machine.name, "matmul_tflops": ceiling / 1e12, "versions": versions, "models": rows}


def show(result: dict[str, Any]) -> None:
    console.print(f"{result['device']}; bfloat16 matrix product {result['matmul_tflops']:.3g} TFLOP/s")
    table = Table("model", "compiled", "sampled, images/s", "of the ceiling", "GiB", "trained, images/s", "of the ceiling", "GiB")
    for row in result["models"]:
        cells = [row["model"], "yes" if row["compiled"] else "no"]
        for what, key in (("sampling", "sampled"), ("training", "trained")):
            cells.append(f"{row[f'images_per_second_{key}']:.2f}")
            cells += [f"{row[f'{what}_utilisation']:.1%}", f"{row[f'{what}_peak_bytes'] / 2**30:.1f}"]
        table.add_row(*cells)
    console.print(table)


def main(
    steps: Annotated[int, typer.Option(help="T, the denoising steps.")] = 20,
    repeats: Annotated[int, typer.Option(help="Batches sampled and groups trained under the clock.")] = 3,
    compiled: Annotated[bool, typer.Option(help="Measure the compiled network beside the plain one.")] = True,
    small: Annotated[bool, typer.Option("--tiny", help="Tiny shapes on the CPU, to see that it runs.")] = False,
    json_line: Annotated[bool, typer.Option("--json", help="Print the result as one JSON line at the end.")] = False,
) -> None:
    """Measure both models and print the table."""
    if not small and not torch.cuda.is_available():
        print(NO_GPU, file=sys.stderr)
        raise typer.Exit(1)
    machine = Machine("cpu" if small else "cuda")
    shapes = [tiny(shape) if small else shape for shape in (SD15, SDXL)]
    sides = (256,) if small else CEILING_SIDES
    result = run(machine, shapes, steps, repeats, [False, True] if compiled else [False], sides)
    show(result)
    if json_line:
        print(json.dumps(result))


if __name__ == "__main__":
    typer.run(main)
