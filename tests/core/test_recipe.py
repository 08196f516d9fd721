"""The embedded model's own settings, on the embedded model."""

from __future__ import annotations

from pathlib import Path

import torch
from safetensors.torch import load_file

from d3po_core.checkpoint import read_manifest
from d3po_core.demo_model import WEIGHTS, recipe
from d3po_core.denoisers import load_denoiser
from d3po_core.denoisers.base import WEIGHTS as LORA
from d3po_core.plan import TrainingGroup
from d3po_core.preferences import Pair
from d3po_core.sampling import sample_groups
from d3po_core.training import train_round


def test_a_round_trains_the_upper_attention_block_and_the_next_goes_on_with_it(tmp_path: Path) -> None:
    """Two steps that count: enough for the shape of what is trained, not for a better picture."""
    denoiser = load_denoiser(WEIGHTS)
    sampling = recipe.SAMPLING.model_copy(update={"images_per_prompt": 2, "num_inference_steps": 2})
    parent: Path | None = None
    for number in (1, 2):
        group = next(sample_groups(denoiser, ["a cat face"], sampling))
        path = tmp_path / f"{number}.safetensors"
        stored = TrainingGroup(path, group.trajectory.save(path), [Pair(0, 1)])
        out = tmp_path / f"checkpoint-{number}"
        train_round(denoiser, [stored], recipe.TRAINING, out, parent)
        parent = out
    weights = load_file(tmp_path / "checkpoint-2" / LORA)
    layers = {name.removeprefix("unet.").split(".lora")[0] for name in weights}
    assert layers == set(recipe.TRAINING.lora_targets)
    assert {min(value.shape) for value in weights.values()} == {recipe.TRAINING.lora_rank}
    assert any(not torch.equal(value, load_file(tmp_path / "checkpoint-1" / LORA)[name]) for name, value in weights.items())
    manifest = read_manifest(tmp_path / "checkpoint-2")
    assert manifest is not None
    assert manifest.params == recipe.TRAINING
