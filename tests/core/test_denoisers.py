from __future__ import annotations

import dataclasses
import shutil
from pathlib import Path

import pytest
import torch
from safetensors import safe_open
from safetensors.torch import load_file, save_file

from d3po_core.denoisers import Denoiser, load_denoiser
from d3po_core.denoisers.base import WEIGHTS
from d3po_core.denoisers.loading import fingerprint
from d3po_core.errors import BadParams, ModelMissing
from d3po_core.sampling import sample_groups
from tests.core.conftest import PROMPTS, SAMPLING, Sampled


def latents_of(denoiser: Denoiser) -> torch.Tensor:
    return next(sample_groups(denoiser, PROMPTS, SAMPLING)).trajectory.latents


def test_a_missing_folder_is_named(tmp_path: Path) -> None:
    with pytest.raises(ModelMissing, match=f"The base model {tmp_path}/model is not there"):
        load_denoiser(tmp_path / "model")


def test_a_hub_id_is_not_looked_up_where_downloads_are_forbidden(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HF_HUB_OFFLINE", "1")
    with pytest.raises(ModelMissing, match="The base model someone/a-model is not there"):
        load_denoiser("someone/a-model")


def test_a_folder_that_is_no_pipeline_is_refused(tmp_path: Path) -> None:
    with pytest.raises(ModelMissing, match="cannot be loaded as a diffusers pipeline"):
        load_denoiser(tmp_path)


@pytest.mark.parametrize("broken", ["missing", "truncated", "empty"])
def test_a_pipeline_with_broken_weights_is_refused(tiny_model: Path, tmp_path: Path, broken: str) -> None:
    folder = Path(shutil.copytree(tiny_model, tmp_path / "model"))
    weights = folder / "unet" / "diffusion_pytorch_model.safetensors"
    if broken == "missing":
        weights.unlink()
    else:
        weights.write_bytes(weights.read_bytes()[: 1000 if broken == "truncated" else 0])
    with pytest.raises(ModelMissing, match="cannot be loaded as a diffusers pipeline"):
        load_denoiser(folder)


def test_a_pickle_is_not_opened(tiny_model: Path, tmp_path: Path) -> None:
    folder = Path(shutil.copytree(tiny_model, tmp_path / "model"))
    weights = folder / "unet" / "diffusion_pytorch_model.safetensors"
    weights.rename(weights.with_suffix(".bin"))
    with pytest.raises(ModelMissing):
        load_denoiser(folder)


def test_the_fingerprint_follows_weights_and_scheduler(tiny_model: Path, tmp_path: Path) -> None:
    folder = Path(shutil.copytree(tiny_model, tmp_path / "model"))
    original = fingerprint(tiny_model)
    assert fingerprint(folder) == original
    scheduler = folder / "scheduler" / "scheduler_config.json"
    scheduler.write_text(scheduler.read_text().replace("0.012", "0.02"))
    assert fingerprint(folder) != original


def test_no_weight_of_a_loaded_model_can_be_trained_by_accident(denoiser: Denoiser) -> None:
    parts = [denoiser.pipeline.unet, denoiser.pipeline.vae, denoiser.pipeline.text_encoder]
    assert not any(parameter.requires_grad for part in parts for parameter in part.parameters())
    assert not any(part.training for part in parts)


def test_an_adapter_can_be_put_on_and_taken_off(denoiser: Denoiser, trained: Path, sampled: Sampled) -> None:
    denoiser.use_adapter(trained)
    tuned = latents_of(denoiser)
    denoiser.use_adapter(trained)
    assert torch.equal(latents_of(denoiser), tuned)
    denoiser.use_adapter(None)
    assert denoiser.policy == "base"
    assert torch.equal(latents_of(denoiser), sampled.groups[0].trajectory.latents)
    assert (tuned - latents_of(denoiser)).abs().max() > 0.01


def test_a_checkpoint_without_weights_is_refused_and_changes_nothing(denoiser: Denoiser, trained: Path, tmp_path: Path) -> None:
    denoiser.use_adapter(trained)
    carried = denoiser.policy
    with pytest.raises(ModelMissing, match=f"{tmp_path} has no {WEIGHTS}"):
        denoiser.use_adapter(tmp_path)
    assert denoiser.policy == carried


def test_a_broken_checkpoint_is_refused(denoiser: Denoiser, trained: Path, tmp_path: Path) -> None:
    (tmp_path / WEIGHTS).write_bytes((trained / WEIGHTS).read_bytes()[:-1])
    with pytest.raises(ModelMissing, match=f"The checkpoint {tmp_path} cannot be loaded"):
        denoiser.use_adapter(tmp_path)
    assert denoiser.policy == "base"


def test_a_checkpoint_of_another_architecture_is_refused_and_leaves_the_base_model(
    denoiser: Denoiser, trained: Path, sampled: Sampled, tmp_path: Path
) -> None:
    with safe_open(trained / WEIGHTS, framework="pt") as file:
        metadata = file.metadata()
    wider = {name: torch.cat([value, value]) for name, value in load_file(trained / WEIGHTS).items()}
    save_file(wider, tmp_path / WEIGHTS, metadata)
    with pytest.raises(ModelMissing, match=f"The checkpoint {tmp_path} cannot be loaded onto this base model"):
        denoiser.use_adapter(tmp_path)
    assert denoiser.policy == "base"
    assert torch.equal(latents_of(denoiser), sampled.groups[0].trajectory.latents)
    denoiser.use_adapter(trained)


def test_guidance_mixes_the_conditional_and_the_unconditional_output(denoiser: Denoiser) -> None:
    conditioning, empty = (denoiser.encode(prompt, SAMPLING).expand(1) for prompt in ("a cat", ""))
    latents, timesteps = torch.randn(1, *denoiser.latent_shape(SAMPLING)), torch.tensor([500])
    with torch.no_grad():
        conditional = denoiser.predict(latents, timesteps, conditioning, 1.0)
        unconditional = denoiser.predict(latents, timesteps, empty, 1.0)
        guided = denoiser.predict(latents, timesteps, conditioning, 4.0)
    torch.testing.assert_close(guided, unconditional + 4 * (conditional - unconditional), atol=1e-4, rtol=0)


def test_guidance_without_a_negative_prompt_is_refused(denoiser: Denoiser) -> None:
    conditioning = dataclasses.replace(denoiser.encode("a cat", SAMPLING), negative_prompt_embeds=None).expand(1)
    with pytest.raises(BadParams, match="Guidance above 1 needs negative_prompt_embeds"):
        denoiser.predict(torch.zeros(1, *denoiser.latent_shape(SAMPLING)), torch.tensor([500]), conditioning, 2.0)


@pytest.mark.parametrize("content", ["[]", "5", "{}", "{"])
def test_an_index_that_is_none_is_refused(tmp_path: Path, content: str) -> None:
    (tmp_path / "model_index.json").write_text(content)
    with pytest.raises(ModelMissing, match=f"{tmp_path} cannot be loaded as a diffusers pipeline"):
        load_denoiser(tmp_path)


@pytest.mark.parametrize("part", ["tokenizer", "unet", "scheduler"])
def test_a_pipeline_without_one_of_its_folders_is_refused(tiny_model: Path, tmp_path: Path, part: str) -> None:
    folder = Path(shutil.copytree(tiny_model, tmp_path / "model"))
    shutil.rmtree(folder / part)
    with pytest.raises(ModelMissing, match=f"{folder} has no folder {part}"):
        load_denoiser(folder)


@pytest.mark.parametrize("device", ["nowhere", "cuda:99"])
def test_a_device_that_is_not_there_is_refused(tiny_model: Path, device: str) -> None:
    with pytest.raises(BadParams, match=f"There is no device '{device}' for models here"):
        load_denoiser(tiny_model, device=device)


def test_an_unknown_number_format_is_refused(tiny_model: Path) -> None:
    with pytest.raises(BadParams, match="dtype is 'float8'; known are float32, float16, bfloat16"):
        load_denoiser(tiny_model, dtype="float8")
