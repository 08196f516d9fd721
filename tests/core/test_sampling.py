from __future__ import annotations

import dataclasses
from itertools import combinations
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from diffusers import DDIMScheduler
from PIL import Image
from torch.distributions import Normal

from d3po_core.conditioning import Conditioning
from d3po_core.denoisers import Denoiser, load_denoiser
from d3po_core.errors import BadTrajectory, NotFinite, NotReproduced
from d3po_core.params import DuelParams, SamplingParams
from d3po_core.ratios import log_ratios
from d3po_core.sampling import initial_latents, rebuild, sample_duel, sample_groups, seed_of, verify
from d3po_core.trajectory import Trajectory
from tests.core.conftest import PROMPTS, SAMPLING, Sampled

DUEL = DuelParams(num_inference_steps=4, guidance_scale=3.0)
ITEMS = [("a cat", 1), ("a cat", 2), ("two dogs", 1)]


def difference(a: Image.Image, b: Image.Image) -> int:
    """The largest difference of one pixel, 0..255."""
    return int(np.abs(np.asarray(a, dtype=np.int16) - np.asarray(b, dtype=np.int16)).max())


def test_a_group_says_what_it_is(denoiser: Denoiser, sampled: Sampled) -> None:
    first, second = sampled.groups
    assert [(g.position, g.prompt, len(g.images)) for g in sampled.groups] == [(0, PROMPTS[0], 3), (1, PROMPTS[1], 3)]
    assert all(image.size == (32, 32) and image.mode == "RGB" for image in first.images)
    assert len({*first.seeds, *second.seeds}) == 6
    header = second.trajectory.header
    assert (header.prompt, header.position, header.params, list(header.seeds)) == (PROMPTS[1], 1, SAMPLING, second.seeds)
    assert (header.model, header.policy, header.dtype) == (denoiser.model, "base", "float32")


def test_images_of_a_group_share_the_first_latent_and_nothing_else(sampled: Sampled) -> None:
    first, second = (group.trajectory.latents for group in sampled.groups)
    assert first.shape == (3, 5, 4, 8, 8)
    assert torch.equal(first[0, 0], first[1, 0])
    assert torch.equal(first[0, 0], first[2, 0])
    assert not torch.equal(first[0, 0], second[0, 0])
    assert all((first[i, 1] - first[j, 1]).abs().max() > 0.1 for i, j in combinations(range(3), 2))


def test_an_image_depends_neither_on_its_batch_nor_on_its_place_in_it(denoiser: Denoiser, sampled: Sampled) -> None:
    alone = next(sample_groups(denoiser, PROMPTS[1:], SAMPLING, first_position=1))
    together = sampled.groups[1]
    assert alone.seeds == together.seeds
    torch.testing.assert_close(alone.trajectory.latents, together.trajectory.latents, atol=1e-4, rtol=0)
    assert all(difference(a, b) <= 1 for a, b in zip(alone.images, together.images, strict=True))


def test_another_round_seed_draws_other_images(denoiser: Denoiser, sampled: Sampled) -> None:
    other = next(sample_groups(denoiser, PROMPTS[:1], SAMPLING.model_copy(update={"seed": 8})))
    assert (other.trajectory.latents[0] - sampled.groups[0].trajectory.latents[0]).abs().max() > 0.1


@pytest.mark.parametrize("guidance_scale", [1.0, 3.0])
def test_a_plain_diffusers_call_draws_the_same_images(denoiser: Denoiser, guidance_scale: float) -> None:
    params = SAMPLING.model_copy(update={"guidance_scale": guidance_scale})
    group = next(sample_groups(denoiser, PROMPTS[:1], params))
    call = {
        "prompt": [group.prompt] * 3,
        "num_inference_steps": params.num_inference_steps,
        "guidance_scale": guidance_scale,
        "eta": params.eta,
    }

    def theirs(output_type: str) -> torch.Tensor | list[Image.Image]:
        latents = initial_latents(denoiser.latent_shape(params), params.seed, 0).expand(3, -1, -1, -1)
        generators = [torch.Generator().manual_seed(seed) for seed in group.seeds]
        return denoiser.pipeline(**call, latents=latents, generator=generators, output_type=output_type).images

    torch.testing.assert_close(group.trajectory.latents[:, -1], theirs("latent"), atol=1e-4, rtol=0)
    assert all(difference(a, b) <= 1 for a, b in zip(group.images, theirs("pil"), strict=True))


@torch.no_grad()
def test_recorded_log_probs_are_the_density_of_the_stored_latents(denoiser: Denoiser, sampled: Sampled) -> None:
    trajectory = sampled.groups[1].trajectory
    transition = denoiser.transition(SAMPLING)
    encoded = denoiser.encode(PROMPTS[1], SAMPLING).expand(3)
    for k, step in enumerate(transition.steps):
        latents = trajectory.latents[:, k]
        output = denoiser.predict(latents, torch.tensor([step.timestep] * 3), encoded, SAMPLING.guidance_scale)
        normal = Normal(transition.mean(output, latents, [step] * 3), step.sigma)
        expected = normal.log_prob(trajectory.latents[:, k + 1]).mean(dim=(1, 2, 3))
        torch.testing.assert_close(trajectory.log_probs[:, k], expected, atol=1e-4, rtol=0)


def test_a_step_without_a_density_records_zero(denoiser: Denoiser, monkeypatch: pytest.MonkeyPatch) -> None:
    to_one = DDIMScheduler.from_config(denoiser.pipeline.scheduler.config, set_alpha_to_one=True)
    monkeypatch.setattr(denoiser.pipeline, "scheduler", to_one)
    trajectory = next(sample_groups(denoiser, PROMPTS[:1], SAMPLING)).trajectory
    assert trajectory.trainable_steps == [0, 1, 2]
    assert (trajectory.log_probs[:, 3] == 0).all()
    assert (trajectory.log_probs[:, :3] != 0).all()


def test_every_step_is_observed(denoiser: Denoiser) -> None:
    seen: list[tuple[int, int]] = []
    list(sample_groups(denoiser, PROMPTS, SAMPLING, observe=lambda done, total: seen.append((done, total))))
    assert seen == [(1, 4), (2, 4), (3, 4), (4, 4)]


@pytest.mark.parametrize("index", [0, 2])
def test_a_stored_image_can_be_drawn_again(denoiser: Denoiser, sampled: Sampled, index: int) -> None:
    stored = Trajectory.load(sampled.stored[1].path)
    assert difference(verify(denoiser, stored, index), sampled.groups[1].images[index]) <= 1


def test_an_image_that_comes_out_different_is_told(denoiser: Denoiser, sampled: Sampled) -> None:
    trajectory = sampled.groups[0].trajectory
    changed = trajectory.latents.clone()
    changed[1, 2, 0, 3, 3] += 0.01
    with pytest.raises(NotReproduced, match=r"Image 1 of the group for 'a cat' .* differ by up to 1\.0e-02"):
        verify(denoiser, dataclasses.replace(trajectory, latents=changed), 1)
    verify(denoiser, dataclasses.replace(trajectory, latents=changed), 0)


@pytest.mark.parametrize("index", [-1, 3])
def test_an_image_that_is_not_in_the_group_cannot_be_drawn_again(denoiser: Denoiser, sampled: Sampled, index: int) -> None:
    with pytest.raises(BadTrajectory, match=f"images 0 to 2; there is no image {index}"):
        verify(denoiser, sampled.groups[0].trajectory, index)


@pytest.mark.parametrize(
    ("change", "name"),
    [
        ({"model": "m"}, "base model"), ({"policy": "p"}, "adapter"), ({"dtype": "float16"}, "number format"),
        ({"steps": ()}, "scheduler"),
    ],
)  # fmt: skip
def test_an_image_of_something_else_is_not_drawn_again(
    denoiser: Denoiser, sampled: Sampled, change: dict[str, Any], name: str
) -> None:
    trajectory = sampled.groups[0].trajectory
    other = dataclasses.replace(trajectory, header=dataclasses.replace(trajectory.header, **change))
    with pytest.raises(BadTrajectory, match=f"sampled with another {name}"):
        verify(denoiser, other, 0)


def test_a_half_precision_group_is_stored_as_it_ran_and_drawn_again_bit_by_bit(tiny_model: Path) -> None:
    denoiser = load_denoiser(tiny_model, dtype="bfloat16")
    groups = list(sample_groups(denoiser, PROMPTS, SAMPLING))
    trajectory = groups[1].trajectory
    assert (trajectory.latents.dtype, trajectory.log_probs.dtype) == (torch.bfloat16, torch.float32)
    _, latents = rebuild(denoiser, trajectory.header, 2)
    assert torch.equal(latents, trajectory.latents[2])
    with torch.no_grad():
        ratios = torch.stack([log_ratios(denoiser, trajectory, step) for step in trajectory.trainable_steps])
    assert ratios.dtype == torch.float32
    assert ratios.abs().max() < 1e-2


def test_no_prompts_are_no_groups(denoiser: Denoiser) -> None:
    assert list(sample_groups(denoiser, [], SAMPLING)) == []


def test_nan_ends_sampling_at_once(denoiser: Denoiser, monkeypatch: pytest.MonkeyPatch) -> None:
    seen: list[int] = []
    healthy = denoiser.predict

    def failing(latents: torch.Tensor, timesteps: torch.Tensor, conditioning: Conditioning, scale: float) -> torch.Tensor:
        output = healthy(latents, timesteps, conditioning, scale)
        return output * float("nan") if len(seen) == 2 else output

    monkeypatch.setattr(denoiser, "predict", failing)
    with pytest.raises(NotFinite, match="timestep 251; try a lower guidance scale"):
        list(sample_groups(denoiser, PROMPTS, SAMPLING, observe=lambda done, total: seen.append(done)))
    assert seen == [1, 2]


def test_two_identical_policies_draw_the_same_duel(denoiser: Denoiser) -> None:
    first, second = sample_duel(denoiser, ITEMS, DUEL), sample_duel(denoiser, ITEMS, DUEL)
    assert [difference(a, b) for a, b in zip(first, second, strict=True)] == [0, 0, 0]
    assert all(difference(a, b) > 10 for a, b in combinations(first, 2))


def test_a_duels_image_does_not_depend_on_its_batch(denoiser: Denoiser) -> None:
    together = sample_duel(denoiser, ITEMS, DUEL)
    assert difference(sample_duel(denoiser, ITEMS[2:], DUEL)[0], together[2]) <= 1


def test_a_trained_policy_draws_something_else_from_the_same_noise(denoiser: Denoiser, trained: Path) -> None:
    base = sample_duel(denoiser, ITEMS, DUEL)
    denoiser.use_adapter(trained)
    assert all(difference(a, b) > 0.05 for a, b in zip(base, sample_duel(denoiser, ITEMS, DUEL), strict=True))


def test_seeds_are_the_same_on_every_machine() -> None:
    assert seed_of(7, 0, 1) == 8_989_450_545_270_230_591
    assert len({seed_of(7, i, j) for i in range(30) for j in range(30)}) == 900
    assert all(0 <= seed_of(7, i) < 2**63 for i in range(100))


def test_sampling_params_default_to_the_papers_chain() -> None:
    defaults = SamplingParams()
    assert (defaults.num_inference_steps, defaults.guidance_scale, defaults.eta) == (20, 5.0, 1.0)
