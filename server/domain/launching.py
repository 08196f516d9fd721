"""Requests for rounds: one transaction writes the round and its jobs, and the jobs are sent after the commit."""

from __future__ import annotations

import hashlib
import secrets
from collections.abc import Iterator, Sequence
from itertools import product
from typing import Any

from sqlalchemy import func, select
from sqlalchemy.orm import Session

from d3po_core.params import DuelParams, SamplingParams, TrainingParams
from server.db import send_after_commit
from server.domain import audit, checkpoints, machines, pairs, people, projects
from server.domain import prompts as prompt_rules
from server.errors import Conflict, Invalid, TooLarge
from server.models import Checkpoint, Job, Project, Round, RoundVote, State, User

SAMPLE_PROMPTS, DUEL_PROMPTS = 12, 24
"""How many a round draws from a prompt set unless it is told."""
DUEL_CHUNK = 8
MAX_COMPARISONS = 10_000
SHAPE = ("weights", "lora_rank", "lora_alpha", "lora_targets")
"""What of a training round is settled by the checkpoint that it goes on with."""


def request_sample_round(
    session: Session,
    by: User,
    project: Project,
    params: SamplingParams,
    prompts: Sequence[str] | None = None,
    *,
    prompt_set: str | None = None,
    count: int = SAMPLE_PROMPTS,
    checkpoint_id: str | None = checkpoints.CURRENT,
) -> Round:
    """Groups of the given prompts, or of `count` from a prompt set, drawn by the current policy unless told otherwise."""
    people.require(session, by, project, "operator")
    params = projects.merged({name: value for name, value in project.sampling.items() if name != "seed"}, params)
    projects.check_group_size(project.mode, params)
    if "seed" not in params.model_fields_set:
        params = params.model_copy(update={"seed": secrets.randbelow(2**31)})
    policy = checkpoints.resolve(session, project, checkpoint_id)
    drawn = _prompts(project, prompts, prompt_set, count, params.seed)
    round_ = new_round(
        session, by, project, "sample", params.model_dump() | {"prompts": len(drawn)}, checkpoint_id=policy.id if policy else None
    )
    for first, chunk in _chunks(drawn):
        add_job(session, round_, "sample", {"first_position": first, "prompts": chunk})
    return round_


def request_training_round(
    session: Session,
    by: User,
    project: Project,
    params: TrainingParams,
    votes: pairs.Selection = "all",
    *,
    within: Round | None = None,
) -> Round:
    """Trains on the counted votes of groups that the current policy sampled, and on no vote that comes later. `within`: the auto
    round that this is a step of."""
    people.require(session, by, project, "operator")
    pairs.check_selection(votes)
    refuse_second_training(session, project, within)
    parent = checkpoints.current(session, project)
    params = training_of(project, parent, params)
    chosen = pairs.trainable_votes(session, project, votes)
    usable = pairs.usable(session, chosen)
    if not usable.pairs:
        policy = f"checkpoint {parent.number}" if parent else "the base model"
        raise Invalid(_no_pairs(usable, policy, machines.alone(session, chosen)))
    vote_ids = sorted(vote.id for vote in chosen)
    round_ = new_round(
        session,
        by,
        project,
        "training",
        params.model_dump() | {"votes": votes, "pairs": usable.pairs, "groups": usable.groups},
        checkpoint_id=parent.id if parent else None,
        votes_hash=hashlib.sha256("\n".join(vote_ids).encode()).hexdigest(),
    )
    session.add_all(RoundVote(round_id=round_.id, vote_id=vote_id) for vote_id in vote_ids)
    add_job(session, round_, "train", {})
    return round_


def training_of(project: Project, parent: Checkpoint | None, asked: TrainingParams | None = None) -> TrainingParams:
    """The settings of a round: what is asked for, over the shape of the parent's weights, over the project's own values."""
    made = parent.manifest.get("params", {}) if parent else {}
    own = project.training | {name: made[name] for name in SHAPE if name in made}
    return projects.merged(own, asked or TrainingParams())


def request_duel_round(
    session: Session,
    by: User,
    project: Project,
    params: DuelParams,
    checkpoint_a: str | None = checkpoints.CURRENT,
    checkpoint_b: str | None = checkpoints.BASE,
    prompts: Sequence[str] | None = None,
    *,
    prompt_set: str | None = None,
    count: int = DUEL_PROMPTS,
) -> Round:
    """One comparison for each prompt and seed; the prompts of a prompt set are ones that no sample round draws."""
    people.require(session, by, project, "operator")
    params = projects.merged(project.sampling, params)
    a, b = (checkpoints.resolve(session, project, name) for name in (checkpoint_a, checkpoint_b))
    if a is b:
        raise Invalid("A duel needs two different checkpoints; both are the same one. Train first, or choose another.")
    if min(params.seeds) < 0 or max(params.seeds) >= 2**31:
        raise Invalid("A seed is a whole number from 0 to 2,147,483,647.")
    drawn = _prompts(project, prompts, prompt_set, count, params.seeds[0], held_out=True)
    seeds = list(dict.fromkeys(params.seeds))
    comparisons = len(drawn) * len(seeds)
    if comparisons > MAX_COMPARISONS:
        raise TooLarge(
            f"A duel takes at most {MAX_COMPARISONS:,} comparisons, this is {comparisons:,}. Use fewer prompts or seeds."
        )
    items = [[prompt, seed] for prompt, seed in product(drawn, seeds)]
    ids = {"checkpoint_id": a.id if a else None, "opponent_id": b.id if b else None}
    round_ = new_round(session, by, project, "duel", params.model_dump() | {"prompts": len(drawn), "items": len(items)}, **ids)
    for first in range(0, len(items), DUEL_CHUNK):
        add_job(session, round_, "duel", {"first_position": first, "items": items[first : first + DUEL_CHUNK]})
    return round_


def _prompts(
    project: Project, prompts: Sequence[str] | None, prompt_set: str | None, count: int, seed: int, *, held_out: bool = False
) -> list[str]:
    if prompts is not None and prompt_set is not None:
        raise Invalid("Give prompts or a prompt_set, not both.")
    if prompts is not None:
        return prompt_rules.check(prompts)
    draw = prompt_rules.held_out if held_out else prompt_rules.draw
    return draw(project, count, seed, prompt_set)


def _chunks(prompts: list[str]) -> Iterator[tuple[int, list[str]]]:
    """1 prompt, so that people can start; then 2; then 4 at a time, which is faster."""
    first, size = 0, 1
    while first < len(prompts):
        yield first, prompts[first : first + size]
        first, size = first + size, min(size * 2, 4)


def lock(session: Session, project: Project) -> None:
    """Rounds of one project are requested one after the other."""
    session.execute(select(Project.id).where(Project.id == project.id).with_for_update())


def new_round(session: Session, by: User, project: Project, kind: str, params: dict[str, Any], **fields: Any) -> Round:
    lock(session, project)
    last = session.scalar(select(func.max(Round.number)).where(Round.project_id == project.id)) or 0
    round_ = Round(project_id=project.id, number=last + 1, kind=kind, params=params, created_by=by.id, **fields)
    session.add(round_)
    session.flush()
    audit.record(session, by, f"request {kind} round", round_.id)
    return round_


def add_job(session: Session, round_: Round, kind: str, payload: dict[str, Any], **fields: Any) -> None:
    job = Job(round_id=round_.id, kind=kind, payload=payload, **fields)
    session.add(job)
    session.flush()
    send_after_commit(session, job.id)


def refuse_second_training(session: Session, project: Project, within: Round | None = None) -> None:
    """Conflict while a training or an auto round is not over."""
    lock(session, project)
    busy = (Round.kind.in_(("training", "auto")), Round.state.in_((State.QUEUED, State.RUNNING)))
    others = select(Round).where(Round.project_id == project.id, *busy).order_by(Round.number)
    if other := next((row for row in session.scalars(others) if row is not within), None):
        name = f"Auto round {other.number}" if other.kind == "auto" else f"Round {other.number}"
        raise Conflict(f"{name} is training this project already. Wait for it, or cancel it first.")


def _no_pairs(usable: pairs.Usable, policy: str, only_machines: bool) -> str:
    lost = f" ({usable.lost})" if usable.lost else ""
    counted = "1 vote counts" if usable.votes == 1 else f"{usable.votes} votes count"
    told = f"There are 0 usable pairs to train on: {counted} on images that {policy} drew{lost}."
    if usable.votes and only_machines:
        return f"{told} Their scores put no image of a group above another: score by another reward, or pick the better images."
    return f"{told} Sample a round, pick the better image in some groups, then train."
