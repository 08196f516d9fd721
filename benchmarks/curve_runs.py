"""One run of `benchmarks.curves`: epochs of sample, score and train on the embedded model, held-out images after each.

A run's folder holds rows.jsonl, a line an epoch, the drawn groups of the epoch that is under way and the last checkpoint; after a
kill it goes on from there. The first epoch is drawn by the base model whatever the method, so all runs of a seed share it.
"""

from __future__ import annotations

import json
import shutil
import time
from collections import defaultdict
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from statistics import fmean
from typing import Any

from d3po_core.demo_model.judge import name_retrieval
from d3po_core.demo_model.recipe import SAMPLING, TRAINING
from d3po_core.denoisers import Denoiser
from d3po_core.errors import NoPairs, NotFinite
from d3po_core.params import DuelParams, SamplingParams, TrainingParams
from d3po_core.plan import TrainingGroup
from d3po_core.preferences import Pair, dominance
from d3po_core.prompts import prompt_set
from d3po_core.rewards import load_reward
from d3po_core.sampling import sample_duel, sample_groups
from d3po_core.training import train_round

AT_ONCE = 3
"""Groups that are sampled in one batch."""
HELD_OUT_SEED = 77_003
COLLAPSED = 0.5
"""A tuning run ends once less than this share of the base model's name retrieval is left."""
FIGURES = ("pair_accuracy", "clip_fraction", "kl_exact", "kl_base", "grad_norm", "log_ratio_std", "advantage_std", "weight_std")
Row = dict[str, Any]


@dataclass(frozen=True)
class Setting:
    """What all runs of an objective share. A run trains on the same prompts in every epoch, with fresh noise, so that DDPO's
    statistics of each prompt have what they need. Tuning is judged on other held-out prompts than the comparison."""

    objective: str
    prompts: int = 24
    images: int = 8
    steps: int = SAMPLING.num_inference_steps
    epochs: int = 4
    tuning_epochs: int = 3
    held_out: int = 96
    tuning_held_out: int = 64
    seeds: tuple[int, ...] = (1, 2, 3)
    tuning_seed: int = 0

    def sampling(self, seed: int) -> SamplingParams:
        return SamplingParams(images_per_prompt=self.images, num_inference_steps=self.steps, seed=seed)

    def epochs_of(self, seed: int) -> int:
        return self.tuning_epochs if seed == self.tuning_seed else self.epochs

    def held_out_items(self, seed: int) -> list[tuple[str, int]]:
        """Prompts and seeds of the images that follow a run of this seed. Half of the comparison's prompts come twice."""
        reserved = prompt_set("demo").held_out(len(prompt_set("demo").reserved), HELD_OUT_SEED)
        if seed == self.tuning_seed:
            return [(prompt, HELD_OUT_SEED) for prompt in reserved[-self.tuning_held_out :]]
        half = (self.held_out + 1) // 2
        return [(prompt, HELD_OUT_SEED + k) for k in (1, 2) for prompt in reserved[:half]][: self.held_out]


@dataclass(frozen=True)
class Config:
    """A method with its settings: what it changes of the embedded model's recipe."""

    method: str
    changes: tuple[tuple[str, Any], ...]

    @property
    def name(self) -> str:
        return "-".join([self.method, *(f"{value:g}" if isinstance(value, float) else str(value) for _, value in self.changes)])

    def params(self, seed: int, epoch: int) -> TrainingParams:
        """An epsilon far above any method's gradient makes AdamW the same gradient descent with momentum for all of them."""
        changed = {"algorithm": self.method, "adam_epsilon": 1e-2, "seed": 1000 * seed + epoch, **dict(self.changes)}
        return TrainingParams.model_validate(TRAINING.model_dump() | changed)


def run_one(denoiser: Denoiser, setting: Setting, config: Config, seed: int, out: Path, tell: Callable[[str], None]) -> list[Row]:
    """The rows of one run, epoch 0 being the base model; trains what is missing."""
    folder = folder_of(out, config, seed)
    folder.mkdir(parents=True, exist_ok=True)
    rows = rows_in(folder)
    for epoch in range(len(rows), setting.epochs_of(seed) + 1):
        if collapsed(rows, setting, seed):
            break
        row = base_row(denoiser, setting, seed, out) if epoch == 0 else one_epoch(denoiser, setting, config, seed, epoch, out)
        with (folder / "rows.jsonl").open("a") as file:
            file.write(json.dumps(row) + "\n")
        rows.append(row)
        if epoch:
            shutil.rmtree(folder / f"epoch-{epoch - 1}", ignore_errors=True)
            shutil.rmtree(folder / f"drawn-{epoch}", ignore_errors=True)
            told = f"reward {fmean(row['rewards']):.3f}, retrieval {row['retrieval']:.0%}, {row['seconds']:.0f} s"
            tell(f"{setting.objective} {config.name} seed {seed} epoch {epoch}: {told}")
    return rows


def folder_of(out: Path, config: Config, seed: int) -> Path:
    return out / f"{config.name}-seed{seed}"


def rows_in(folder: Path) -> list[Row]:
    log = folder / "rows.jsonl"
    return [json.loads(line) for line in log.read_text().splitlines()] if log.exists() else []


def collapsed(rows: Sequence[Row], setting: Setting, seed: int) -> bool:
    """Whether a tuning run has nothing more to show."""
    return seed == setting.tuning_seed and bool(rows) and rows[-1]["retrieval"] < COLLAPSED * rows[0]["retrieval"]


def base_row(denoiser: Denoiser, setting: Setting, seed: int, out: Path) -> Row:
    """The base model's held-out images; the same for all runs that are judged on them, so they are drawn once."""
    kept = out / ("base-tuning.json" if seed == setting.tuning_seed else "base.json")
    if not kept.exists():
        row = {"epoch": 0, "images": 0, "seconds": 0.0, **held_out(denoiser, setting, seed, None)}
        written = kept.with_name(f"{kept.name}-{folder_stamp()}")
        written.write_text(json.dumps(row))
        written.replace(kept)
    return dict(json.loads(kept.read_text()))


def held_out(denoiser: Denoiser, setting: Setting, seed: int, checkpoint: Path | None) -> Row:
    """Rewards of the held-out images, in the order of the items, and the share of them that shows what was asked."""
    denoiser.use_adapter(checkpoint)
    items = setting.held_out_items(seed)
    prompts = [prompt for prompt, _ in items]
    images = [
        image
        for first in range(0, len(items), 24)
        for image in sample_duel(denoiser, items[first : first + 24], DuelParams(num_inference_steps=setting.steps))
    ]
    rewards = load_reward(setting.objective).score(images, prompts)
    return {"rewards": [round(reward, 4) for reward in rewards], "retrieval": name_retrieval(images, prompts)}


def one_epoch(denoiser: Denoiser, setting: Setting, config: Config, seed: int, epoch: int, out: Path) -> Row:
    """Sample with the run's last checkpoint, score, train on it; a round without pairs leaves the policy as it was."""
    began = time.process_time()
    folder = folder_of(out, config, seed)
    parent, checkpoint = folder / f"epoch-{epoch - 1}", folder / f"epoch-{epoch}"
    before = parent if parent.exists() else None
    groups = drawn(denoiser, setting, seed, epoch, before, out if epoch == 1 else folder)
    seen = defaultdict[str, list[float]](list)

    def observe(update: int, updates: int, values: dict[str, float]) -> None:
        for name in FIGURES:
            if name in values:
                seen[name].append(values[name])

    row: Row = {"epoch": epoch, "images": epoch * setting.prompts * setting.images, "pairs": sum(len(g.pairs) for g in groups)}
    try:
        manifest = train_round(denoiser, groups, config.params(seed, epoch), checkpoint, before, observe)
        row |= {"updates": manifest.updates, "kl_average": manifest.final.get("kl_average")}
    except (NoPairs, NotFinite) as error:
        row["untrained"] = str(error)
        if before:
            shutil.copytree(before, checkpoint, dirs_exist_ok=True)
    row["figures"] = {name: fmean(values) for name, values in seen.items()}
    row["seconds"] = time.process_time() - began
    return row | held_out(denoiser, setting, seed, checkpoint if checkpoint.exists() else None)


def drawn(
    denoiser: Denoiser, setting: Setting, seed: int, epoch: int, checkpoint: Path | None, folder: Path
) -> list[TrainingGroup]:
    """The epoch's groups, scored, with all pairs that the scores order; what is drawn already is read.

    The folder gets its name when it is whole, so a kill or another process in the middle of the same costs nothing but time.
    """
    kept = folder / (f"first-seed{seed}" if epoch == 1 else f"drawn-{epoch}")
    if not kept.exists():
        part = kept.with_name(f"{kept.name}.part-{folder_stamp()}")
        part.mkdir()
        denoiser.use_adapter(checkpoint)
        prompts, reward = prompt_set("demo").draw(setting.prompts, seed), load_reward(setting.objective)
        facts = []
        for first in range(0, len(prompts), AT_ONCE):
            batch = prompts[first : first + AT_ONCE]
            position = (epoch - 1) * setting.prompts + first
            for group in sample_groups(denoiser, batch, setting.sampling(seed), first_position=position):
                scores = reward.score(group.images, [group.prompt] * len(group.images))
                name = f"{group.position}.safetensors"
                facts.append({"name": name, "sha256": group.trajectory.save(part / name), "scores": scores})
        (part / "groups.json").write_text(json.dumps(facts))
        try:
            part.rename(kept)
        except OSError:  # another process was first, with the same groups
            shutil.rmtree(part)
    return [
        TrainingGroup(
            kept / fact["name"],
            fact["sha256"],
            [Pair(*win) for win in dominance([[score] for score in fact["scores"]])],
            tuple(fact["scores"]),
        )
        for fact in json.loads((kept / "groups.json").read_text())
    ]


def folder_stamp() -> str:
    return f"{time.time_ns():x}"
