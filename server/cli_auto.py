"""`d3po auto`: request an auto round and watch its epochs. Workers do the work, and go on without whoever watches."""

from __future__ import annotations

import time
from typing import Annotated

import typer
from rich.progress import Progress
from sqlalchemy.orm import Session

from d3po_core.params import SamplingParams, TrainingParams
from server import cli_rounds, db
from server.cli_rounds import Combine, Guidance, ProjectName, PromptSet, Rewards, Steps, Watch, Weights, said
from server.domain import auto, rounds
from server.domain.auto import AutoParams, curve
from server.errors import parse
from server.models import Project, Round, User


def auto_(
    project: ProjectName = None,
    reward: Rewards = None,
    weight: Weights = None,
    combine: Combine = None,
    epochs: Annotated[int | None, typer.Option(help="How often to sample, score and train.")] = None,
    evaluate_every: Annotated[int | None, typer.Option(help="A held-out evaluation after every so many epochs.")] = None,
    count: Annotated[int | None, typer.Option(help="Prompts of an epoch.")] = None,
    evaluation_prompts: Annotated[int | None, typer.Option(help="Held-out prompts of an evaluation, one image each.")] = None,
    stop_kl: Annotated[
        float | None, typer.Option(help="End when a training round ends further than this from its start.")
    ] = None,
    stop_on_regression: Annotated[bool | None, typer.Option(help="End when the held-out reward falls below the best.")] = None,
    prompt_set: PromptSet = None,
    images_per_prompt: Annotated[int | None, typer.Option(help="N, the images of a group.")] = None,
    steps: Steps = None,
    guidance: Guidance = None,
    algorithm: Annotated[str | None, typer.Option(help="d3po, ddpo, dpok, rwr or sft.")] = None,
    learning_rate: Annotated[float | None, typer.Option()] = None,
    lora_rank: Annotated[int | None, typer.Option()] = None,
    seed: Annotated[int | None, typer.Option(help="Of prompts, noise and evaluations; left out: drawn anew.")] = None,
    watch: Watch = True,
) -> None:
    """Sample, score by rewards and train for many epochs, with evaluations on held-out prompts."""
    asked = said(
        epochs=epochs, evaluate_every=evaluate_every, count=count, evaluation_prompts=evaluation_prompts, stop_kl=stop_kl,
        stop_on_regression=stop_on_regression, prompt_set=prompt_set, seed=seed,
    )  # fmt: skip
    sampling = said(images_per_prompt=images_per_prompt, num_inference_steps=steps, guidance_scale=guidance)
    training = said(algorithm=algorithm, learning_rate=learning_rate, lora_rank=lora_rank)
    asked |= {"reward": cli_rounds.rewards_of(reward, weight, combine)}
    asked |= {"sampling": parse(SamplingParams, sampling), "training": parse(TrainingParams, training)}

    def request(session: Session, by: User, chosen: Project) -> Round:
        return auto.request_auto_round(session, by, chosen, parse(AutoParams, asked))

    cli_rounds.launch(project, request, watch, follow)


def follow(round_id: str, bars: Progress) -> rounds.Progress:
    """Two bars, the epochs and the round that runs; each evaluation is told once, as a line that stays."""
    epochs, step = bars.add_task("queued", unit="", total=None), bars.add_task("", unit="", total=None)
    told: set[str] = set()
    begun = time.monotonic()
    while True:
        with db.read_scope() as session:
            row = session.get_one(Round, round_id)
            running, progress = auto.latest(session, row), rounds.progress(session, row)
            within, measured = rounds.progress(session, running), curve.evaluations_of(session, row)
        cli_rounds.show(bars, epochs, str(progress.state), progress)
        heard = cli_rounds.heard(within, time.monotonic() - begun)
        cli_rounds.show(bars, step, f"{running.kind} round {running.number}: {heard}", within)
        for one in measured:
            if one.round_id not in told:
                bars.console.print(evaluation_line(one, row))
                told.add(one.round_id)
        if progress.state not in rounds.ACTIVE:
            return progress
        time.sleep(cli_rounds.LOOK_EVERY_SECONDS)


def evaluation_line(one: curve.Evaluation, row: Round) -> str:
    """Like "epoch 2: held-out colourfulness 31.2 [29.5, 32.9]"."""
    names = {chosen.key: chosen.name for chosen in auto.params_of(row).reward.rewards}
    figures = [f"{names[key]} {told.mean:.4g} [{told.low:.4g}, {told.high:.4g}]" for key, told in one.figures.items()]
    return f"{f'epoch {one.epoch}' if one.epoch else 'before training'}: held-out {', '.join(figures)}"
