"""What sampling and training must not compute: counted in rows that pass through the models."""

from __future__ import annotations

import dataclasses
from collections.abc import Iterator
from contextlib import contextmanager
from itertools import pairwise
from pathlib import Path
from typing import Any

import pytest
import torch

from d3po_core.denoisers import Denoiser
from d3po_core.preferences import Pair
from d3po_core.sampling import sample_groups
from d3po_core.training import train_round
from tests.core.conftest import PROMPTS, SAMPLING, TRAINING, Sampled

GUIDED = 2  # rows an image: with the prompt and without


@contextmanager
def rows_of(module: torch.nn.Module) -> Iterator[list[tuple[int, bool]]]:
    """(rows, with a graph) of every call of the module inside."""
    calls: list[tuple[int, bool]] = []

    def count(_module: Any, args: tuple[Any, ...], kwargs: dict[str, Any]) -> None:
        first = args[0] if args else kwargs.get("input_ids", kwargs.get("sample"))
        calls.append((first.shape[0], torch.is_grad_enabled()))

    handle = module.register_forward_pre_hook(count, with_kwargs=True)
    yield calls
    handle.remove()


@pytest.mark.parametrize("images", [2, 5])
def test_sampling_is_one_batch_a_step_and_encodes_each_prompt_once(denoiser: Denoiser, images: int) -> None:
    params = SAMPLING.model_copy(update={"images_per_prompt": images})
    with rows_of(denoiser.module) as steps, rows_of(denoiser.pipeline.text_encoder) as encoded:
        list(sample_groups(denoiser, PROMPTS, params))
    assert [rows for rows, _ in steps] == [len(PROMPTS) * images * GUIDED] * params.num_inference_steps
    assert sum(rows for rows, _ in encoded) == len(PROMPTS) * GUIDED


@pytest.mark.parametrize("pairs", [[Pair(0, 1)], [Pair(a, b) for a in range(3) for b in range(3) if a < b]])
def test_training_evaluates_each_image_once_a_timestep_whatever_the_pairs(
    denoiser: Denoiser, sampled: Sampled, tmp_path: Path, pairs: list[Pair]
) -> None:
    groups = [dataclasses.replace(group, pairs=pairs) for group in sampled.stored]
    after: list[list[tuple[int, bool]]] = []
    with rows_of(denoiser.module) as calls:
        train_round(denoiser, groups, TRAINING, tmp_path / "c", observe=lambda *_: after.append(list(calls)))
    steps = [step for step in sampled.groups[0].trajectory.header.steps if step.sigma > 0]
    once = 1 + 3 * (len(steps) - 1)  # at the first step, all three images of a group are the same x_T
    assert sum(rows for rows, graph in calls if graph) == len(groups) * once * GUIDED
    later = [call for before, done in pairwise(after) for call in done[len(before) :]]
    assert later, "the round had one update only"
    assert all(graph for _, graph in later), "a pass of the reference, or of anything but the policy"
