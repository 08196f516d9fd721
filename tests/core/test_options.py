"""What each training option changes, and that it changes nothing else."""

from __future__ import annotations

import math
import sys
from pathlib import Path
from typing import Any

import pytest
import torch
from accelerate import Accelerator
from diffusers import UNet2DConditionModel
from safetensors.torch import load_file
from torch import Tensor

from d3po_core import round_state
from d3po_core.checkpoint import read_manifest
from d3po_core.denoisers import Denoiser
from d3po_core.denoisers.base import FULL_WEIGHTS, WEIGHTS
from d3po_core.errors import BadParams, LibraryMissing, ModelMissing
from d3po_core.learner import Learner
from d3po_core.params import SamplingParams, TrainingParams
from d3po_core.plan import Plan, visited
from d3po_core.policy import FullPolicy, LoraPolicy
from d3po_core.sampling import sample_groups
from d3po_core.schedules import learning_rate_at, step_weights
from d3po_core.training import train_round
from tests.core.conftest import PAIRS, PROMPTS, SAMPLING, TRAINING, Sampled, store
from tests.core.test_training import margins

Values = list[dict[str, float]]


def train(denoiser: Denoiser, sampled: Sampled, out: Path, parent: Path | None = None, **options: Any) -> tuple[Any, Values]:
    """The weights that a round with these options ends with, and what it logged."""
    seen: Values = []
    params = TRAINING.model_copy(update=options)
    train_round(denoiser, sampled.stored, params, out, parent, lambda update, total, values: seen.append(values))
    return load_file(out / (FULL_WEIGHTS if params.weights == "full" else WEIGHTS)), seen


def assert_close(one: dict[str, Tensor], other: dict[str, Tensor], atol: float) -> None:
    assert one.keys() == other.keys()
    assert max((one[name] - other[name]).abs().max().item() for name in one) < atol


@pytest.mark.parametrize(
    "options",
    [{"images_per_backward": 1}, {"images_per_backward": 2}, {"gradient_checkpointing": True}, {"images_per_backward": 64}],
)
def test_options_that_save_memory_end_with_the_same_weights(
    denoiser: Denoiser, sampled: Sampled, trained: Path, tmp_path: Path, options: dict[str, Any]
) -> None:
    weights, seen = train(denoiser, sampled, tmp_path / "c", **options)
    assert_close(weights, load_file(trained / WEIGHTS), atol=2e-4)
    assert seen[-1]["loss"] == pytest.approx(read_manifest(trained).final["loss"], abs=1e-6)


@pytest.mark.parametrize("mixed_precision", ["bf16", "fp16"])
def test_half_precision_trains_float32_weights(
    denoiser: Denoiser, sampled: Sampled, tmp_path: Path, mixed_precision: str
) -> None:
    weights, seen = train(denoiser, sampled, tmp_path / "c", mixed_precision=mixed_precision, epochs=2)
    assert {value.dtype for value in weights.values()} == {torch.float32}
    assert all(margins(denoiser, group).mean() > 1e-4 for group in sampled.stored)
    assert abs(seen[0]["log_ratio_mean"]) < 1e-4


def test_the_average_of_the_weights_is_saved(denoiser: Denoiser, sampled: Sampled, trained: Path, tmp_path: Path) -> None:
    weights, _ = train(denoiser, sampled, tmp_path / "c", ema_decay=0.999)
    last = load_file(trained / WEIGHTS)
    ups = [name for name in last if "lora.up" in name or "lora_B" in name]
    assert ups
    assert 0 < sum(weights[name].norm() for name in ups) < 0.99 * sum(last[name].norm() for name in ups)


def test_the_rate_rises_and_falls(denoiser: Denoiser, sampled: Sampled, tmp_path: Path) -> None:
    _, seen = train(denoiser, sampled, tmp_path / "c", lr_schedule="linear", warmup_updates=2)
    assert [values["learning_rate"] for values in seen] == pytest.approx([0.5e-2, 0.75e-2, 0.5e-2, 0.25e-2])
    cosine = TrainingParams(learning_rate=1.0, lr_schedule="cosine")
    assert [learning_rate_at(cosine, k, 4) for k in (0, 2)] == pytest.approx([1.0, 0.5])


def test_sensitivity_weights_even_out_what_a_step_does_to_the_gradient(denoiser: Denoiser) -> None:
    transition = denoiser.transition(SamplingParams())
    steps = [step for step in transition.steps if step.sigma > 0]
    weights = step_weights(transition, steps, "sensitivity")
    one, none = torch.ones(len(steps), 1, 1, 1), torch.zeros(len(steps), 1, 1, 1)
    slopes = (transition.mean(one, none, steps) - transition.mean(none, none, steps)).flatten().abs()
    evened = [w * s / step.sigma for w, s, step in zip(weights, slopes.tolist(), steps, strict=True)]
    assert evened == pytest.approx([evened[0]] * len(steps), rel=1e-4)
    assert sum(weights) / len(weights) == pytest.approx(1)
    assert min(weights) < 0.3 * max(weights)
    assert step_weights(transition, steps, "uniform") == [1.0] * len(steps)


def test_step_weights_reach_the_gradient(denoiser: Denoiser, sampled: Sampled, tmp_path: Path) -> None:
    _, uniform = train(denoiser, sampled, tmp_path / "uniform")
    _, weighted = train(denoiser, sampled, tmp_path / "weighted", step_weighting="sensitivity")
    assert uniform[0]["loss"] == pytest.approx(weighted[0]["loss"], abs=1e-6)
    norms = [name for name in uniform[0] if name.startswith("grad_norm_t")]
    ratios = {name: weighted[0][name] / uniform[0][name] for name in norms}
    transition = denoiser.transition(SAMPLING)
    steps = [step for step in transition.steps if step.sigma > 0]
    for step, weight in zip(steps, step_weights(transition, steps, "sensitivity"), strict=True):
        if f"grad_norm_t{step.timestep}" in ratios:
            assert ratios[f"grad_norm_t{step.timestep}"] == pytest.approx(weight, rel=1e-3)


def test_log_ratios_are_against_the_reference_that_is_asked_for(denoiser: Denoiser, trained: Path, tmp_path: Path) -> None:
    denoiser.use_adapter(trained)
    drawn = next(sample_groups(denoiser, PROMPTS, SAMPLING))
    sampled = Sampled([drawn], [store(drawn, tmp_path, PAIRS[0])])
    _, own = train(denoiser, sampled, tmp_path / "own", trained)
    _, base = train(denoiser, sampled, tmp_path / "base", trained, reference="base")
    assert own[0]["kl_exact"] == 0
    assert own[0]["log_ratio_std"] < 1e-4
    assert base[0]["kl_exact"] > 1e-6
    assert base[0]["log_ratio_std"] > 1e-3
    manifests = {name: read_manifest(tmp_path / name) for name in ("own", "base")}
    assert manifests["own"].reference == manifests["own"].parent == manifests["base"].parent
    assert manifests["base"].reference == "base"


@pytest.mark.parametrize("mixed_precision", ["no", "bf16"])
def test_a_round_is_bounded_by_how_far_it_moved_whatever_its_reference(
    denoiser: Denoiser, trained: Path, tmp_path: Path, mixed_precision: str
) -> None:
    denoiser.use_adapter(trained)
    drawn = next(sample_groups(denoiser, PROMPTS, SAMPLING))
    sampled = Sampled([drawn], [store(drawn, tmp_path, PAIRS[0])])
    options = {"reference": "base", "max_kl": 1e-3, "timesteps_per_update": 1, "mixed_precision": mixed_precision}
    _, near = train(denoiser, sampled, tmp_path / "near", trained, **options, learning_rate=1e-6)
    assert len(near) == 4
    assert all(values["kl_average"] < 1e-3 for values in near)
    assert near[0]["kl_sampler"] == 0 != near[0]["kl"]
    _, far = train(denoiser, sampled, tmp_path / "far", trained, **options, learning_rate=0.1)
    assert 1 < len(far) < 4
    _, own = train(denoiser, sampled, tmp_path / "own", trained, mixed_precision=mixed_precision)
    assert "kl_sampler" not in own[0]


def test_a_reference_may_be_any_checkpoint(denoiser: Denoiser, trained: Path, sampled: Sampled, tmp_path: Path) -> None:
    seen: Values = []
    train_round(
        denoiser, sampled.stored, TRAINING, tmp_path / "c", None, lambda k, n, values: seen.append(values), reference=trained
    )
    manifest = read_manifest(tmp_path / "c")
    assert (manifest.parent, manifest.reference) == ("base", read_manifest(trained).weights)
    assert seen[0]["log_ratio_std"] > 2e-4
    assert seen[0]["kl_exact"] > 1e-6


def test_the_exact_kl_and_its_estimate_agree(denoiser: Denoiser, sampled: Sampled, tmp_path: Path) -> None:
    """Both measured at the update whose number is a multiple of ten; log-ratios are means over 256 latent dimensions."""
    _, seen = train(denoiser, sampled, tmp_path / "c", epochs=3, timesteps_per_update=1)
    assert [update for update, values in enumerate(seen) if "kl_exact" in values] == [0, 10, 20]
    assert seen[0]["kl_exact"] == 0
    assert 0 < seen[10]["kl_exact"] < seen[20]["kl_exact"]


def test_the_lora_has_the_shape_asked_for(denoiser: Denoiser, sampled: Sampled, tmp_path: Path) -> None:
    weights, _ = train(denoiser, sampled, tmp_path / "c", lora_rank=3, lora_alpha=6, lora_targets=("to_v",))
    assert all(".to_v." in name for name in weights)
    assert {min(value.shape) for value in weights.values()} == {3}
    carried = next(sample_groups(denoiser, PROMPTS, SAMPLING)).trajectory.latents
    denoiser.use_adapter(None)
    denoiser.use_adapter(tmp_path / "c")
    torch.testing.assert_close(next(sample_groups(denoiser, PROMPTS, SAMPLING)).trajectory.latents, carried)
    other = TRAINING.model_copy(update={"lora_rank": 3, "lora_targets": ("to_v",)})
    with pytest.raises(ModelMissing, match="is a LoRA with alpha 6 on to_v; this round asks for alpha 3 on to_v"):
        LoraPolicy(denoiser, other, tmp_path / "c")


def test_a_lora_on_layers_that_are_not_there_is_refused(denoiser: Denoiser, sampled: Sampled, tmp_path: Path) -> None:
    with pytest.raises(BadParams, match="The unet takes no LoRA on to_nowhere"):
        train(denoiser, sampled, tmp_path / "c", lora_targets=("to_nowhere",))
    train(denoiser, sampled, tmp_path / "c")


def test_full_weights_are_trained_saved_continued_and_taken_off_again(
    denoiser: Denoiser, sampled: Sampled, tmp_path: Path
) -> None:
    options = {"weights": "full", "learning_rate": 1e-3}
    weights, seen = train(denoiser, sampled, tmp_path / "first", **options)
    assert seen[-1]["log_ratio_std"] > 1e-4
    plain = UNet2DConditionModel.from_pretrained(tmp_path / "first").state_dict()
    assert all(torch.equal(plain[name], value) for name, value in weights.items())
    tuned = next(sample_groups(denoiser, PROMPTS, SAMPLING))
    denoiser.use_adapter(None)
    assert torch.equal(next(sample_groups(denoiser, PROMPTS, SAMPLING)).trajectory.latents, sampled.groups[0].trajectory.latents)
    denoiser.use_adapter(tmp_path / "first")
    again = next(sample_groups(denoiser, PROMPTS, SAMPLING))
    assert torch.equal(again.trajectory.latents, tuned.trajectory.latents)
    assert again.trajectory.header == tuned.trajectory.header
    drawn = Sampled([again], [store(again, tmp_path, PAIRS[0])])
    _, seen = train(denoiser, drawn, tmp_path / "second", tmp_path / "first", **options)
    assert seen[0]["log_ratio_std"] < 1e-4
    assert read_manifest(tmp_path / "second").parent == read_manifest(tmp_path / "first").weights


def test_full_weights_start_from_full_weights_in_float32(denoiser: Denoiser, trained: Path, monkeypatch: Any) -> None:
    with pytest.raises(ModelMissing, match="is a LoRA; full weights start from full weights"):
        FullPolicy(denoiser, trained)
    monkeypatch.setattr(denoiser, "dtype", torch.bfloat16)
    with pytest.raises(BadParams, match="Full weights are trained in float32"):
        FullPolicy(denoiser, None)


def test_an_option_without_its_library_is_refused(
    denoiser: Denoiser, sampled: Sampled, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setitem(sys.modules, "bitsandbytes.optim", None)
    with pytest.raises(LibraryMissing, match=r"needs the package bitsandbytes, .* pip install 'd3po\[eight-bit\]'"):
        train(denoiser, sampled, tmp_path / "c", optimizer="adamw_8bit")
    assert not (tmp_path / "c").exists()


EIGHT_BIT: dict[str, Any] = {"optimizer": "adamw_8bit", "weights": "full", "learning_rate": 1e-3, "adam_epsilon": 1e-6}
"""bitsandbytes keeps tensors of fewer than 4096 entries in float32; of the tiny model's only some full weights are larger."""


def test_eight_bit_adam_trains_as_adam_does(denoiser: Denoiser, sampled: Sampled, tmp_path: Path) -> None:
    pytest.importorskip("bitsandbytes", reason="not in the lock file, as it slows every start: pip install 'd3po[eight-bit]'")
    params = TRAINING.model_copy(update=EIGHT_BIT)
    start = {name: value.clone() for name, value in denoiser.module.state_dict().items()}
    groups = sampled.stored
    learner = Learner(FullPolicy(denoiser, None), groups, params, Accelerator(cpu=True))
    for number, update in enumerate(visited(Plan([(0, 1, 2, 3)] * 2, params), groups)):
        learner.learn(update, number)
    states = [state["state1"].dtype for state in learner.optimizer.state.values()]
    assert set(states) == {torch.uint8, torch.float32}
    eight = {name: value - start[name] for name, value in denoiser.module.state_dict().items()}
    denoiser.use_adapter(None)
    weights, _ = train(denoiser, sampled, tmp_path / "c", **{**EIGHT_BIT, "optimizer": "adamw"})
    plain = {name: weights[name] - start[name] for name in start}
    apart = sum((eight[name] - plain[name]).norm() ** 2 for name in start) ** 0.5
    assert apart < 0.2 * sum(plain[name].norm() ** 2 for name in start) ** 0.5


def test_a_round_of_eight_bit_adam_is_continued_bit_by_bit(
    denoiser: Denoiser, sampled: Sampled, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    pytest.importorskip("bitsandbytes", reason="not in the lock file, as it slows every start: pip install 'd3po[eight-bit]'")
    monkeypatch.setattr(round_state, "SAVE_EVERY_SECONDS", -1)
    monkeypatch.setattr(round_state, "LARGEST_SHARE", math.inf)
    whole, _ = train(denoiser, sampled, tmp_path / "whole", **EIGHT_BIT)

    def kill(update: int, total: int, values: dict[str, float]) -> None:
        if update == 2:
            raise KeyboardInterrupt

    params = TRAINING.model_copy(update=EIGHT_BIT)
    with pytest.raises(KeyboardInterrupt):
        train_round(denoiser, sampled.stored, params, tmp_path / "killed", observe=kill)
    denoiser.use_adapter(None)
    continued, seen = train(denoiser, sampled, tmp_path / "killed", **EIGHT_BIT)
    assert len(seen) == 2
    assert all(torch.equal(continued[name], value) for name, value in whole.items())
