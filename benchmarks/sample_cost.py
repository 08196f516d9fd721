"""What sampling costs with everything recorded and saved, against a plain diffusers call of the same batch and steps.

One thread, the embedded model, one prompt, 7 images, T = 20, classifier-free guidance, eta 1. Ours: `sample_groups`, its
trajectory and log-probabilities written to disk. Plain: the pipeline's own call. Both decode to images. Processor time of
alternating turns; the fastest of each counts.
"""

from __future__ import annotations

import json
import tempfile
from pathlib import Path
from typing import Annotated, Any

import torch
import typer
from rich.console import Console

from benchmarks.measure import processor_seconds
from d3po_core.demo_model import WEIGHTS
from d3po_core.denoisers import load_denoiser
from d3po_core.params import SamplingParams
from d3po_core.sampling import sample_groups

PROMPT = "a cat face"
console = Console(highlight=False)


def run(images: int, steps: int, repeats: int) -> dict[str, Any]:
    torch.set_num_threads(1)
    denoiser = load_denoiser(WEIGHTS)
    params = SamplingParams(images_per_prompt=images, num_inference_steps=steps)
    with tempfile.TemporaryDirectory(prefix="d3po-sample-") as folder:

        def ours() -> None:
            for group in sample_groups(denoiser, [PROMPT], params):
                group.trajectory.save(Path(folder) / "group.safetensors")

        def plain() -> None:
            generators = [torch.Generator().manual_seed(seed) for seed in range(images)]
            denoiser.pipeline(
                [PROMPT] * images,
                num_inference_steps=steps,
                guidance_scale=params.guidance_scale,
                eta=params.eta,
                generator=generators,
            )

        seconds: dict[str, list[float]] = {"ours": [], "plain": []}
        ours(), plain()
        for _ in range(repeats):
            seconds["ours"].append(processor_seconds(ours))
            seconds["plain"].append(processor_seconds(plain))
    best = {name: min(times) for name, times in seconds.items()}
    return {"ours_over_plain": best["ours"] / best["plain"], "seconds": best, "images": images, "steps": steps}


def main(
    images: Annotated[int, typer.Option(help="N, the images of the group.")] = 7,
    steps: Annotated[int, typer.Option(help="T, the denoising steps.")] = 20,
    repeats: Annotated[int, typer.Option(help="Turns of each.")] = 5,
    json_line: Annotated[bool, typer.Option("--json", help="Print the result as one JSON line at the end.")] = False,
) -> None:
    """Measure both and print the ratio."""
    result = run(images, steps, repeats)
    seconds = result["seconds"]
    console.print(f"ours {seconds['ours']:.2f} s, plain {seconds['plain']:.2f} s: {result['ours_over_plain']:.3f}")
    if json_line:
        print(json.dumps(result))


if __name__ == "__main__":
    typer.run(main)
