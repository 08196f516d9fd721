"""The measures behind `benchmarks.effect` and `benchmarks.timesteps`; what they measure is for the scripts themselves."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from PIL import Image

from benchmarks import reliability, timesteps
from benchmarks.effect import Setting, best_of, lost
from d3po_core.rewards import colourfulness

REWARDS = np.random.default_rng(0).normal(size=(60, 6)).tolist()


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


def test_three_of_ten_simulated_people_cast_the_votes_of_chance() -> None:
    setting = reliability.Setting()
    annotators = reliability.Annotators(REWARDS, setting, seed=1)
    clean, mixed = (annotators.ballots(clean) for clean in (True, False))
    cast = [vote.annotator for votes in mixed for vote in votes]
    assert cast == [vote.annotator for votes in clean for vote in votes]
    assert {len(votes) for votes in mixed} == {setting.votes}
    assert sorted(cast.count(str(person)) for person in range(10)) == [30] * 10

    def right(person: int, groups: Any) -> float:
        said = [
            (vote.best, rewards)
            for votes, rewards in zip(groups, REWARDS, strict=True)
            for vote in votes
            if vote.annotator == str(person)
        ]
        return float(np.mean([rewards[best] > other for best, rewards in said for k, other in enumerate(rewards) if k != best]))

    for person in range(10):
        assert right(person, mixed) == pytest.approx(annotators.reliability(person), abs=0.17)
        assert right(person, clean) > 0.65


def test_a_draw_is_half_a_win_and_differences_are_taken_comparison_by_comparison() -> None:
    assert reliability.wins_of({"rewards": [2, 1, 0], "base": {"rewards": [1, 1, 1]}}) == [1, 0.5, 0]
    assert reliability.mean_with_interval([1, 0, 1, 0])["mean"] == 0.5


@pytest.mark.heavy
def test_the_benchmark_of_reliability_goes_on_where_it_was_killed(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(reliability, "ARMS", ("clean", "reliability"))
    first = reliability.run(reliability.QUICK, tmp_path)
    assert {arm["comparisons"] for arm in first["arms"].values()} == {4}
    (tmp_path / "seed-1" / "reliability.json").unlink()
    drawn = {path: path.stat().st_mtime_ns for path in tmp_path.rglob("*.safetensors")}
    assert reliability.run(reliability.QUICK, tmp_path) == first
    assert {path: path.stat().st_mtime_ns for path in tmp_path.rglob("*.safetensors")} == drawn
