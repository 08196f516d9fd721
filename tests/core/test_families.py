"""Every model family goes the whole way on a tiny random pipeline: sample, train, save, reload in plain diffusers."""

from __future__ import annotations

import json
import shutil
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import diffusers
import pytest
import torch
from diffusers import DiffusionPipeline, UNet2DConditionModel
from torch import Tensor

from benchmarks.random_models import SD15, SDXL, Shape, random_pipeline, tiny
from d3po_core.denoisers import Denoiser, load_denoiser
from d3po_core.denoisers.loading import FAMILIES as PIPELINES
from d3po_core.denoisers.loading import denoiser_of
from d3po_core.errors import BadParams, ModelMissing, UnsupportedModel
from d3po_core.params import SamplingParams, TrainingParams
from d3po_core.preferences import Pair
from d3po_core.sampling import SampledGroup, initial_latents, sample_groups, verify
from d3po_core.training import train_round
from d3po_core.trajectory import Trajectory
from d3po_core.transitions import DdimTransition
from tests.core.conftest import store
from tests.factories.tiny_families import FAMILIES, tiny_family

SAMPLING = SamplingParams(images_per_prompt=2, num_inference_steps=3, guidance_scale=3.0, eta=0.9, seed=7, height=32, width=48)
"""eta below 1: at zero terminal SNR diffusers' own step takes the root of a rounding error, negative on some processors."""
TRAINING = TrainingParams(learning_rate=0.1, lora_rank=2, timesteps_per_update=3, timestep_fraction=1)  # one step that shows
WITHOUT_NOISE = 1e-6  # eta of a chain that is the ODE to the last digit of float32
STABLE_DIFFUSION_XL, STABLE_DIFFUSION_3 = "stable-diffusion-xl", "stable-diffusion-3"


@dataclass(frozen=True)
class Family:
    name: str
    folder: Path
    denoiser: Denoiser
    groups: list[SampledGroup]

    @property
    def is_flow(self) -> bool:
        return self.denoiser.component == "transformer"


@pytest.fixture(scope="session", params=FAMILIES)
def _family(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Family:
    folder = tiny_family(request.param, tmp_path_factory.mktemp(request.param))
    denoiser = load_denoiser(folder)
    return Family(request.param, folder, denoiser, list(sample_groups(denoiser, ["a cat", "two dogs"], SAMPLING)))


@pytest.fixture
def family(_family: Family) -> Family:
    _family.denoiser.use_adapter(None)
    return _family


def plain_call(pipeline: DiffusionPipeline, denoiser: Denoiser, group: SampledGroup, params: SamplingParams) -> Tensor:
    """Clean latents [N,C,H,W] of a plain pipeline call with the group's x_T and generators."""
    count, shape = params.images_per_prompt, denoiser.latent_shape(params)
    latents = initial_latents(shape, params.seed, group.position).expand(count, *shape).contiguous()
    call: dict[str, Any] = {
        "prompt": [group.prompt] * count, "height": params.height, "width": params.width, "guidance_scale": params.guidance_scale,
        "num_inference_steps": params.num_inference_steps, "output_type": "latent",
    }  # fmt: skip
    if denoiser.component == "unet":
        generators = [torch.Generator().manual_seed(seed) for seed in group.seeds]
        return pipeline(**call, latents=latents, eta=params.eta, generator=generators).images
    if hasattr(pipeline, "_pack_latents"):
        packed = pipeline(**call, latents=pipeline._pack_latents(latents, count, *shape)).images
        return pipeline._unpack_latents(packed, params.height, params.width, pipeline.vae_scale_factor)
    return pipeline(**call, latents=latents).images


def test_sample_train_save_and_reload_in_plain_diffusers(family: Family, tmp_path: Path) -> None:
    denoiser = family.denoiser
    stored = [store(group, tmp_path, [Pair(1, 0)]) for group in family.groups]
    manifest = train_round(denoiser, stored, TRAINING, tmp_path / "checkpoint")
    assert manifest.updates == 2
    plain = DiffusionPipeline.from_pretrained(family.folder)
    plain.set_progress_bar_config(disable=True)
    if not family.is_flow:
        plain.scheduler = denoiser.pipeline.scheduler
    params = SAMPLING.model_copy(update={"eta": WITHOUT_NOISE}) if family.is_flow else SAMPLING
    finals = []
    for adapter in (None, tmp_path / "checkpoint"):
        denoiser.use_adapter(adapter)
        if adapter:
            plain.load_lora_weights(adapter)
        ours = next(sample_groups(denoiser, ["a cat"], params))
        torch.testing.assert_close(
            plain_call(plain, denoiser, ours, params), ours.trajectory.latents[:, -1], atol=1e-4, rtol=1e-4
        )
        finals.append(ours.trajectory.latents[:, -1])
    assert (finals[0] - finals[1]).abs().max() > 3e-3


def test_a_group_is_what_its_file_says_and_can_be_drawn_again(family: Family, tmp_path: Path) -> None:
    group = family.groups[1]
    loaded = Trajectory.load(tmp_path / "group", group.trajectory.save(tmp_path / "group"))
    assert loaded.header == group.trajectory.header
    assert loaded.tensors().keys() == group.trajectory.tensors().keys()
    assert loaded.latents.shape == (2, 4, 4, 8, 12)
    assert verify(family.denoiser, loaded, 1).size == group.images[1].size == (48, 32)


@pytest.mark.parametrize(("height", "width"), [(72, 40), (64, 136)])
@pytest.mark.parametrize("shape", [SD15, SDXL], ids=lambda shape: shape.name)
def test_sizes_that_do_not_halve_evenly_are_drawn_as_the_pipeline_draws_them(shape: Shape, height: int, width: int) -> None:
    """Latents of 9x5 and 8x17 in U-Nets of four and three levels."""
    denoiser = denoiser_of(random_pipeline(tiny(shape), "cpu", torch.float32), "random weights")
    params = SAMPLING.model_copy(update={"height": height, "width": width})
    group = next(sample_groups(denoiser, ["a cat"], params))
    assert group.images[0].size == (width, height)
    theirs = plain_call(denoiser.pipeline, denoiser, group, params)
    torch.testing.assert_close(theirs, group.trajectory.latents[:, -1], atol=1e-4, rtol=1e-4)


def test_an_image_does_not_depend_on_its_batch(family: Family) -> None:
    alone = next(sample_groups(family.denoiser, ["two dogs"], SAMPLING, first_position=1))
    torch.testing.assert_close(alone.trajectory.latents, family.groups[1].trajectory.latents, atol=1e-4, rtol=0)


def test_a_plain_call_decodes_the_same_pixels(family: Family) -> None:
    latents = family.groups[0].trajectory.latents[:, -1]
    config = family.denoiser.pipeline.vae.config
    pixels = family.denoiser.pipeline.vae.decode(latents / config.scaling_factor + (config.shift_factor or 0.0)).sample
    theirs = family.denoiser.pipeline.image_processor.postprocess(pixels.detach(), output_type="pil")
    assert [image.tobytes() for image in theirs] == [image.tobytes() for image in family.groups[0].images]


def test_a_size_that_the_model_cannot_draw_is_refused(family: Family, monkeypatch: pytest.MonkeyPatch) -> None:
    assert family.denoiser.latent_shape(SAMPLING)[1:] == (8, 12)
    monkeypatch.setattr(family.denoiser.pipeline, "vae_scale_factor", 16)
    with pytest.raises(BadParams, match=r"multiples of \d+ pixels; 40 by 48 is not one of them"):
        list(sample_groups(family.denoiser, ["a cat"], SAMPLING.model_copy(update={"height": 40})))


def test_only_guidance_that_the_model_has_changes_the_prediction(family: Family) -> None:
    denoiser = family.denoiser
    conditioning = denoiser.encode("a cat", SAMPLING).expand(1)
    latents = torch.randn(1, *denoiser.latent_shape(SAMPLING), generator=torch.Generator().manual_seed(0))
    timesteps = torch.tensor([denoiser.transition(SAMPLING).steps[1].timestep])
    with torch.no_grad():
        weak, strong = (denoiser.predict(latents, timesteps, conditioning, scale) for scale in (2.0, 9.0))
    assert torch.equal(weak, strong) == (family.name == "flux-schnell")


@pytest.fixture
def copied(tmp_path: Path, tmp_path_factory: pytest.TempPathFactory) -> Any:
    """A copy of a family's folder with one JSON file changed."""

    def copy(family: str, file: str, **changes: Any) -> Path:
        folder = tiny_family(family, tmp_path / "model")
        path = folder / file
        path.write_text(json.dumps({**json.loads(path.read_text()), **changes}))
        return folder

    return copy


@pytest.mark.parametrize("name", ["PixArtAlphaPipeline", "StableDiffusionXLImg2ImgPipeline", ["somewhere", "Custom"]])
def test_an_unsupported_pipeline_is_refused_by_name(tmp_path: Path, name: Any) -> None:
    (tmp_path / "model_index.json").write_text(json.dumps({"_class_name": name}))
    with pytest.raises(UnsupportedModel) as caught:
        load_denoiser(tmp_path)
    assert f"{tmp_path} is a {name}" in str(caught.value)
    assert all(known in str(caught.value) for known in PIPELINES)


@pytest.mark.parametrize(
    ("family", "scheduler", "sentence"),
    [
        (STABLE_DIFFUSION_3, "EulerDiscreteScheduler", "uses EulerDiscreteScheduler; flow-matching models need"),
        (STABLE_DIFFUSION_XL, "EDMEulerScheduler", "uses EDMEulerScheduler, whose noise schedule DDIMScheduler cannot take over"),
    ],
)
def test_a_scheduler_of_another_kind_is_refused_by_name(tmp_path: Path, family: str, scheduler: str, sentence: str) -> None:
    folder = tiny_family(family, tmp_path / "model")
    shutil.rmtree(folder / "scheduler")
    getattr(diffusers, scheduler)().save_pretrained(folder / "scheduler")
    index = folder / "model_index.json"
    index.write_text(json.dumps({**json.loads(index.read_text()), "scheduler": ["diffusers", scheduler]}))
    with pytest.raises(UnsupportedModel, match=sentence):
        load_denoiser(folder)


def test_a_consistency_model_is_refused(tmp_path: Path) -> None:
    folder = tiny_family(STABLE_DIFFUSION_XL, tmp_path)
    config = UNet2DConditionModel.load_config(folder / "unet")
    UNet2DConditionModel.from_config({**config, "time_cond_proj_dim": 8}).save_pretrained(folder / "unet")
    with pytest.raises(UnsupportedModel, match="embeds the guidance scale"):
        load_denoiser(folder)


def test_a_pipeline_that_lacks_a_weight_is_refused(copied: Any) -> None:
    folder = copied(STABLE_DIFFUSION_XL, "unet/config.json", time_cond_proj_dim=8)
    with pytest.raises(ModelMissing, match=f"{folder} cannot be loaded as a diffusers pipeline"):
        load_denoiser(folder)


@pytest.mark.parametrize(("own", "clips"), [({}, False), ({"clip_sample": True}, True)])
def test_the_predicted_image_is_clipped_where_the_pipelines_own_configuration_says_so(
    copied: Any, own: dict[str, bool], clips: bool
) -> None:
    """An Euler scheduler's configuration knows no clipping; DDIMScheduler's default must not bring it in."""
    denoiser = load_denoiser(copied(STABLE_DIFFUSION_XL, "scheduler/scheduler_config.json", **own))
    transition = denoiser.transition(SAMPLING)
    assert isinstance(transition, DdimTransition)
    assert (transition.clip == 1.0) == clips
    group = next(sample_groups(denoiser, ["a cat"], SAMPLING))
    theirs = plain_call(denoiser.pipeline, denoiser, group, SAMPLING)
    torch.testing.assert_close(theirs, group.trajectory.latents[:, -1], atol=1e-4, rtol=0)


def test_the_vae_of_sdxl_leaves_float16(tmp_path: Path) -> None:
    denoiser = load_denoiser(tiny_family(STABLE_DIFFUSION_XL, tmp_path), dtype="float16")
    assert (denoiser.dtype, denoiser.pipeline.vae.dtype) == (torch.float16, torch.float32)
    latents = torch.full((1, 4, 8, 8), 200.0, dtype=torch.float16)
    assert denoiser.decode(latents)[0].size == (32, 32)
