"""`make curves`: the rule that chooses a method's settings, its intervals, and that runs go on where they were left."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from benchmarks import curves
from benchmarks.curve_results import chosen, collect, interval, wins
from benchmarks.curve_runs import Config, Setting, collapsed, run_one
from d3po_core.demo_model import WEIGHTS
from d3po_core.denoisers import load_denoiser

METHODS = {"d3po", "ddpo", "dpok", "rwr"}


def rows(*seen: tuple[float, float]) -> list[dict[str, Any]]:
    """Rewards of one image, and retrieval, epoch by epoch."""
    return [
        {"epoch": k, "images": 6 * k, "seconds": 1.0, "rewards": [r], "retrieval": shown} for k, (r, shown) in enumerate(seen)
    ]


def files(folder: Path) -> dict[Path, int]:
    return {path: path.stat().st_mtime_ns for path in folder.rglob("*") if path.suffix in (".jsonl", ".safetensors")}


def test_the_setting_of_a_method_is_the_best_that_keeps_nine_tenths_of_the_retrieval() -> None:
    tuned = {"slow": rows((0, 0.8), (1, 0.8)), "good": rows((0, 0.8), (9, 0.6), (2, 0.73)), "wild": rows((0, 0.8), (7, 0.7))}
    assert chosen(tuned) == "good"


def test_where_none_keeps_nine_tenths_eight_are_enough_and_a_collapse_is_the_last_resort() -> None:
    tuned = {"kept": rows((0, 0.8), (1, 0.65)), "lost": rows((0, 0.8), (9, 0.1))}
    assert chosen(tuned) == "kept"
    assert chosen({"lost": tuned["lost"]}) == "lost"


def test_an_interval_is_as_wide_as_seeds_and_prompts_make_it() -> None:
    alike = interval(np.ones((3, 8)))
    assert alike == {"mean": 1, "low": 1, "high": 1}
    seeds = interval(np.array([[0.0] * 8, [1.0] * 8, [2.0] * 8]))
    assert seeds["low"] < 0.3
    assert seeds["high"] > 1.7
    prompts = interval(np.tile(np.arange(100.0), (3, 1)))
    assert prompts["mean"] - prompts["low"] == pytest.approx(1.96 * np.arange(100).std() / 10, rel=0.1)


def test_an_equal_score_is_half_a_win() -> None:
    assert wins([1.0, 2.0, 3.0], [2.0, 2.0, 2.0]) == [0, 0.5, 1]


def test_only_tuning_runs_end_in_a_collapse() -> None:
    setting, gone = Setting("compressibility"), rows((0, 0.8), (9, 0.3))
    assert collapsed(gone, setting, setting.tuning_seed)
    assert not collapsed(gone, setting, setting.seeds[0])


def test_every_method_has_as_many_settings_to_choose_from() -> None:
    for objective in curves.SPREAD:
        grid = curves.grid(objective)
        assert set(grid) == METHODS
        assert {len({config.name for config in configs}) for configs in grid.values()} == {6}


def test_tuning_is_judged_on_other_prompts_than_the_comparison() -> None:
    setting = Setting("compressibility")
    tuning, comparison = (
        {prompt for prompt, _ in setting.held_out_items(seed)} for seed in (setting.tuning_seed, setting.seeds[0])
    )
    assert not tuning & comparison
    assert len(setting.held_out_items(setting.seeds[0])) == len(set(setting.held_out_items(setting.seeds[0]))) == 96


def test_what_is_missing_is_told() -> None:
    setting, grid = curves.quick(Setting("compressibility"), curves.grid("compressibility"))
    tuned = {(grid[method][0], setting.tuning_seed): rows((0, 1), (1, 1)) for method in METHODS - {"rwr"}}
    assert collect(setting, grid, tuned)["missing"][:2] == [f"{grid['rwr'][0].name} tuning", "d3po seed 1"]


def test_a_setting_that_was_not_chosen_is_compared_where_it_went_through_the_seeds_too() -> None:
    setting, grid = Setting("compressibility", epochs=2, tuning_epochs=1), curves.grid("compressibility")

    def run(seed: int, *rewards: float) -> list[dict[str, Any]]:
        items = len(setting.held_out_items(seed))
        return [row | {"rewards": row["rewards"] * items} for row in rows(*((reward, 0.8) for reward in rewards))]

    tuned = {(config, 0): run(0, 0, 9 if config == grid[method][0] else 1) for method in METHODS for config in grid[method]}
    compared = {(grid[method][0], seed): run(seed, 0, 1, 2) for method in METHODS for seed in setting.seeds}
    other = {(grid["d3po"][1], seed): run(seed, 0, 1, 5) for seed in setting.seeds}
    assert collect(setting, grid, tuned | compared)["controls"] == {}
    [(name, found)] = collect(setting, grid, tuned | compared | other)["controls"].items()
    assert (name, found["gain"]["mean"]) == (grid["d3po"][1].name, 5)
    assert {method: told["by_seed"] for method, told in found["ahead_of"].items()} == {method: [3, 3, 3] for method in METHODS}


@pytest.mark.heavy
def test_a_run_that_was_cut_ends_as_one_that_was_not(tmp_path: Path) -> None:
    denoiser, config = load_denoiser(WEIGHTS), Config("d3po", (("learning_rate", 0.1),))
    cut, whole = (Setting("compressibility", 1, 3, 2, epochs=n, held_out=2) for n in (1, 2))
    for folder, setting in (("cut", cut), ("cut", whole), ("whole", whole)):
        run = run_one(denoiser, setting, config, 1, tmp_path / folder, print)
        told = [{key: value for key, value in row.items() if key != "seconds"} for row in run]
        assert [row["images"] for row in told] == [0, 3, 6][: len(told)]
        if setting is whole and folder == "cut":
            first = told
    assert first == told


@pytest.mark.heavy
def test_all_methods_run_and_a_second_call_trains_nothing(tmp_path: Path) -> None:
    def call() -> dict[str, Any]:
        curves.main("colourfulness", tmp_path, jobs=1, only_report=False, tiny=True)
        return dict(json.loads((tmp_path / "quick" / "curves.json").read_text())["colourfulness"])

    result, trained = call(), files(tmp_path)
    assert (call(), files(tmp_path)) == (result, trained)
    assert result["missing"] == []
    assert set(result["curves"]) == set(result["best"]) == METHODS
    assert [point["images"] for point in result["curves"]["ddpo"]] == [0, 3, 6]
    assert "<svg" in (tmp_path / "quick" / "curves-colourfulness.svg").read_text()
