from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest
import torch
from diffusers import DDIMScheduler, StableDiffusionPipeline

from d3po_core.checkpoint import MANIFEST, read_manifest
from d3po_core.denoisers import Denoiser
from d3po_core.denoisers.base import WEIGHTS
from d3po_core.errors import ModelMissing
from d3po_core.sampling import initial_latents, sample_groups
from d3po_core.trajectory import file_sha256
from tests.core.conftest import PROMPTS, SAMPLING, TRAINING, Sampled


def test_plain_diffusers_draws_the_same_images_with_the_folder(
    denoiser: Denoiser, tiny_model: Path, trained: Path, sampled: Sampled
) -> None:
    pipeline = StableDiffusionPipeline.from_pretrained(tiny_model, safety_checker=None, requires_safety_checker=False)
    pipeline.scheduler = DDIMScheduler.from_config(pipeline.scheduler.config)
    pipeline.load_lora_weights(trained)
    denoiser.use_adapter(trained)
    group = next(sample_groups(denoiser, PROMPTS, SAMPLING))
    latents = pipeline(
        [group.prompt] * 3,
        num_inference_steps=SAMPLING.num_inference_steps,
        guidance_scale=SAMPLING.guidance_scale,
        eta=SAMPLING.eta,
        latents=initial_latents(denoiser.latent_shape(SAMPLING), SAMPLING.seed, 0).expand(3, -1, -1, -1),
        generator=[torch.Generator().manual_seed(seed) for seed in group.seeds],
        output_type="latent",
    ).images
    torch.testing.assert_close(latents, group.trajectory.latents[:, -1], atol=1e-4, rtol=0)
    assert (latents - sampled.groups[0].trajectory.latents[:, -1]).abs().max() > 0.01


def test_a_checkpoint_is_its_weights_and_its_manifest(trained: Path) -> None:
    assert sorted(path.name for path in trained.iterdir()) == [MANIFEST, WEIGHTS]
    assert [path.name for path in trained.parent.iterdir()] == [trained.name]


def test_the_manifest_says_where_the_weights_came_from(denoiser: Denoiser, trained: Path) -> None:
    manifest = read_manifest(trained)
    assert manifest is not None
    assert (manifest.model, manifest.parent, manifest.params) == (denoiser.model, "base", TRAINING)
    assert manifest.weights == file_sha256(trained / WEIGHTS)
    assert (manifest.groups, manifest.pairs, manifest.updates) == (2, 4, 4)
    assert set(manifest.versions) == {"d3po", "torch", "diffusers", "peft"}


def test_there_is_no_manifest_before_the_round_is_finished(tmp_path: Path) -> None:
    assert read_manifest(tmp_path / "nowhere") is None


@pytest.mark.parametrize(
    ("change", "fault"),
    [
        (lambda text: text.replace('"groups"', '"epoch": 3, "groups"'), "epoch Extra inputs are not permitted"),
        (lambda text: text[:60], "Invalid JSON"),
        (lambda text: "", "Invalid JSON"),
    ],
)
def test_a_damaged_manifest_is_named(trained: Path, tmp_path: Path, change: Callable[[str], str], fault: str) -> None:
    (tmp_path / MANIFEST).write_text(change((trained / MANIFEST).read_text()))
    with pytest.raises(ModelMissing, match=f"{tmp_path / MANIFEST} was damaged: .*{fault}"):
        read_manifest(tmp_path)
