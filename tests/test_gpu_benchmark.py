"""The GPU benchmark says so where there is none, its whole path runs in small, and its operations are those of a hand count."""

from __future__ import annotations

import json
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from diffusers import UNet2DConditionModel
from diffusers.models.attention_processor import Attention
from peft import LoraConfig
from torch import nn
from typer.testing import CliRunner

from benchmarks import gpu
from benchmarks.flops import META, counted, decode_flops, predict_flops, without_data
from benchmarks.random_models import SD15, SDXL, Shape, random_pipeline, tiny
from d3po_core.denoisers import Denoiser
from d3po_core.denoisers.loading import denoiser_of
from d3po_core.params import SamplingParams

pytestmark = pytest.mark.heavy

ROOT = Path(__file__).parents[1]
SAMPLING = SamplingParams(images_per_prompt=2, num_inference_steps=3)
ADAPTER = LoraConfig(r=4, target_modules=["to_q", "to_k", "to_v", "to_out.0"])


def hand_count(modules: list[nn.Module], work: Callable[[], object]) -> int:
    """2 operations for every multiplication in every layer; in the backward pass as many again for the layer's input and for
    its weight, where they need a gradient. Attention is two products forward and four backward."""
    total = 0

    def layer(module: Any, given: tuple[torch.Tensor, ...], output: torch.Tensor) -> None:
        nonlocal total
        each = module.weight[0].numel()
        passes = 1 + torch.is_grad_enabled() * (given[0].requires_grad + module.weight.requires_grad)
        total += passes * 2 * output.numel() * each

    def attention(module: Any, given: tuple[torch.Tensor, ...], named: dict[str, Any], output: torch.Tensor) -> None:
        nonlocal total
        hidden, told = given[0], named.get("encoder_hidden_states")
        queries = hidden.flatten(2).shape[2] if hidden.ndim == 4 else hidden.shape[1]
        keys = queries if told is None else told.shape[1]
        passes = 3 if output.requires_grad else 1
        total += passes * 2 * 2 * len(hidden) * queries * keys * module.inner_dim

    hooks = []
    for module in (part for whole in modules for part in whole.modules()):
        if isinstance(module, nn.Linear | nn.Conv2d):
            hooks.append(module.register_forward_hook(layer))
        if isinstance(module, Attention):
            hooks.append(module.register_forward_hook(attention, with_kwargs=True))
    work()
    for hook in hooks:
        hook.remove()
    return total


def small(shape: Shape) -> Denoiser:
    return denoiser_of(random_pipeline(tiny(shape), "cpu", torch.float32), "random weights")


@pytest.mark.parametrize(("shape", "billions"), [(SD15, 803), (SDXL, 6_761)])
def test_operations_of_the_real_shapes_are_those_of_a_hand_count(shape: Shape, billions: int) -> None:
    """Of one sample of 512x512 and one of 1024x1024 pixels, a text of 77 tokens."""
    with META:
        network = UNet2DConditionModel(**shape.unet)
        side, width = shape.unet["sample_size"], shape.unet["cross_attention_dim"]
        added = {"text_embeds": torch.zeros(1, 1280), "time_ids": torch.zeros(1, 6)} if shape is SDXL else None
        latents, timesteps, told = torch.zeros(1, 4, side, side), torch.zeros(1), torch.zeros(1, 77, width)

    def work() -> None:
        network(latents, timesteps, encoder_hidden_states=told, added_cond_kwargs=added)

    with torch.no_grad():
        assert counted(work) == hand_count([network], work)
        assert counted(work) / 1e9 == pytest.approx(billions, abs=1)


@pytest.mark.parametrize("shape", [SD15, SDXL])
def test_operations_of_a_training_step_are_those_of_a_hand_count(shape: Shape) -> None:
    denoiser = small(shape)
    conditioning = denoiser.encode("a cat", SAMPLING)
    forward = predict_flops(denoiser, conditioning, SAMPLING, 3)
    both = predict_flops(denoiser, conditioning, SAMPLING, 3, ADAPTER)
    assert predict_flops(denoiser, conditioning, SAMPLING, 6) == 2 * forward
    network = denoiser.module
    batch = conditioning.expand(3)
    latents, timesteps = torch.randn(3, *denoiser.latent_shape(SAMPLING)), torch.full((3,), 500)

    def predict() -> None:
        denoiser.predict(latents, timesteps, batch, SAMPLING.guidance_scale)

    with torch.no_grad():
        assert forward == hand_count([network], predict)
    network.add_adapter(ADAPTER)
    assert both == hand_count([network], predict)
    assert both > 1.8 * forward


def test_operations_of_decoding_are_those_of_a_hand_count() -> None:
    denoiser = small(SD15)
    vae = denoiser.pipeline.vae
    latents = torch.randn(2, *denoiser.latent_shape(SAMPLING))
    with torch.no_grad():
        assert decode_flops(denoiser, SAMPLING, 2) == hand_count([vae], lambda: vae.decode(latents))


def test_a_model_without_data_takes_no_memory() -> None:
    assert {parameter.device for parameter in without_data(small(SD15).module).parameters()} == {META}


def test_without_a_gpu_it_says_so_and_fails() -> None:
    environment = {"CUDA_VISIBLE_DEVICES": "", "PATH": "", "OMP_NUM_THREADS": "1"}
    command = [sys.executable, "-m", "benchmarks.gpu", "--json"]
    ended = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, timeout=120, env=environment)
    assert (ended.returncode, ended.stdout) == (1, "")
    assert ended.stderr.strip().endswith(gpu.NO_GPU)


def test_its_whole_path_runs_in_small(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(gpu, "CEILING_SECONDS", 0.05)
    command = gpu.typer.Typer()
    command.command()(gpu.main)
    ended = CliRunner().invoke(command, ["--tiny", "--no-compiled", "--steps", "2", "--repeats", "1", "--json"])
    assert ended.exit_code == 0, ended.output
    result = json.loads(ended.stdout.splitlines()[-1])
    assert "these numbers mean nothing" in result["device"]
    assert [row["model"] for row in result["models"]] == ["SD 1.5", "SDXL"]
    for row in result["models"]:
        assert all(row[name] > 0 for name in ("images_per_second_sampled", "images_per_second_trained"))
        assert all(0 < row[name] < 1 for name in ("sampling_utilisation", "training_utilisation"))
        assert all(row[name] > 2**20 for name in ("sampling_peak_bytes", "training_peak_bytes"))
