"""Do weighted pairs withstand people who click without looking? Measured on the embedded model with simulated annotators.

Ten people choose the best image of every group, five votes a group, by a reward that each of them sees with noise of their
own. In one arm all of them look; in the others three click at random, so that 30 % of the votes are theirs. Those votes become
pairs by margin, by sign and by reliability. Every arm trains one round on the same trajectories and then meets the base model
on held-out prompts: the same noise, judged by the reward itself, an image as good as the other one is half a win. Nobody tells
the reliabilities; they are estimated and compared with the true ones. What is done is kept in OUT, training rounds half way,
so the same call after a kill goes on from there. Writes reliability.json.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from statistics import fmean, stdev
from typing import Annotated, Any

import numpy as np
import torch
import typer
from PIL import Image
from rich.console import Console

from d3po_core.demo_model import WEIGHTS
from d3po_core.demo_model.judge import name_retrieval
from d3po_core.demo_model.recipe import TRAINING
from d3po_core.denoisers import Denoiser, load_denoiser
from d3po_core.files import written_whole
from d3po_core.params import DuelParams, SamplingParams
from d3po_core.plan import TrainingGroup
from d3po_core.preferences import Preference, group_weights, pairs_from
from d3po_core.prompts import prompt_set
from d3po_core.reliability import Estimate, estimate
from d3po_core.rewards import colourfulness, compressibility
from d3po_core.sampling import sample_duel, sample_groups
from d3po_core.training import train_round

REWARDS: dict[str, Callable[[Image.Image], float]] = {"colourful": colourfulness, "jpeg": compressibility}
ARMS = ("clean", "margin", "sign", "reliability")
AT_ONCE, DUELS_AT_ONCE = 8, 48
HELD_OUT_SEED = 78_000
TARGET = 0.05
console = Console(highlight=False)


@dataclass(frozen=True)
class Setting:
    """noise: from the most to the least reliable person who looks, standard deviations of a reward within a group."""

    reward: str = "colourful"
    prompts: int = 96
    images: int = 6
    steps: int = 10
    votes: int = 5
    people: int = 10
    clickers: int = 3
    noise: tuple[float, float] = (0.3, 1.2)
    comparisons: int = 336
    seeds: tuple[int, ...] = (1, 2, 3)


QUICK = Setting(prompts=6, images=3, steps=3, votes=3, people=4, clickers=1, comparisons=4, seeds=(1,))


class Annotators:
    """What they see of a reward and what they choose, the same for the same seed."""

    def __init__(self, rewards: Sequence[Sequence[float]], setting: Setting, seed: int) -> None:
        self.rewards, self.setting, self.seed = np.array(rewards), setting, seed
        self.rewards /= self.rewards.std(axis=1).mean()
        self.noise = np.linspace(*setting.noise, setting.people)[np.random.default_rng(seed).permutation(setting.people)]

    def ballots(self, clean: bool) -> list[list[Preference]]:
        """The votes on each group. Whoever votes where, and what those who look see, is the same in a clean crowd and another."""
        chance, load = np.random.default_rng([self.seed, 1]), np.zeros(self.setting.people)
        groups = []
        for rewards in self.rewards:
            voters = np.argsort(load + chance.random(len(load)) / 2)[: self.setting.votes]
            load[voters] += 1
            groups.append([self._vote(person, rewards, chance.normal(size=len(rewards)), clean) for person in voters.tolist()])
        return groups

    def _vote(self, person: int, rewards: np.ndarray, noise: np.ndarray, clean: bool) -> Preference:
        looks = clean or person >= self.setting.clickers
        seen = rewards + self.noise[person] * noise if looks else noise
        return Preference("best", best=int(seen.argmax()), annotator=str(person))

    def reliability(self, person: int, draws: int = 400) -> float:
        """How often what this person's choices say of two images is true: by many votes on every group."""
        if person < self.setting.clickers:
            return 0.5
        chance = np.random.default_rng([self.seed, 2])
        seen = self.rewards + self.noise[person] * chance.normal(size=(draws, *self.rewards.shape))
        chosen = np.take_along_axis(self.rewards[None], seen.argmax(axis=2)[..., None], axis=2)
        return float((chosen > self.rewards).sum() / (chosen != self.rewards).sum())


class Run:
    """One seed: its trajectories, its crowd and its arms. Everything finished is a file in `folder`."""

    def __init__(self, denoiser: Denoiser, setting: Setting, seed: int, folder: Path) -> None:
        self.denoiser, self.setting, self.seed, self.folder = denoiser, setting, seed, folder
        self.reward = REWARDS[setting.reward]
        folder.mkdir(parents=True, exist_ok=True)

    def groups(self) -> list[dict[str, Any]]:
        """[{sha256, rewards}] of the round's trajectories, by position."""
        params = SamplingParams(images_per_prompt=self.setting.images, num_inference_steps=self.setting.steps, seed=self.seed)
        prompts = prompt_set("demo").draw(self.setting.prompts, self.seed)

        def drawn(first: int) -> list[dict[str, Any]]:
            self.denoiser.use_adapter(None)
            return [
                {"sha256": group.trajectory.save(self._path(group.position)), "rewards": [*map(self.reward, group.images)]}
                for group in sample_groups(self.denoiser, prompts[first : first + AT_ONCE], params, first)
            ]

        parts = [
            kept(self.folder / f"groups-{first}.json", lambda k=first: drawn(k)) for first in range(0, len(prompts), AT_ONCE)
        ]
        return [group for part in parts for group in part]

    def arm(self, name: str) -> dict[str, Any]:
        """Trains on the arm's votes, then meets the base model."""
        return kept(self.folder / f"{name}.json", lambda: self._arm(name))

    def _arm(self, name: str) -> dict[str, Any]:
        groups = self.groups()
        annotators = Annotators([group["rewards"] for group in groups], self.setting, self.seed)
        weighting = "margin" if name == "clean" else name
        ballots = annotators.ballots(clean=name == "clean")
        crowd = estimate((votes, self.setting.images) for votes in ballots) if weighting == "reliability" else None
        learned = [pairs_from(votes, self.setting.images, weighting, crowd and crowd.crowd) for votes in ballots]
        useful = [k for k, pairs in enumerate(learned) if pairs]
        weights = group_weights([learned[k] for k in useful]) if crowd else [1.0] * len(useful)
        stored = [
            TrainingGroup(self._path(k), groups[k]["sha256"], learned[k], weight=weight)
            for k, weight in zip(useful, weights, strict=True)
        ]
        params = TRAINING.model_copy(update={"seed": self.seed, "pair_weights": weighting})
        manifest = train_round(self.denoiser, stored, params, self.folder / name)
        true = sum(rewards_agree(groups[k]["rewards"], learned[k]) for k in useful)
        pairs = sum(len(learned[k]) for k in useful)
        return {
            "groups": len(useful), "pairs": pairs, "true_pairs": true / pairs, "updates": manifest.updates,
            "kl": manifest.final["kl_average"], "people": told(crowd, annotators, self.setting),
            **self.duel(self.folder / name), "base": kept(self.folder / "base.json", lambda: self.duel(None)),
        }  # fmt: skip

    def duel(self, adapter: Path | None) -> dict[str, Any]:
        """Rewards of the held-out images that this policy draws, and the share of them that shows what was asked."""
        reserved = prompt_set("demo").reserved
        first = HELD_OUT_SEED + 1000 * self.seed
        items = [(reserved[k % len(reserved)], first + k // len(reserved)) for k in range(self.setting.comparisons)]
        self.denoiser.use_adapter(adapter)
        params = DuelParams(num_inference_steps=self.setting.steps)
        images = []
        for k in range(0, len(items), DUELS_AT_ONCE):
            images += sample_duel(self.denoiser, items[k : k + DUELS_AT_ONCE], params)
        return {"rewards": [*map(self.reward, images)], "retrieval": name_retrieval(images, [prompt for prompt, _ in items])}

    def _path(self, position: int) -> Path:
        return self.folder / f"{position}.safetensors"


def kept(path: Path, work: Callable[[], Any]) -> Any:
    """What the file holds; where it is not there, work() is done and written to it, whole or not at all."""
    if not path.exists():
        answer = work()
        with written_whole(path) as file:
            file.write(json.dumps(answer).encode())
    return json.loads(path.read_text())


def rewards_agree(rewards: Sequence[float], pairs: Sequence[Any]) -> int:
    return sum(rewards[pair.chosen] > rewards[pair.rejected] for pair in pairs)


def told(crowd: Estimate | None, annotators: Annotators, setting: Setting) -> list[dict[str, float]]:
    """Of each person: the true reliability and the estimate."""
    people = [str(person) for person in range(setting.people)] if crowd else []
    return [
        {"true": annotators.reliability(int(name)), "estimate": crowd.people[name].reliability}
        for name in people
        if crowd and name in crowd.people
    ]


def wins_of(arm: dict[str, Any]) -> list[float]:
    """1, 1/2 or 0 for each comparison with the base model."""
    return [(a > b) + (a == b) / 2 for a, b in zip(arm["rewards"], arm["base"]["rewards"], strict=True)]


def mean_with_interval(values: Sequence[float]) -> dict[str, float]:
    """The mean and its 95 % interval over comparisons; how rounds of one arm differ is not in it."""
    mean, error = fmean(values), stdev(values) / len(values) ** 0.5
    return {"mean": mean, "low": mean - 1.96 * error, "high": mean + 1.96 * error}


def summary(runs: Sequence[dict[str, dict[str, Any]]]) -> dict[str, Any]:
    """runs: an arm's answer by name, for each seed."""
    wins = {name: [wins_of(run[name]) for run in runs] for name in ARMS}
    arms = {}
    for name in ARMS:
        mine, clean = ([win for seed in wins[arm] for win in seed] for arm in (name, "clean"))
        rows = [run[name] for run in runs]
        arms[name] = {
            "win_rate": mean_with_interval(mine),
            "comparisons": len(mine),
            "by_seed": [fmean(seed) for seed in wins[name]],
            "less_than_clean": mean_with_interval([a - b for a, b in zip(clean, mine, strict=True)]),
            **{key: fmean(row[key] for row in rows) for key in ("pairs", "true_pairs", "groups", "updates", "kl", "retrieval")},
        }
    people = [person for run in runs for person in run["reliability"]["people"]]
    return {
        "arms": arms,
        "people": people,
        "error_of_reliability": fmean(abs(person["true"] - person["estimate"]) for person in people),
        "base_retrieval": fmean(run["clean"]["base"]["retrieval"] for run in runs),
        "reached": arms["reliability"]["less_than_clean"]["mean"] <= TARGET,
    }


def run(setting: Setting, out: Path) -> dict[str, Any]:
    torch.set_num_threads(1)
    denoiser = load_denoiser(WEIGHTS)
    runs = []
    for seed in setting.seeds:
        one = Run(denoiser, setting, seed, out / f"seed-{seed}")
        answers = {}
        for name in ARMS:
            answers[name] = one.arm(name)
            console.print(f"seed {seed}   {name:11}   wins {fmean(wins_of(answers[name])):.1%}")
        runs.append(answers)
    return {**summary(runs), "setting": asdict(setting)}


def main(
    out: Annotated[Path, typer.Option(help="Where trajectories, checkpoints and reliability.json are kept.")] = Path(
        "build/reliability"
    ),
    reward: Annotated[str, typer.Option(help="What people prefer: colourful or jpeg.")] = "colourful",
    quick: Annotated[bool, typer.Option(help="Seconds: that everything runs; its numbers mean nothing.")] = False,
    json_line: Annotated[bool, typer.Option("--json", help="Print the result as one JSON line at the end.")] = False,
) -> None:
    """Run what is missing of all arms and seeds, then compare them."""
    if reward not in REWARDS:
        raise typer.BadParameter(f"{reward!r} is not one of {', '.join(REWARDS)}.")
    setting = Setting(**{**asdict(QUICK if quick else Setting()), "reward": reward})
    folder = out / ("quick" if quick else reward)
    folder.mkdir(parents=True, exist_ok=True)
    result = run(setting, folder)
    (folder / "reliability.json").write_text(json.dumps(result, indent=2) + "\n", encoding="utf-8")
    for name, arm in result["arms"].items():
        won, less = arm["win_rate"], arm["less_than_clean"]
        console.print(
            f"{name:11}   win rate {won['mean']:.1%} [{won['low']:.1%}, {won['high']:.1%}] of {arm['comparisons']:,}   "
            f"below clean {less['mean']:+.1%} [{less['low']:+.1%}, {less['high']:+.1%}]   true pairs {arm['true_pairs']:.0%}   "
            f"retrieval {arm['retrieval']:.0%}"
        )
    console.print(f"mean error of the estimated reliabilities {result['error_of_reliability']:.3f}")
    console.print(f"reliability within {TARGET:.0%} of clean: {'yes' if result['reached'] else 'no'}")
    if json_line:
        print(json.dumps(result))


if __name__ == "__main__":
    typer.run(main)
