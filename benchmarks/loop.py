"""The whole loop without a head: does D3PO make the embedded model better at what a scripted annotator prefers?

Starts the real embedded stack in a temporary folder and plays both people: an operator who launches sample, training
and duel rounds, and an annotator who sees images through the HTTP API and prefers smaller JPEGs or more colour. Prints a
table a round and the blind duel against the base model; writes loop.json and a picture, base images above tuned ones.
"""

from __future__ import annotations

import json
import signal
import sys
import tempfile
import time
import uuid
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from statistics import mean
from typing import Annotated, Any

import typer
from PIL import Image
from rich.console import Console
from sqlalchemy import create_engine, select
from sqlalchemy.orm import Session

from benchmarks.stack import Api, embedded_stack
from d3po_core.demo_model import WEIGHTS
from d3po_core.demo_model.card import tile
from d3po_core.demo_model.judge import name_retrieval
from d3po_core.demo_model.recipe import SAMPLING
from d3po_core.denoisers import load_denoiser
from d3po_core.denoisers.base import WEIGHTS as LORA
from d3po_core.params import DuelParams
from d3po_core.prompts import prompt_set
from d3po_core.rewards import colourfulness, compressibility
from d3po_core.sampling import sample_duel
from server.models import Group
from server.storage import Storage

PREFERENCES: dict[str, Callable[[Image.Image], float]] = {"jpeg": compressibility, "colourful": colourfulness}
MAX_ROUNDS = 8
MAX_SECONDS = 400
"""No further round begins after this time, so that the duel still fits into ten minutes."""
PROMPTS, DEMO_PROMPTS = 64, 12
BASE = "base"
CHAIN = DuelParams(num_inference_steps=SAMPLING.num_inference_steps)
HELD_OUT = 48
SCORE_SEEDS, DUEL_SEED = (77_001, 77_002), 77_003
ENOUGH = 0.9
"""Training stops once this share of the held-out comparisons with the base model is won."""
KEEP = 0.9
"""Training also stops, one round back, once less than this share of the base model's name retrieval is left."""

console = Console(highlight=False)


@dataclass
class Score:
    """The fixed held-out set, drawn by one policy."""

    score: float
    retrieval: float
    wins: float
    """Share of the comparisons with the base model that were won; a tie is half a win."""


def scored_prompts() -> list[str]:
    return prompt_set("demo").held_out(HELD_OUT, seed=0)


class HeldOut:
    """Draws the same held-out prompts and seeds with any checkpoint; no round ever uses them."""

    def __init__(self, score: Callable[[Image.Image], float]) -> None:
        self.items = [(prompt, seed) for seed in SCORE_SEEDS for prompt in scored_prompts()]
        self.denoiser, self.score = load_denoiser(WEIGHTS), score
        self.images: list[Image.Image] = []
        self.base: list[float] = []

    def measure(self, adapter: Path | None) -> Score:
        self.denoiser.use_adapter(adapter)
        self.images = sample_duel(self.denoiser, self.items, CHAIN)
        scores = [self.score(image) for image in self.images]
        self.base = self.base or scores
        wins = mean((now > then) + (now == then) / 2 for now, then in zip(scores, self.base, strict=True))
        return Score(mean(scores), name_retrieval(self.images, [prompt for prompt, _ in self.items]), wins)


def vote_on_everything(api: Api, project: str, round_id: str, decide: Callable[[dict[str, Any]], dict[str, Any]]) -> int:
    """Lease, decide, vote, until the round is done and nothing waits. Returns the number of votes."""
    votes = 0
    while True:
        done = api.state(round_id) == "done"
        tasks = api.post(f"/projects/{project}/tasks/next?count=3")
        for task in tasks:
            api.post(f"/tasks/{task['task_id']}/votes", vote_id=str(uuid.uuid4()), **decide(task))
            votes += 1
        if done and not tasks:
            return votes
        if not tasks:
            time.sleep(0.3)


def decider(api: Api, score: Callable[[Image.Image], float]) -> Callable[[dict[str, Any]], dict[str, Any]]:
    """The scripted annotator: ranks a group by its score, best first; in a pair, picks the better one; equal is a tie."""

    def decide(task: dict[str, Any]) -> dict[str, Any]:
        scores = {image["id"]: score(api.image(image["url"])) for image in task["images"]}
        ranking = sorted(scores, key=lambda image: -scores[image])
        if scores[ranking[0]] == scores[ranking[-1]]:
            return {"outcome": "tie"}
        if len(ranking) == 2:
            return {"outcome": "best", "best_image_id": ranking[0]}
        return {"outcome": "ranking", "ranking": ranking}

    return decide


def run(prefer: str, out: Path, data_dir: Path) -> dict[str, Any]:
    """The loop and its duel; returns what goes into loop.json."""
    started = time.monotonic()
    score = PREFERENCES[prefer]
    held_out = HeldOut(score)
    with embedded_stack(data_dir) as api:
        project = api.get("/projects")["items"][0]["id"]
        decide = decider(api, score)
        base = held_out.measure(None)
        pictures = {"base": held_out.images}
        rows = [row_of(0, base, 0, 0.0)]
        kept = BASE
        for number in range(1, MAX_ROUNDS + 1):
            begun = time.monotonic()
            votes = sum(vote_on_everything(api, project, round_id, decide) for round_id in sample_rounds(api, project, number))
            api.wait_for(api.post(f"/projects/{project}/training-rounds")["id"])
            checkpoint, adapter = newest_checkpoint(api, project, out / f"round-{number}")
            now = held_out.measure(adapter)
            rows.append(row_of(number, now, votes, time.monotonic() - begun))
            if now.retrieval < KEEP * base.retrieval:
                console.print(f"Round {number} is rolled back: its pictures begin to lose what they show.")
                break
            kept, pictures["tuned"] = checkpoint, held_out.images
            if now.wins >= ENOUGH or time.monotonic() - started > MAX_SECONDS:
                break
        if kept == BASE:
            raise RuntimeError("The first round's pictures lost what they show; nothing is worth a duel.")
        duel = fight(api, project, kept, decide)
        retrieval = duel_retrieval(data_dir, duel["id"])
    draw(pictures["base"], pictures["tuned"], out / "base-above-tuned.png")
    result = {name: duel["result"][name] for name in ("wins", "losses", "ties", "win_rate", "low", "high")}
    return {"prefer": prefer, "rounds": rows, "duel": result, **retrieval, "seconds": time.monotonic() - started}


def sample_rounds(api: Api, project: str, number: int) -> list[str]:
    """PROMPTS fresh prompts; the first round has those that the demo project starts with, and the rest."""
    if number > 1:
        return [launch_sampling(api, project, PROMPTS, number)]
    first = api.get(f"/projects/{project}/rounds")["items"][-1]
    return [str(first["id"]), launch_sampling(api, project, PROMPTS - DEMO_PROMPTS, number)]


def launch_sampling(api: Api, project: str, prompts: int, seed: int) -> str:
    return str(api.post(f"/projects/{project}/sample-rounds", count=prompts, seed=seed)["id"])


def newest_checkpoint(api: Api, project: str, folder: Path) -> tuple[str, Path]:
    """Download the newest checkpoint's LoRA into `folder`; returns its id and the folder."""
    checkpoint = api.get(f"/projects/{project}/checkpoints")["items"][0]["id"]
    folder.mkdir(parents=True, exist_ok=True)
    (folder / LORA).write_bytes(api.download(f"/checkpoints/{checkpoint}/download"))
    return str(checkpoint), folder


def fight(api: Api, project: str, checkpoint: str, decide: Callable[[dict[str, Any]], dict[str, Any]]) -> dict[str, Any]:
    """A blind duel of the checkpoint against the base model, on prompts and a seed that nothing else has used."""
    scored = set(scored_prompts())
    prompts = [prompt for prompt in prompt_set("demo").reserved if prompt not in scored]
    body = {"checkpoint_a": checkpoint, "checkpoint_b": BASE, "prompts": prompts, "seeds": [DUEL_SEED]}
    round_id = api.post(f"/projects/{project}/duel-rounds", **body)["id"]
    vote_on_everything(api, project, round_id, decide)
    return dict(api.get(f"/rounds/{round_id}"))


def duel_retrieval(data_dir: Path, round_id: str) -> dict[str, float]:
    """Name retrieval of both sides on the duel's own images, read from the stack's database and storage."""
    engine = create_engine(f"sqlite:///{data_dir / 'd3po.db'}")
    storage = Storage(data_dir)
    sides: dict[str, tuple[list[Image.Image], list[str]]] = {"retrieval_base": ([], []), "retrieval_tuned": ([], [])}
    with Session(engine) as session:
        for group in session.scalars(select(Group).where(Group.round_id == round_id)):
            for image in group.images:
                images, prompts = sides["retrieval_tuned" if image.checkpoint_id else "retrieval_base"]
                images.append(Image.open(storage.image(image.sha256)).convert("RGB"))
                prompts.append(group.prompt)
    return {side: name_retrieval(images, prompts) for side, (images, prompts) in sides.items()}


def draw(base: list[Image.Image], tuned: list[Image.Image], path: Path) -> None:
    """Rows of eight: base images, and below each the tuned model's image of the same prompt and seed."""
    rows = [images[k : k + 8] for k in range(0, len(base), 8) for images in (base, tuned)]
    tile([image for row in rows for image in row], columns=8).save(path)


def row_of(number: int, seen: Score, votes: int, seconds: float) -> dict[str, Any]:
    """A round's line of the table, printed and kept for loop.json."""
    console.print(
        f"round {number}   held-out score {seen.score:8.3f}   wins against base {seen.wins:4.0%}   "
        f"name retrieval {seen.retrieval:4.0%}   {votes:3d} votes   {seconds:5.1f} s"
    )
    return {
        "round": number,
        "held_out_score": seen.score,
        "held_out_wins": seen.wins,
        "retrieval": seen.retrieval,
        "votes": votes,
        "seconds": seconds,
    }


def main(
    prefer: Annotated[str, typer.Option(help="What the scripted annotator prefers: jpeg or colourful.")] = "jpeg",
    out: Annotated[Path, typer.Option(help="Where loop.json and the picture go.")] = Path("build/loop"),
    json_line: Annotated[bool, typer.Option("--json", help="Print the result as one JSON line at the end.")] = False,
) -> None:
    """Run the loop and the duel; exit 1 if the tuned model did not win, or no longer shows what was asked."""
    if prefer not in PREFERENCES:
        raise typer.BadParameter(f"{prefer!r} is not one of {', '.join(PREFERENCES)}.")
    out.mkdir(parents=True, exist_ok=True)
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(143))  # so that the stack is stopped as by Ctrl-C
    with tempfile.TemporaryDirectory(prefix="d3po-loop-") as folder:
        result = run(prefer, out, Path(folder))
    (out / "loop.json").write_text(json.dumps(result, indent=2) + "\n", encoding="utf-8")
    duel = result["duel"]
    console.print(
        f"duel: {duel['wins']} wins, {duel['losses']} losses, {duel['ties']} ties; win rate {duel['win_rate']:.0%} "
        f"[{duel['low']:.0%}, {duel['high']:.0%}]; name retrieval {result['retrieval_base']:.0%} -> "
        f"{result['retrieval_tuned']:.0%}; {result['seconds']:.0f} s; {out / 'base-above-tuned.png'}"
    )
    if json_line:
        print(json.dumps(result))
    kept = result["retrieval_tuned"] >= 0.8 * result["retrieval_base"]
    if not (duel["win_rate"] >= 0.75 and duel["low"] > 0.55 and kept):
        console.print("The loop did not reach its aim: win rate 75 %, low end above 55 %, 80 % of the base's retrieval.")
        raise typer.Exit(1)


if __name__ == "__main__":
    typer.run(main)
