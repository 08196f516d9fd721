"""A tiny random model, two groups drawn by it, and a checkpoint trained on them; all made once."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import pytest

from d3po_core.denoisers import Denoiser, load_denoiser
from d3po_core.params import SamplingParams, TrainingParams
from d3po_core.plan import TrainingGroup
from d3po_core.preferences import Pair
from d3po_core.sampling import SampledGroup, sample_groups
from d3po_core.training import train_round

SAMPLING = SamplingParams(images_per_prompt=3, num_inference_steps=4, guidance_scale=3.0, seed=7)
TRAINING = TrainingParams(
    learning_rate=1e-2, adam_epsilon=1e-4, lora_rank=2, timesteps_per_update=2, timestep_fraction=1, step_weighting="uniform"
)
PROMPTS = ["a cat", "two dogs on a hill"]
PAIRS = [[Pair(1, 0), Pair(1, 2)], [Pair(0, 2, 0.5), Pair(2, 1)]]


@dataclass(frozen=True)
class Sampled:
    """Two groups, and the same as training takes them."""

    groups: list[SampledGroup]
    stored: list[TrainingGroup]


@pytest.fixture(scope="session")
def _denoiser(tiny_model: Path) -> Denoiser:
    return load_denoiser(tiny_model)


@pytest.fixture
def denoiser(_denoiser: Denoiser) -> Iterator[Denoiser]:
    """The tiny model without any adapter; whatever a test makes it carry is taken off again."""
    _denoiser.use_adapter(None)
    yield _denoiser
    _denoiser.use_adapter(None)


@pytest.fixture(scope="session")
def sampled(_denoiser: Denoiser, tmp_path_factory: pytest.TempPathFactory) -> Sampled:
    folder = tmp_path_factory.mktemp("trajectories")
    _denoiser.use_adapter(None)
    groups = list(sample_groups(_denoiser, PROMPTS, SAMPLING))
    return Sampled(groups, [store(group, folder, pairs) for group, pairs in zip(groups, PAIRS, strict=True)])


@pytest.fixture(scope="session")
def trained(_denoiser: Denoiser, sampled: Sampled, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The folder of a checkpoint whose images visibly differ from the base model's."""
    folder = tmp_path_factory.mktemp("trained") / "checkpoint"
    train_round(_denoiser, sampled.stored, TRAINING, folder)
    return folder


def store(group: SampledGroup, folder: Path, pairs: list[Pair]) -> TrainingGroup:
    path = folder / f"{group.position}.safetensors"
    return TrainingGroup(path, group.trajectory.save(path), pairs)
