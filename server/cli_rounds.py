"""`d3po sample`, `train`, `duel` and `reward`: request a round and watch it. The work itself is a worker's."""

from __future__ import annotations

import time
from collections.abc import Callable
from pathlib import Path
from typing import Annotated, Any

import typer
from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TaskID, TextColumn, TimeElapsedColumn
from sqlalchemy import select
from sqlalchemy.orm import Session

from d3po_core.params import DuelParams, SamplingParams, TrainingParams
from d3po_core.rewards import RewardParams
from server import cli_studies, db
from server.domain import checkpoints, projects, rounds, scores
from server.domain import prompts as prompt_rules
from server.domain.launching import DUEL_PROMPTS, SAMPLE_PROMPTS
from server.domain.studying import RATERS, STUDY_ITEMS, StudyParams
from server.errors import Conflict, D3poError, Invalid, parse
from server.models import Project, Round, State, User

told = Console(stderr=True, highlight=False)
LOOK_EVERY_SECONDS = 0.5
LONG_WAIT_SECONDS = 20.0

ProjectName = Annotated[str | None, typer.Argument(help="Name or id; may be left out while there is only one project.")]
Prompts = Annotated[list[str] | None, typer.Option("--prompt", help="A prompt; repeat for more.")]
PromptsFile = Annotated[
    Path | None, typer.Option(help="A text file with one prompt a line; each is drawn once.", exists=True, dir_okay=False)
]
PromptSet = Annotated[str | None, typer.Option(help="Draw from this prompt set instead of the project's.")]
Count = Annotated[int, typer.Option(help="How many prompts to draw from the prompt set.")]
Steps = Annotated[int | None, typer.Option("--steps", help="num_inference_steps, T.")]
Guidance = Annotated[float | None, typer.Option("--guidance", help="guidance_scale.")]
Rewards = Annotated[list[str] | None, typer.Option(help="A reward to score by; repeat for more that combine.")]
Weights = Annotated[list[float] | None, typer.Option(help="Of a weighted sum, one for each reward in their order.")]
Combine = Annotated[str | None, typer.Option(help="pareto or weighted; left out: weighted if there are weights.")]
Watch = Annotated[bool, typer.Option(help="Stay and show the progress.")]


def sample(
    project: ProjectName = None,
    prompt: Prompts = None,
    prompts_file: PromptsFile = None,
    prompt_set: PromptSet = None,
    count: Count = SAMPLE_PROMPTS,
    images_per_prompt: Annotated[int | None, typer.Option(help="N, the images of a group.")] = None,
    steps: Steps = None,
    guidance: Guidance = None,
    eta: Annotated[float | None, typer.Option(help="DDIM eta, above 0 and at most 1.")] = None,
    seed: Annotated[int | None, typer.Option(help="Left out: drawn anew.")] = None,
    checkpoint: Annotated[str, typer.Option(help='"current", "base" or an id.')] = checkpoints.CURRENT,
    watch: Watch = True,
) -> None:
    """Draw groups of images to vote on."""

    def request(session: Session, by: User, chosen: Project) -> Round:
        given = said(images_per_prompt=images_per_prompt, num_inference_steps=steps, guidance_scale=guidance, eta=eta, seed=seed)
        params = parse(SamplingParams, given)
        prompts = _prompts(prompt, prompts_file)
        return rounds.request_sample_round(
            session, by, chosen, params, prompts, prompt_set=prompt_set, count=count, checkpoint_id=checkpoint
        )

    _launch(project, request, watch)


def train(
    project: ProjectName = None,
    algorithm: Annotated[str | None, typer.Option(help="d3po, ddpo, dpok, rwr or sft.")] = None,
    beta: Annotated[float | None, typer.Option(help="d3po: inverse temperature of the preference model.")] = None,
    clip: Annotated[float | None, typer.Option(help="d3po, eps: bounds of the log-ratio.")] = None,
    learning_rate: Annotated[float | None, typer.Option()] = None,
    epochs: Annotated[int | None, typer.Option()] = None,
    lora_rank: Annotated[int | None, typer.Option()] = None,
    pair_weights: Annotated[
        str | None, typer.Option(help="What the votes on a pair weigh: margin, sign (as published) or reliability (of people).")
    ] = None,
    votes: Annotated[str, typer.Option(help='"all" or "new" (no round has learned from them).')] = "all",
    watch: Watch = True,
) -> None:
    """Train the current policy on the votes counted so far."""
    given = said(
        algorithm=algorithm, beta=beta, clip=clip, learning_rate=learning_rate, epochs=epochs, lora_rank=lora_rank,
        pair_weights=pair_weights,
    )  # fmt: skip

    def request(session: Session, by: User, chosen: Project) -> Round:
        return rounds.request_training_round(session, by, chosen, parse(TrainingParams, given), votes)

    _launch(project, request, watch)


def duel(
    project: ProjectName = None,
    a: Annotated[str, typer.Option("--a", help='"current", "base" or a checkpoint id.')] = checkpoints.CURRENT,
    b: Annotated[str, typer.Option("--b", help='"current", "base" or a checkpoint id.')] = checkpoints.BASE,
    prompt: Prompts = None,
    prompts_file: PromptsFile = None,
    prompt_set: PromptSet = None,
    count: Count = DUEL_PROMPTS,
    seed: Annotated[list[int] | None, typer.Option(help="A seed; repeat for more.")] = None,
    steps: Steps = None,
    guidance: Guidance = None,
    watch: Watch = True,
) -> None:
    """Draw the same prompts and seeds by two policies, for blind comparison in the voting queue."""
    given = said(seeds=seed, num_inference_steps=steps, guidance_scale=guidance)

    def request(session: Session, by: User, chosen: Project) -> Round:
        prompts = _prompts(prompt, prompts_file)
        params = parse(DuelParams, given)
        return rounds.request_duel_round(session, by, chosen, params, a, b, prompts, prompt_set=prompt_set, count=count)

    _launch(project, request, watch)


def study(
    project: ProjectName = None,
    checkpoint: Annotated[
        list[str] | None, typer.Option(help='"base", "current", a number or an id; repeat for each. Left out: base and current.')
    ] = None,
    raters: Annotated[int, typer.Option(help="K, the people who vote on each item.")] = RATERS,
    prompt: Prompts = None,
    prompts_file: PromptsFile = None,
    prompt_set: PromptSet = None,
    count: Count = STUDY_ITEMS,
    seed: Annotated[int | None, typer.Option(help="Of the first item; left out: drawn anew.")] = None,
    steps: Steps = None,
    guidance: Guidance = None,
    result: Annotated[int | None, typer.Option(help="Launch nothing: print what the study of this number found so far.")] = None,
    watch: Watch = True,
) -> None:
    """Compare several checkpoints blind, several people an item; --result prints who was preferred, how often by a majority."""
    if result is not None:
        with db.read_scope() as reading:
            cli_studies.show(reading, find_project(reading, project), result)
        return
    given = said(votes_per_item=raters, seed=seed, num_inference_steps=steps, guidance_scale=guidance)
    policies = checkpoint or [checkpoints.BASE, checkpoints.CURRENT]

    def request(session: Session, by: User, chosen: Project) -> Round:
        prompts, params = _prompts(prompt, prompts_file), parse(StudyParams, given)
        return rounds.request_study_round(session, by, chosen, params, policies, prompts, prompt_set=prompt_set, count=count)

    _launch(project, request, watch)


def reward(
    project: ProjectName = None,
    reward: Rewards = None,
    weight: Weights = None,
    combine: Combine = None,
    round_id: Annotated[list[str] | None, typer.Option("--round", help="Score this round; repeat for more.")] = None,
    watch: Watch = True,
) -> None:
    """Score images by rewards: a machine annotator votes on every group that it has not voted on."""
    params = rewards_of(reward, weight, combine)

    def request(session: Session, by: User, project: Project) -> Round:
        return rounds.request_reward_round(session, by, project, params, round_ids=round_id)

    launched = _launch(project, request, watch)
    if watch:
        with db.read_scope() as session:
            told.print(scores.scored(session, session.get_one(Round, launched)).told)


def rewards_of(reward: list[str] | None, weight: list[float] | None, combine: str | None) -> RewardParams:
    """What --reward, --weight and --combine say together."""
    names, weights = reward or [], weight or []
    if weights and len(weights) != len(names):
        raise Invalid(f"Give one --weight for each --reward; there are {len(weights)} for {len(names)}.")
    chosen = [{"name": name, "weight": weights[place] if weights else None} for place, name in enumerate(names)]
    return parse(RewardParams, {"rewards": chosen, "combine": combine or ("weighted" if weights else "pareto")})


def find_project(session: Session, name: str | None) -> Project:
    """The named project, or the only one."""
    if name is not None:
        return projects.find(session, name)
    known = session.scalars(select(Project).order_by(Project.name)).all()
    if len(known) == 1:
        return known[0]
    raise Invalid(f"Say which project: {', '.join(project.name for project in known) or '`d3po project create NAME` makes one'}.")


def first_admin(session: Session) -> User:
    """Whoever runs the command line acts as the first admin."""
    admin = session.scalar(select(User).where(User.is_admin, User.revoked_at.is_(None)).order_by(User.id).limit(1))
    if admin is None:
        raise Conflict("There is no admin yet. Run `d3po user add NAME --role admin` first.")
    return admin


Follow = Callable[[str, Progress], rounds.Progress]


def _launch(name: str | None, request: Callable[[Session, User, Project], Round], stay: bool) -> str:
    return launch(name, request, stay, _follow)


def launch(name: str | None, request: Callable[[Session, User, Project], Round], stay: bool, follow: Follow) -> str:
    """Requests a round and prints its id, which it returns; first shows the progress until it is over, if that is wished."""
    with db.session_scope() as session:
        round_ = request(session, first_admin(session), find_project(session, name))
    told.print(f"Round {round_.number} is queued.")
    print(round_.id)
    if stay:
        watch(round_.id, follow)
    return round_.id


def watch(round_id: str, follow: Follow) -> None:
    """Until the round is over; Ctrl-C only stops watching."""
    columns = (
        TextColumn("{task.description}"),
        BarColumn(),
        MofNCompleteColumn(),
        TextColumn("{task.fields[unit]}"),
        TimeElapsedColumn(),
    )
    try:
        with Progress(*columns, console=told) as bars:
            progress = follow(round_id, bars)
    except KeyboardInterrupt:
        told.print("The round goes on without you; `d3po status` shows it.")
        return
    if progress.state != State.DONE:
        raise D3poError(progress.message)
    if progress.message:
        told.print(progress.message, markup=False)


def _follow(round_id: str, bars: Progress) -> rounds.Progress:
    bar, begun = bars.add_task("queued", unit="", total=None), time.monotonic()
    while True:
        with db.read_scope() as session:
            progress = rounds.progress(session, session.get_one(Round, round_id))
        show(bars, bar, heard(progress, time.monotonic() - begun), progress)
        if progress.state not in rounds.ACTIVE:
            return progress
        time.sleep(LOOK_EVERY_SECONDS)


def heard(progress: rounds.Progress, waited: float) -> str:
    """The state, and whether a worker seems to be there at all."""
    if progress.silent:
        return "running, but nothing was heard of its worker for a while"
    if progress.state == State.QUEUED and waited > LONG_WAIT_SECONDS:
        return "queued, and no worker has taken it yet: is one running?"
    return str(progress.state)


def show(bars: Progress, bar: TaskID, description: str, progress: rounds.Progress) -> None:
    left = "" if progress.seconds_left is None else f", {progress.seconds_left:.0f} s left"
    unit = f"{progress.unit}{left}"
    bars.update(bar, description=description, total=progress.total or None, completed=progress.done, unit=unit)


def _prompts(given: list[str] | None, file: Path | None) -> list[str] | None:
    lines = list(prompt_rules.in_text(file.read_bytes(), file.name)) if file else []
    return [*(given or []), *lines] or ([] if file else None)


def said(**options: Any) -> dict[str, Any]:
    return {name: value for name, value in options.items() if value is not None}
