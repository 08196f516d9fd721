"""Reward against images sampled: D3PO, DDPO, DPOK and reward-weighted regression on the embedded model, one objective a call.

Each method gets the same number of configurations on a tuning seed of its own; the best one by a rule that is the same for all
goes through every other seed. A call after a kill goes on where the last one ended, and a finished call trains nothing.
"""

from __future__ import annotations

import json
import os
import threading
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ProcessPoolExecutor, as_completed
from contextlib import contextmanager
from dataclasses import asdict
from multiprocessing import get_context, parent_process
from pathlib import Path
from typing import Annotated, Any

import torch
import typer

from benchmarks.curve_figures import controls, draw, table
from benchmarks.curve_results import METHODS, chosen, collect
from benchmarks.curve_runs import Config, Row, Setting, folder_of, rows_in, run_one
from d3po_core.demo_model import WEIGHTS
from d3po_core.denoisers import Denoiser, load_denoiser

SPREAD = {"compressibility": 0.2, "incompressibility": 0.2, "colourfulness": 25.0}
"""Standard deviation of the base model's rewards, about; the unit of the regression's temperature."""
# fmt: off
RATES = {"d3po": (0.07, 0.2, 0.6), "ddpo": (0.0045, 0.013, 0.04), "dpok": (0.0045, 0.013, 0.04), "rwr": (0.0045, 0.013, 0.04)}
# fmt: on
"""Centred on the same step: D3PO's gradient was measured to be a fifteenth of the others' (beta / 2, and the number of pairs)."""

Run = tuple[Config, int]


def grid(objective: str) -> dict[str, list[Config]]:
    """Six configurations a method: three rates, each with two values of what else it has."""
    spread = SPREAD[objective]
    other: dict[str, tuple[str, tuple[Any, Any]]] = {
        "d3po": ("step_weighting", ("uniform", "sensitivity")),
        "ddpo": ("ratio_clip", (1e-4, 1e-2)),
        "dpok": ("ratio_clip", (1e-4, 1e-2)),
        "rwr": ("reward_beta", (1 / spread, 3 / spread)),
    }
    return {
        method: [
            Config(method, (("learning_rate", rate), (other[method][0], value)))
            for value in other[method][1]
            for rate in RATES[method]
        ]
        for method in METHODS
    }


def quick(setting: Setting, configs: dict[str, list[Config]]) -> tuple[Setting, dict[str, list[Config]]]:
    tiny = Setting(setting.objective, 1, 3, 2, epochs=2, tuning_epochs=1, held_out=2, tuning_held_out=2, seeds=(1,))
    return tiny, {method: choices[:1] for method, choices in configs.items()}


_denoiser: Denoiser | None = None


def _start() -> None:
    """In each process: one thread, and an end with the process that started it, even if that was killed."""
    torch.set_num_threads(1)
    if parent := parent_process():
        threading.Thread(target=lambda: (parent.join(), os._exit(1)), daemon=True).start()


def _run(setting: Setting, config: Config, seed: int, out: Path) -> list[Row]:
    global _denoiser
    _denoiser = _denoiser or load_denoiser(WEIGHTS)
    return run_one(_denoiser, setting, config, seed, out, lambda line: print(line, flush=True))


@contextmanager
def runner(setting: Setting, out: Path, jobs: int) -> Iterator[Callable[[Sequence[Run]], dict[Run, list[Row]]]]:
    """Does runs in so many processes at once, in the order given; one job is this process itself."""
    if jobs == 1:
        _start()
        yield lambda runs: {run: _run(setting, *run, out) for run in runs}
        return
    with ProcessPoolExecutor(jobs, get_context("spawn"), _start) as pool:

        def do(runs: Sequence[Run]) -> dict[Run, list[Row]]:
            futures = {pool.submit(_run, setting, *run, out): run for run in runs}
            return {futures[future]: future.result() for future in as_completed(futures)}

        yield do


def run(setting: Setting, configs: dict[str, list[Config]], out: Path, jobs: int, also: Sequence[str] = ()) -> None:
    """All of an objective: the tuning runs, then each method's best on every seed, the methods side by side; then controls."""
    out.mkdir(parents=True, exist_ok=True)
    check_setting(setting, out / "setting.json")
    with runner(setting, out, jobs) as do:
        tuning = [
            (config, setting.tuning_seed) for side_by_side in zip(*configs.values(), strict=True) for config in side_by_side
        ]
        rows = do(tuning)
        best = {method: chosen({c: rows[c, setting.tuning_seed] for c in configs[method]}) for method in METHODS}
        do([(best[method], seed) for seed in setting.seeds for method in METHODS])
        asked_for = [config for choices in configs.values() for config in choices if config.name in also]
        do([(config, seed) for seed in setting.seeds for config in asked_for])


def check_setting(setting: Setting, path: Path) -> None:
    told = json.dumps(asdict(setting), indent=2)
    if path.exists() and path.read_text() != told:
        raise typer.BadParameter(f"{path} is of runs with another setting; name another folder, or move {path.parent} away.")
    path.write_text(told)


def found(setting: Setting, configs: dict[str, list[Config]], out: Path) -> dict[Run, list[Row]]:
    """The rows that are there, of finished and unfinished runs."""
    seeds = (setting.tuning_seed, *setting.seeds)
    runs = [(config, seed) for choices in configs.values() for config in choices for seed in seeds]
    return {run: rows for run in runs if (rows := rows_in(folder_of(out, *run)))}


def main(
    objective: Annotated[str, typer.Option(help="compressibility, incompressibility or colourfulness.")] = "compressibility",
    out: Annotated[Path, typer.Option(help="Where runs, curves.json and the figures are kept.")] = Path("build/curves"),
    jobs: Annotated[int, typer.Option(min=1, help="Runs at once, each on one thread.")] = 2,
    also: Annotated[
        list[str] | None, typer.Option(help="A configuration to compare too, though not chosen: d3po-0.2-uniform.")
    ] = None,
    only_report: Annotated[bool, typer.Option("--report", help="Run nothing; report what is there.")] = False,
    tiny: Annotated[bool, typer.Option("--quick", help="Half a minute's check that it runs; its numbers mean nothing.")] = False,
) -> None:
    """Run what is missing of one objective, then write its figure and its entry of curves.json."""
    if objective not in SPREAD:
        raise typer.BadParameter(f"{objective!r} is not one of {', '.join(SPREAD)}.")
    setting, configs = Setting(objective), grid(objective)
    if tiny:
        out, (setting, configs) = out / "quick", quick(setting, configs)
    if unknown := set(also or ()) - {config.name for choices in configs.values() for config in choices}:
        raise typer.BadParameter(f"The grid has no {', '.join(sorted(unknown))}.")
    if not only_report:
        run(setting, configs, out / objective, jobs, also or ())
    result = collect(setting, configs, found(setting, configs, out / objective))
    path = out / "curves.json"
    results = json.loads(path.read_text()) if path.exists() else {}
    path.write_text(json.dumps(results | {objective: result}, indent=1) + "\n", encoding="utf-8")
    if result["curves"]:
        draw(result, out / f"curves-{objective}.svg")
        print(table(result))
        print(controls(result))
    print(f"missing: {', '.join(result['missing']) or 'nothing'}")


if __name__ == "__main__":
    typer.run(main)
