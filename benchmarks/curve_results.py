"""What the runs of `benchmarks.curves` say: which configuration of a method is its best, and how the methods compare.

Intervals hold 95 % of 2,000 bootstrap draws of both seeds and held-out prompts. Everything is compared image by image with the
base model, or with another method of the same seed, on the same prompt, x_T and noise.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import asdict
from statistics import fmean
from typing import Any, TypeVar

import numpy as np

from benchmarks.curve_runs import Config, Row, Setting, collapsed

METHODS = ("d3po", "ddpo", "dpok", "rwr")
KEPT = (0.9, 0.8, 0.0)
"""Shares of the base model's name retrieval: the best configuration is looked for where the first is left, else the next."""
DRAWS = 2_000
Array = np.ndarray[Any, np.dtype[np.float64]]
Named = TypeVar("Named")
Runs = Mapping[tuple[Config, int], Sequence[Row]]


def chosen(tuned: Mapping[Named, Sequence[Row]]) -> Named:
    """Of one method's tuning runs the one of the highest reward at its end, among those whose pictures show what was asked."""
    for share in KEPT:
        ends = {name: fmean(rows[-1]["rewards"]) for name, rows in tuned.items() if retained(rows) >= share}
        if ends:
            return max(ends, key=lambda name: ends[name])
    raise ValueError("There is no tuning run to choose from.")


def retained(rows: Sequence[Row]) -> float:
    """The share of the base model's name retrieval that a run's last row has."""
    return float(rows[-1]["retrieval"] / rows[0]["retrieval"]) if rows[0]["retrieval"] else 1.0


def interval(values: Array) -> dict[str, float]:
    """Mean of `values` [seeds, prompts] and the bounds of its interval, seeds and prompts drawn anew together."""
    random = np.random.default_rng(0)
    seeds, prompts = (random.multinomial(n, [1 / n] * n, DRAWS) / n for n in values.shape)
    means = ((seeds @ values) * prompts).sum(axis=1)
    low, high = np.percentile(means, [2.5, 97.5])
    return {"mean": float(values.mean()), "low": float(low), "high": float(high)}


def by_prompt(setting: Setting, seed: int, values: Sequence[float]) -> list[float]:
    """Means over the images of the same held-out prompt."""
    found: dict[str, list[float]] = {}
    for (prompt, _), value in zip(setting.held_out_items(seed), values, strict=True):
        found.setdefault(prompt, []).append(value)
    return [fmean(of_one) for of_one in found.values()]


def wins(now: Sequence[float], then: Sequence[float]) -> list[float]:
    """1 for each image that beats the base model's, 1/2 where both score the same."""
    return [(a > b) + (a == b) / 2 for a, b in zip(now, then, strict=True)]


def collect(setting: Setting, configs: Mapping[str, Sequence[Config]], runs: Runs) -> dict[str, Any]:
    """The objective's entry of curves.json: as much as the runs that are there tell, and what is missing."""
    tuned = {m: {c: runs[c, setting.tuning_seed] for c in configs[m] if (c, setting.tuning_seed) in runs} for m in METHODS}
    ended = {m: {c: rows for c, rows in tuned[m].items() if ends(setting, rows)} for m in METHODS}
    best = {m: chosen(ended[m]) for m in METHODS if len(ended[m]) == len(configs[m])}
    done = {m: {s: runs[best[m], s] for s in setting.seeds if (best[m], s) in runs} for m in best}
    common = [
        [seed for seed in setting.seeds if len(best) == len(METHODS) and all(len(done[m].get(seed, ())) > epoch for m in METHODS)]
        for epoch in range(setting.epochs + 1)
    ]
    curves = {
        m: [point(setting, done[m], seeds, epoch) for epoch, seeds in enumerate(common) if seeds] for m in done if any(common)
    }
    return {
        "setting": asdict(setting),
        "missing": missing(setting, configs, ended, done),
        "best": {m: {**asdict(best[m]), "changes": dict(best[m].changes)} for m in best},
        "curves": curves,
        "d3po_ahead_of": {m: ahead(setting, done["d3po"], done[m], common) for m in METHODS[1:] if any(common)},
        "controls": {c.name: control(setting, rows, done) for c, rows in controls(setting, best, runs).items()},
        "runs": {m: {str(s): [brief(row, rows[0]) for row in rows] for s, rows in done[m].items()} for m in done},
        "tuning": {m: [trial(c, rows, c == best.get(m)) for c, rows in tuned[m].items()] for m in METHODS},
    }


def ends(setting: Setting, rows: Sequence[Row]) -> bool:
    """Whether a tuning run has come to its end, collapsed or not."""
    return len(rows) > setting.tuning_epochs or collapsed(rows, setting, setting.tuning_seed)


def missing(setting: Setting, configs: Any, ended: Any, done: Any) -> list[str]:
    told = [f"{c.name} tuning" for m in METHODS for c in configs[m] if c not in ended[m]]
    return told + [
        f"{m} seed {seed}" for m in METHODS for seed in setting.seeds if len(done.get(m, {}).get(seed, ())) <= setting.epochs
    ]


def point(setting: Setting, runs: Mapping[int, Sequence[Row]], seeds: Sequence[int], epoch: int) -> dict[str, Any]:
    """One epoch's point of a curve, over those seeds that all methods have."""
    rows = [runs[seed][epoch] for seed in seeds]
    gains = np.array([by_prompt(setting, s, gained(runs[s][epoch], runs[s][0])) for s in seeds])
    won = np.array([by_prompt(setting, s, wins(runs[s][epoch]["rewards"], runs[s][0]["rewards"])) for s in seeds])
    return {
        "epoch": epoch,
        "images": rows[0]["images"],
        "seeds": len(seeds),
        "reward": fmean(fmean(row["rewards"]) for row in rows),
        "gain": rounded(interval(gains)),
        "wins": rounded(interval(won)),
        "retrieval": rounded(spread([row["retrieval"] for row in rows])),
    }


def gained(row: Row, base: Row) -> list[float]:
    return [now - then for now, then in zip(row["rewards"], base["rewards"], strict=True)]


def ahead(setting: Setting, ours: Any, theirs: Any, common: Sequence[Sequence[int]]) -> dict[str, Any]:
    """By how much D3PO's reward is above another method's at the last epoch that a seed of all methods has reached."""
    epoch = max(k for k, seeds in enumerate(common) if seeds)
    differences = [by_prompt(setting, s, gained(ours[s][epoch], theirs[s][epoch])) for s in common[epoch]]
    return {
        "epoch": epoch,
        **rounded(interval(np.array(differences))),
        "by_seed": [round(fmean(one), 4) for one in differences],
    }


def controls(setting: Setting, best: Mapping[str, Config], runs: Runs) -> dict[Config, dict[int, Sequence[Row]]]:
    """Configurations that the rule did not choose and that went through every seed all the same."""
    ended = {(c, seed): rows for (c, seed), rows in runs.items() if seed in setting.seeds and len(rows) > setting.epochs}
    through = [c for c in dict.fromkeys(c for c, _ in ended) if all((c, seed) in ended for seed in setting.seeds)]
    return {c: {seed: ended[c, seed] for seed in setting.seeds} for c in through if c not in best.values()}


def control(setting: Setting, runs: Mapping[int, Sequence[Row]], done: Any) -> dict[str, Any]:
    """Its last epoch, and by how much its reward is above that of each method's chosen configuration."""
    last = [list(setting.seeds) if epoch == setting.epochs else [] for epoch in range(setting.epochs + 1)]
    whole = [m for m in METHODS if all(len(done.get(m, {}).get(seed, ())) > setting.epochs for seed in setting.seeds)]
    end = point(setting, runs, setting.seeds, setting.epochs)
    return end | {"ahead_of": {m: ahead(setting, runs, done[m], last) for m in whole}}


def spread(values: Sequence[float]) -> dict[str, float]:
    return {"mean": fmean(values), "low": min(values), "high": max(values)}


def rounded(values: Mapping[str, float]) -> dict[str, float]:
    return {name: round(value, 4) for name, value in values.items()}


def brief(row: Row, base: Row) -> dict[str, Any]:
    """A run's row without its images."""
    told = {"reward": fmean(row["rewards"]), "retrieval": row["retrieval"], "wins": fmean(wins(row["rewards"], base["rewards"]))}
    seen = {name: row[name] for name in ("pairs", "updates", "untrained") if name in row}
    figures = {name: float(f"{value:.3g}") for name, value in row.get("figures", {}).items()}
    return {"epoch": row["epoch"], "images": row["images"], "seconds": round(row["seconds"]), **rounded(told), **seen, **figures}


def trial(config: Config, rows: Sequence[Row], is_best: bool) -> dict[str, Any]:
    """A configuration of the grid and how its tuning run went."""
    return {"changes": dict(config.changes), "chosen": is_best, "rows": [brief(row, rows[0]) for row in rows]}
