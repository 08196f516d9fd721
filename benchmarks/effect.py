"""Reward reached against time and against images sampled: the published loop and ours on the embedded model.

Every epoch samples groups with the current policy, ranks each by a reward and trains on all pairs; the reference is the policy
that sampled. Both loops get the same LoRA, optimizer, timesteps, prompts, noise and grid of learning rates. A seed of its own
chooses each loop's best rate, and where the published one had better end: at the highest reward whose images still show what
was asked. The other seeds compare them. The mean reward of fixed held-out prompts follows every epoch, outside the clock. Time
is processor time on one thread. Each (loop, rate, seed) run keeps its state in OUT after every epoch; the same call after a
kill goes on from there. Writes effect.json and effect.svg.
"""

from __future__ import annotations

import json
import random
import shutil
from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass
from itertools import combinations
from pathlib import Path
from statistics import fmean, stdev
from typing import Annotated, Any

import torch
import typer
from accelerate import Accelerator
from PIL import Image
from rich.console import Console

from benchmarks.measure import processor_seconds
from benchmarks.published import PublishedLoop
from d3po_core.demo_model import WEIGHTS
from d3po_core.demo_model.judge import name_retrieval
from d3po_core.demo_model.recipe import TRAINING
from d3po_core.denoisers import Denoiser, load_denoiser
from d3po_core.learner import Learner, new_optimizer
from d3po_core.params import DuelParams, SamplingParams, TrainingParams
from d3po_core.plan import Plan, TrainingGroup, visited
from d3po_core.policy import LoraPolicy
from d3po_core.preferences import Pair
from d3po_core.prompts import prompt_set
from d3po_core.rewards import colourfulness, compressibility
from d3po_core.sampling import SampledGroup, sample_duel, sample_groups

KEPT = 0.8
"""The share of the base model's name retrieval that must be left for a reward to count."""
HELD_OUT_SEED = 77_003
LOOPS = ("published", "ours")


def brightness(image: Image.Image) -> float:
    """Mean luma, 0..255. The published loop can learn it from a few groups, unlike JPEG size or colour (docs/log.md)."""
    return fmean(image.convert("L").tobytes())


REWARDS = {"bright": brightness, "colourful": colourfulness, "jpeg": compressibility}
console = Console(highlight=False)


@dataclass(frozen=True)
class Setting:
    """What all runs share."""

    reward: str = "bright"
    prompts: int = 2
    images: int = 7
    steps: int = 20
    held_out: int = 48
    epochs: int = 3
    rates: tuple[float, ...] = (1e-4, 3e-4, 1e-3, 3e-3, 1e-2, 3e-2)
    tuning_seed: int = 0
    seeds: tuple[int, ...] = (1, 2, 3)

    def sampling(self, seed: int) -> SamplingParams:
        return SamplingParams(images_per_prompt=self.images, num_inference_steps=self.steps, seed=seed)


QUICK = Setting(prompts=1, images=3, steps=3, held_out=4, epochs=2, rates=(1e-4, 1e-3), seeds=(1,))


def settings_of(rate: float, seed: int) -> TrainingParams:
    """The same for both loops: the published optimizer and loss on every timestep, the LoRA of the embedded model's recipe.

    Ours makes an optimizer step after every five timesteps of a group, 4 in all; the published one after every pair, 21.
    """
    return TrainingParams(
        learning_rate=rate,
        seed=seed,
        lora_targets=TRAINING.lora_targets,
        lora_rank=TRAINING.lora_rank,
        timesteps_per_update=5,
        timestep_fraction=1,
        step_weighting="uniform",
    )


class Published:
    """The published loop on a LoRA; its optimizer lives through the run."""

    def __init__(self, denoiser: Denoiser, rate: float, seed: int, folder: Path, done: int) -> None:
        params = settings_of(rate, seed)
        self.denoiser, self.folder = denoiser, folder
        self.policy = LoraPolicy(denoiser, params)
        self.loop = PublishedLoop(denoiser, [*self.policy.parameters], params)
        if done:
            load_state(self._state(done), self.policy, self.loop.optimizer)

    def learn(self, groups: Sequence[SampledGroup], pairs: Sequence[Sequence[Pair]], epoch: int) -> None:
        self.loop.renew_reference()
        for group, ranked in zip(groups, pairs, strict=True):
            shuffled = random.Random(f"{epoch} {group.position}").sample(list(ranked), len(ranked))
            self.loop.learn(group.trajectory, shuffled, seed=epoch)

    def save(self, epoch: int) -> None:
        save_state(self._state(epoch), self.policy, self.loop.optimizer)

    def _state(self, epoch: int) -> Path:
        return self.folder / f"state-{epoch:03d}.pt"


class Ours:
    """This library's learner on stored trajectories; its optimizer lives through the run, too."""

    def __init__(self, denoiser: Denoiser, rate: float, seed: int, folder: Path, done: int) -> None:
        self.denoiser, self.folder, self.params = denoiser, folder, settings_of(rate, seed)
        self.policy = LoraPolicy(denoiser, self.params)
        self.optimizer = new_optimizer(self.policy.parameters, self.params)
        if done:
            load_state(self._state(done), self.policy, self.optimizer)

    def learn(self, groups: Sequence[SampledGroup], pairs: Sequence[Sequence[Pair]], epoch: int) -> None:
        stored = []
        for group, ranked in zip(groups, pairs, strict=True):
            path = self.folder / f"{group.position}.safetensors"
            stored.append(TrainingGroup(path, group.trajectory.save(path), ranked))
        learner = Learner(self.policy, stored, self.params, Accelerator(cpu=True))
        learner.optimizer = self.optimizer
        plan = Plan([tuple(group.trajectory.trainable_steps) for group in groups], self.params)
        for number, update in enumerate(visited(plan, stored)):
            learner.learn(update, number)

    def save(self, epoch: int) -> None:
        save_state(self._state(epoch), self.policy, self.optimizer)

    def _state(self, epoch: int) -> Path:
        return self.folder / f"state-{epoch:03d}.pt"


def save_state(path: Path, policy: LoraPolicy, optimizer: torch.optim.Optimizer) -> None:
    torch.save({"parameters": [p.detach() for p in policy.parameters], "optimizer": optimizer.state_dict()}, path)


def load_state(path: Path, policy: LoraPolicy, optimizer: torch.optim.Optimizer) -> None:
    state = torch.load(path, weights_only=True)
    for parameter, value in zip(policy.parameters, state["parameters"], strict=True):
        parameter.data.copy_(value)
    optimizer.load_state_dict(state["optimizer"])


def ranked_pairs(group: SampledGroup, reward: Callable[[Any], float]) -> list[Pair]:
    scores = [reward(image) for image in group.images]
    order = sorted(range(len(scores)), key=lambda i: -scores[i])
    return [Pair(better, worse) for better, worse in combinations(order, 2) if scores[better] > scores[worse]]


def held_out(denoiser: Denoiser, setting: Setting) -> dict[str, Any]:
    """The rewards of the fixed held-out prompts' images, and the share of them that still shows what was asked."""
    prompts = prompt_set("demo").held_out(setting.held_out, HELD_OUT_SEED)
    images = sample_duel(denoiser, [(prompt, HELD_OUT_SEED) for prompt in prompts], DuelParams(num_inference_steps=setting.steps))
    return {"rewards": [REWARDS[setting.reward](image) for image in images], "retrieval": name_retrieval(images, prompts)}


def run_one(
    denoiser: Denoiser, setting: Setting, loop: str, rate: float, seed: int, folder: Path, epochs: int
) -> list[dict[str, Any]]:
    """One run's rows, an epoch each: seconds and images so far, and the held-out rewards. Goes on after the last saved one; while
    rates are tuned it ends where the images no longer show what was asked."""
    folder.mkdir(parents=True, exist_ok=True)
    log = folder / "rows.jsonl"
    rows = [json.loads(line) for line in log.read_text().splitlines()] if log.exists() else []
    if len(rows) > epochs or lost(rows, setting, seed):
        return rows[: epochs + 1]
    denoiser.use_adapter(None)
    if not rows:
        for left in folder.glob("*"):
            shutil.rmtree(left) if left.is_dir() else left.unlink()
        rows = [{"epoch": 0, "seconds": 0.0, "images": 0, **held_out(denoiser, setting)}]
        log.write_text(json.dumps(rows[0]) + "\n")
    learner = (Published if loop == "published" else Ours)(denoiser, rate, seed, folder, done=len(rows) - 1)
    for epoch in range(len(rows), epochs + 1):

        def one_epoch(epoch: int = epoch) -> None:
            prompts = prompt_set("demo").draw(setting.prompts, seed * 1000 + epoch)
            groups = list(sample_groups(denoiser, prompts, setting.sampling(seed), first_position=epoch * setting.prompts))
            pairs = [ranked_pairs(group, REWARDS[setting.reward]) for group in groups]
            useful = [k for k, ranked in enumerate(pairs) if ranked]
            if useful:
                learner.learn([groups[k] for k in useful], [pairs[k] for k in useful], epoch)

        seconds = rows[-1]["seconds"] + processor_seconds(one_epoch)
        images = rows[-1]["images"] + setting.prompts * setting.images
        rows.append({"epoch": epoch, "seconds": seconds, "images": images, **held_out(denoiser, setting)})
        learner.save(epoch)
        with log.open("a") as file:
            file.write(json.dumps(rows[-1]) + "\n")
        told = f"reward {fmean(rows[-1]['rewards']):.2f}, retrieval {rows[-1]['retrieval']:.0%}, {seconds:.0f} s"
        console.print(f"{loop} {rate:g} seed {seed} epoch {epoch}: {told}")
        if lost(rows, setting, seed):
            break
    return rows


def curve(runs: Sequence[Sequence[dict[str, Any]]]) -> list[dict[str, float]]:
    """The mean over seeds, epoch by epoch."""
    return [
        {
            "seconds": fmean(row["seconds"] for row in rows),
            "images": rows[0]["images"],
            "reward": fmean(fmean(row["rewards"]) for row in rows),
            "retrieval": fmean(row["retrieval"] for row in rows),
        }
        for rows in zip(*runs, strict=True)
    ]


def kept(row: dict[str, Any], base: dict[str, Any]) -> bool:
    return bool(row["retrieval"] >= KEPT * base["retrieval"])


def lost(rows: Sequence[dict[str, Any]], setting: Setting, seed: int) -> bool:
    """Whether a tuning run has nothing more to show."""
    return seed == setting.tuning_seed and bool(rows) and not kept(rows[-1], rows[0])


def best_of(tuned: dict[float, list[dict[str, Any]]]) -> tuple[float, int]:
    """The rate and the epoch of the highest reward among the rows that still show what was asked."""
    rewards = {
        (rate, row["epoch"]): fmean(row["rewards"]) for rate, rows in tuned.items() for row in rows[1:] if kept(row, rows[0])
    }
    if not rewards:
        raise RuntimeError("At every rate the images lost what they showed in the first epoch; the grid needs lower rates.")
    return max(rewards, key=lambda at: rewards[at])


def gain(runs: Sequence[Sequence[dict[str, Any]]]) -> tuple[float, float]:
    """Mean rise of the reward over all held-out images and seeds, and its standard error over images."""
    rises = [after - before for rows in runs for before, after in zip(rows[0]["rewards"], rows[-1]["rewards"], strict=True)]
    return fmean(rises), stdev(rises) / len(rises) ** 0.5


def run(setting: Setting, out: Path) -> dict[str, Any]:
    torch.set_num_threads(1)
    denoiser = load_denoiser(WEIGHTS)

    def run_at(loop: str, rate: float, seed: int, epochs: int) -> list[dict[str, Any]]:
        return run_one(denoiser, setting, loop, rate, seed, out / f"{loop}-{rate:g}-{seed}", epochs)

    tuned = {loop: {rate: run_at(loop, rate, setting.tuning_seed, setting.epochs) for rate in setting.rates} for loop in LOOPS}
    best = {loop: best_of(tuned[loop]) for loop in LOOPS}
    ends = {"published": best["published"][1], "ours": setting.epochs}
    runs = {loop: [run_at(loop, best[loop][0], seed, ends[loop]) for seed in setting.seeds] for loop in LOOPS}
    curves = {loop: curve(runs[loop]) for loop in LOOPS}
    target = curves["published"][-1]
    reached = next((row for row in curves["ours"] if row["reward"] >= target["reward"]), None)
    rise, error = gain(runs["published"])
    return {
        "published_time_over_ours": target["seconds"] / max(reached["seconds"], 1e-9) if reached else None,
        "published_images_over_ours": target["images"] / max(reached["images"], 1) if reached else None,
        "retrieval_when_reached": {"published": target["retrieval"], "ours": reached and reached["retrieval"]},
        "published_gain_in_standard_errors": rise / error if error else None,
        "best_rate": {loop: rate for loop, (rate, _) in best.items()},
        "curves": curves,
        "tuning": {
            loop: {f"{rate:g}": [round(fmean(row["rewards"]), 2) for row in rows] for rate, rows in tuned[loop].items()}
            for loop in LOOPS
        },
        "setting": asdict(setting),
    }


def draw(result: dict[str, Any], path: Path) -> None:
    """Reward against seconds and against images, one line a loop."""
    import matplotlib

    matplotlib.use("svg")
    from matplotlib import pyplot

    figure, panels = pyplot.subplots(1, 2, figsize=(9, 3.5), sharey=True)
    for panel, (x, label) in zip(panels, [("seconds", "processor seconds"), ("images", "images sampled")], strict=True):
        for loop, rows in result["curves"].items():
            name = f"{loop}, rate {result['best_rate'][loop]:g}"
            panel.plot([row[x] for row in rows], [row["reward"] for row in rows], marker=".", label=name)
        panel.set_xlabel(label)
    panels[0].set_ylabel(f"held-out reward ({result['setting']['reward']})")
    panels[0].legend()
    figure.tight_layout()
    figure.savefig(path)


def main(
    out: Annotated[Path, typer.Option(help="Where runs, effect.json and effect.svg are kept.")] = Path("build/effect"),
    reward: Annotated[str, typer.Option(help="bright, jpeg or colourful.")] = "bright",
    quick: Annotated[bool, typer.Option(help="A minute's check that everything runs; its numbers mean nothing.")] = False,
    json_line: Annotated[bool, typer.Option("--json", help="Print the result as one JSON line at the end.")] = False,
) -> None:
    """Run what is missing of all runs, then compare."""
    if reward not in REWARDS:
        raise typer.BadParameter(f"{reward!r} is not one of {', '.join(REWARDS)}.")
    setting = Setting(**{**asdict(QUICK if quick else Setting()), "reward": reward})
    folder = out / ("quick" if quick else reward)
    folder.mkdir(parents=True, exist_ok=True)
    result = run(setting, folder)
    (folder / "effect.json").write_text(json.dumps(result, indent=2) + "\n", encoding="utf-8")
    draw(result, folder / "effect.svg")
    for loop, rows in result["curves"].items():
        for row in rows:
            console.print(
                "{loop:9} {seconds:5.0f} s {images:4d} images   reward {reward:.1f}   retrieval {retrieval:.0%}".format(
                    loop=loop, **row
                )
            )
    console.print(f"published: {result['published_gain_in_standard_errors']} standard errors gained at {result['best_rate']}")
    console.print(f"time of the published loop over ours to the same reward: {result['published_time_over_ours']}")
    if json_line:
        print(json.dumps(result))


if __name__ == "__main__":
    typer.run(main)
