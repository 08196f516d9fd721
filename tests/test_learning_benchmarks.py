"""The measures behind `benchmarks.effect` and `benchmarks.timesteps`; what they measure is for the scripts themselves."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
import torch
from PIL import Image

from benchmarks import timesteps
from benchmarks.effect import Setting, best_of, lost
from d3po_core.rewards import colourfulness


def row(epoch: int, reward: float, retrieval: float) -> dict[str, Any]:
    return {"epoch": epoch, "rewards": [reward], "retrieval": retrieval}


def test_the_best_rate_is_the_highest_reward_that_still_shows_what_was_asked() -> None:
    base = row(0, 1.0, 0.5)
    slow = [base, row(1, 1.1, 0.5), row(2, 1.2, 0.5)]
    fast = [base, row(1, 3.0, 0.45), row(2, 9.0, 0.1)]
    assert best_of({1e-4: slow, 1e-3: fast}) == (1e-3, 1)


def test_only_a_tuning_run_ends_where_the_images_are_lost() -> None:
    setting, rows = Setting(), [row(0, 1.0, 0.5), row(1, 9.0, 0.1)]
    assert lost(rows, setting, setting.tuning_seed)
    assert not lost(rows, setting, setting.seeds[0])
    assert not lost(rows[:1], setting, setting.tuning_seed)


def test_the_differentiable_colourfulness_is_the_one_that_is_scored() -> None:
    pixels = np.random.default_rng(0).integers(0, 256, (3, 16, 16, 3), dtype=np.uint8)
    measured = timesteps.colourfulness(torch.from_numpy(pixels).permute(0, 3, 1, 2).float())
    assert measured.tolist() == pytest.approx([colourfulness(Image.fromarray(image)) for image in pixels], rel=1e-2)


def test_an_advantage_is_what_a_full_ranking_says() -> None:
    assert timesteps.advantages(torch.tensor([2.0, 5.0, 1.0])).tolist() == pytest.approx([0.0, 2 / 3, -2 / 3])


def test_signals_add_up_and_noises_in_their_squares() -> None:
    seen = timesteps.Seen(true=torch.ones(2, 4, 3), noise=torch.ones(4))
    one, all_four = torch.eye(4)[0], torch.ones(4)
    assert timesteps.stands_out(seen, all_four) == pytest.approx(4 * timesteps.stands_out(seen, one))
