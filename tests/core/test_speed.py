"""What makes an accelerator fast changes no number: reading late, compiling, the layout of weights."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import torch
from diffusers import UNet2DConditionModel
from safetensors.torch import load_file

from d3po_core import sampling
from d3po_core.conditioning import Conditioning
from d3po_core.denoisers import Denoiser, load_denoiser
from d3po_core.denoisers.base import FULL_WEIGHTS, WEIGHTS
from d3po_core.errors import NotFinite
from d3po_core.sampling import sample_groups
from d3po_core.training import train_round
from d3po_core.transfer import Reading, to_device
from tests.core.conftest import PAIRS, PROMPTS, SAMPLING, TRAINING, Sampled, store


def test_a_step_that_is_read_late_is_the_same_step(denoiser: Denoiser, sampled: Sampled, monkeypatch: Any) -> None:
    monkeypatch.setitem(sampling.QUEUED, "cpu", 1)
    seen: list[tuple[int, int]] = []
    groups = list(sample_groups(denoiser, PROMPTS, SAMPLING, observe=lambda done, total: seen.append((done, total))))
    assert seen == [(1, 4), (2, 4), (3, 4), (4, 4)]
    for group, before in zip(groups, sampled.groups, strict=True):
        assert torch.equal(group.trajectory.latents, before.trajectory.latents)
        assert torch.equal(group.trajectory.log_probs, before.trajectory.log_probs)


@pytest.mark.parametrize("broken", [0, 2, 3])
def test_a_step_that_is_read_late_still_names_the_first_nan(denoiser: Denoiser, monkeypatch: Any, broken: int) -> None:
    monkeypatch.setitem(sampling.QUEUED, "cpu", 1)
    seen: list[int] = []
    begun: list[int] = []
    healthy = denoiser.predict

    def failing(latents: torch.Tensor, timesteps: torch.Tensor, conditioning: Conditioning, scale: float) -> torch.Tensor:
        begun.append(int(timesteps[0]))
        return healthy(latents, timesteps, conditioning, scale) * (float("nan") if len(begun) == broken + 1 else 1.0)

    monkeypatch.setattr(denoiser, "predict", failing)
    timestep = denoiser.transition(SAMPLING).steps[broken].timestep
    with pytest.raises(NotFinite, match=f"NaN or infinity at timestep {timestep};"):
        list(sample_groups(denoiser, PROMPTS, SAMPLING, observe=lambda done, total: seen.append(done)))
    assert seen == list(range(1, broken + 1))
    assert len(begun) == min(broken + 2, 4)


def test_on_the_cpu_nothing_is_copied() -> None:
    tensor = torch.randn(3)
    assert to_device(tensor, torch.device("cpu")) is tensor
    assert Reading(tensor).get() is tensor


@pytest.mark.heavy
def test_a_compiled_network_samples_and_trains_as_the_plain_one(
    tiny_model: Path, sampled: Sampled, trained: Path, tmp_path: Path, monkeypatch: Any
) -> None:
    """Graphs as captured for compilation, run without a compiler."""
    compiler = torch.compile
    monkeypatch.setattr(torch, "compile", lambda module, **options: compiler(module, backend="eager", **options))
    denoiser = load_denoiser(tiny_model, compiled=True)
    assert denoiser.network is not denoiser.module
    group = next(sample_groups(denoiser, PROMPTS[:1], SAMPLING))
    alone = next(sample_groups(load_denoiser(tiny_model), PROMPTS[:1], SAMPLING))
    assert torch.equal(group.trajectory.latents, alone.trajectory.latents)
    train_round(denoiser, sampled.stored, TRAINING, tmp_path / "c")
    assert (tmp_path / "c" / WEIGHTS).read_bytes() == (trained / WEIGHTS).read_bytes()


def test_channels_last_weights_are_trained_saved_and_put_back(denoiser: Denoiser, sampled: Sampled, tmp_path: Path) -> None:
    full = TRAINING.model_copy(update={"weights": "full", "learning_rate": 1e-3})
    train_round(denoiser, sampled.stored, full, tmp_path / "plain")
    denoiser.use_adapter(None)
    denoiser.module.to(memory_format=torch.channels_last)
    group = next(sample_groups(denoiser, PROMPTS[:1], SAMPLING))
    train_round(denoiser, [store(group, tmp_path, PAIRS[0]), sampled.stored[1]], full, tmp_path / "last")
    assert not denoiser.module.conv_in.weight.is_contiguous()
    carried = next(sample_groups(denoiser, PROMPTS[:1], SAMPLING)).trajectory.latents
    one, other = (load_file(tmp_path / name / FULL_WEIGHTS) for name in ("plain", "last"))
    assert max((one[name] - other[name]).abs().max().item() for name in one) < 2e-4
    UNet2DConditionModel.from_pretrained(tmp_path / "last")
    denoiser.use_adapter(None)
    denoiser.use_adapter(tmp_path / "last")
    torch.testing.assert_close(next(sample_groups(denoiser, PROMPTS[:1], SAMPLING)).trajectory.latents, carried)
    denoiser.module.to(memory_format=torch.contiguous_format)
