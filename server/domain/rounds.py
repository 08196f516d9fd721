"""Rounds after they were requested: state, progress, cancel, retry. A round's state is derived from its jobs."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass, replace
from datetime import datetime
from itertools import pairwise
from statistics import median
from typing import Any

from sqlalchemy import func, select, update
from sqlalchemy.orm import Session

from server.db import send_after_commit
from server.domain import audit, auto, checkpoints, launching, people, projects
from server.domain.launching import request_duel_round, request_sample_round, request_training_round
from server.domain.people import Role
from server.domain.rewarding import request_reward_round
from server.domain.studying import request_study_round
from server.errors import Conflict, NotFound
from server.models import Checkpoint, Group, Job, Metric, Project, Round, State, User, now

__all__ = [
    "ACTIVE", "Progress", "cancel", "list_rounds", "metrics", "open_for", "progress", "progress_of", "request_duel_round",
    "request_reward_round", "request_sample_round", "request_study_round", "request_training_round", "retry", "settle",
]  # fmt: skip

ACTIVE = (State.QUEUED, State.RUNNING)
STEPS = "steps"
STEPS_JUDGED = 30
STEPS_BEFORE_JUDGING = 3


@dataclass(frozen=True)
class Progress:
    """`done` of `total` `unit`s; `seconds_left` is an estimate, None while there is nothing to estimate from. Training may
    end before its last step, so for it the estimate is a bound: `at_most`. `workers` run its jobs now; `silent` where none of
    them was heard of within its lease."""

    done: int
    total: int
    unit: str
    seconds_left: float | None
    state: State
    message: str
    at_most: bool = False
    workers: tuple[str, ...] = ()
    silent: bool = False


def open_for(session: Session, user: User, round_id: str, role: Role) -> Round:
    """The round, for somebody who has this role in its project."""
    round_ = session.get(Round, round_id)
    if round_ is None:
        raise NotFound("There is no such round.")
    projects.open_for(session, user, round_.project_id, role)
    return round_


def list_rounds(session: Session, project: Project, after: str | None = None, limit: int = 50) -> tuple[list[Round], str | None]:
    """One page, newest first, and where the next one starts."""
    query = select(Round).where(Round.project_id == project.id).order_by(Round.number.desc())
    if after is not None:
        query = query.where(Round.number < projects.place(after))
    found = list(session.scalars(query.limit(limit + 1)))
    return found[:limit], str(found[limit - 1].number) if len(found) > limit else None


def metrics(session: Session, round_: Round, after_step: int = -1) -> list[Metric]:
    query = select(Metric).where(Metric.round_id == round_.id, Metric.step > after_step)
    return list(session.scalars(query.order_by(Metric.step)))


def cancel(session: Session, by: User, round_: Round) -> None:
    """Stops what waits and what runs; a running worker notices at its next heartbeat. Finished groups are kept."""
    people.require(session, by, _project(session, round_), "operator")
    held = _hold_latest(session, round_)
    stopped = _move(session, held, ACTIVE, state=State.CANCELLED, lease_expires_at=None, finished_at=now())
    if not stopped:
        raise Conflict(f"Round {round_.number} is {round_.state} already; there is nothing to cancel.")
    settle(session, held, stopped_by=by)
    audit.record(session, by, "cancel", round_.id)


def retry(session: Session, by: User, round_: Round) -> None:
    """Runs the failed and cancelled jobs again; what is done stays done. An auto round goes on where it stopped.

    Conflict where that would move the policy beside another training or auto round.
    """
    people.require(session, by, _project(session, round_), "operator")
    held = _hold_latest(session, round_)
    if held.auto_id is not None or held.kind == "training":
        within = session.get_one(Round, held.auto_id) if held.auto_id else held
        launching.refuse_second_training(session, _project(session, round_), within)
    again = _move(session, held, (State.FAILED, State.CANCELLED), state=State.QUEUED, failures=0, sent_at=None, error="")
    if not again and (round_.kind != "auto" or round_.state != State.FAILED):
        raise Conflict(f"Round {round_.number} is {round_.state}; only what failed or was cancelled can be retried.")
    for job_id in again:
        send_after_commit(session, job_id)
    if again:
        settle(session, held)
    else:
        auto.follow(session, held)
    audit.record(session, by, "retry", round_.id)


def _hold_latest(session: Session, round_: Round) -> Round:
    """Locks the round, or of an auto round the one that it launched last: while that one is held, it does not go on."""
    while True:
        held = auto.latest(session, round_) if round_.kind == "auto" else round_
        _hold(session, held)
        if round_.kind != "auto" or auto.latest(session, round_) is held:
            session.refresh(round_)
            return held


def _hold(session: Session, round_: Round) -> None:
    """Locks the round, as workers do before they touch its jobs: one order for everybody."""
    session.refresh(round_, with_for_update=True)


def _move(session: Session, round_: Round, states: Sequence[State], **values: Any) -> Sequence[str]:
    """Changes the jobs that are in one of `states`."""
    jobs = update(Job).where(Job.round_id == round_.id, Job.state.in_(states))
    return session.scalars(jobs.values(**values).returning(Job.id)).all()


def settle(session: Session, round_: Round, stopped_by: User | None = None) -> None:
    """Derives the round's state from its jobs. Two workers that finish together settle one after the other.

    What a training round that is done made comes into use, if its parent still is; an auto round goes on with its next step.
    """
    session.flush()
    _hold(session, round_)
    jobs = session.execute(select(Job.state, Job.error).where(Job.round_id == round_.id)).tuples().all()
    states = Counter(state for state, _ in jobs)
    round_.state = _state(states)
    if round_.state == State.RUNNING:
        round_.started_at = round_.started_at or now()
    over = round_.state not in ACTIVE
    round_.finished_at = (round_.finished_at or now()) if over else None
    if round_.state == State.FAILED:
        errors = " ".join(dict.fromkeys(error for state, error in jobs if state == State.FAILED and error))
        again = "Retry tries again with the same settings." if round_.kind == "training" else "Retry runs the rest."
        round_.message = f"{errors} {_kept(session, round_)} {again}".strip()
    elif round_.state != State.CANCELLED:
        round_.message = ""
    elif stopped_by is not None:
        round_.message = f"Cancelled by {stopped_by.name}. {_kept(session, round_)} Retry runs the rest."
    session.flush()
    if round_.state == State.DONE and (unused := checkpoints.put_in_use(session, round_)):
        round_.message = (
            f"Checkpoint {unused.number} was kept but not put into use: by then its parent was not the policy in use any more. "
            "It can be promoted."
        )
    auto.follow(session, round_)


def _state(jobs: Counter[State]) -> State:
    if jobs[State.RUNNING] or (jobs[State.QUEUED] and jobs[State.DONE]):
        return State.RUNNING
    for state in (State.QUEUED, State.CANCELLED, State.FAILED):
        if jobs[state]:
            return state
    return State.DONE


def _kept(session: Session, round_: Round) -> str:
    if round_.kind == "training":
        made = session.scalar(select(Checkpoint).where(Checkpoint.round_id == round_.id))
        return f"Checkpoint {made.number} is kept{_use(session, made)}, and so are the votes." if made else "The votes are kept."
    if round_.kind == "reward":
        scored = session.scalar(select(func.sum(Job.progress_done)).where(Job.round_id == round_.id)) or 0
        return f"{scored} of {round_.params['images']} images are scored and kept, with the votes that follow."
    groups = session.scalar(select(func.count()).where(Group.round_id == round_.id)) or 0
    return f"{groups} of {_total(round_)} groups are finished and kept."


def _use(session: Session, made: Checkpoint) -> str:
    current = checkpoints.current(session, session.get_one(Project, made.project_id))
    return " and in use" if current is made else " but not in use"


def progress(session: Session, round_: Round) -> Progress:
    return progress_of(session, [round_])[round_.id]


def progress_of(session: Session, rounds: Sequence[Round]) -> dict[str, Progress]:
    """The progress of many rounds with three queries, one more for each that trains, and one for all auto rounds."""
    ids = [round_.id for round_ in rounds]
    epochs = auto.epochs_of(session, [round_ for round_ in rounds if round_.kind == "auto"])
    counts = select(Group.round_id, func.count()).where(Group.round_id.in_(ids)).group_by(Group.round_id)
    groups = dict(session.execute(counts).tuples().all())
    logged = select(Metric.round_id, func.max(Metric.step)).where(Metric.round_id.in_(ids)).group_by(Metric.round_id)
    steps = dict(session.execute(logged).tuples().all())
    jobs: dict[str, list[Job]] = {round_id: [] for round_id in ids}
    for job in session.scalars(select(Job).where(Job.round_id.in_(ids)).execution_options(populate_existing=True)):
        jobs[job.round_id].append(job)
    return {
        round_.id: replace(
            _in_epochs(round_, epochs[round_.id])
            if round_.kind == "auto"
            else _progress(session, round_, jobs[round_.id], groups.get(round_.id, 0), steps.get(round_.id, 0)),
            **_workers(jobs[round_.id]),
        )
        for round_ in rounds
    }


def _workers(jobs: list[Job]) -> dict[str, Any]:
    running = [job for job in jobs if job.state == State.RUNNING]
    silent = [job for job in running if job.lease_expires_at is not None and job.lease_expires_at < now()]
    names = tuple(sorted({job.worker for job in running if job.worker}))
    return {"workers": names, "silent": bool(running) and len(silent) == len(running)}


def _in_epochs(round_: Round, epochs: auto.Epochs) -> Progress:
    """It may end before its last epoch."""
    return Progress(epochs.done, epochs.total, "epochs", epochs.seconds_left, round_.state, round_.message, at_most=True)


def _progress(session: Session, round_: Round, jobs: list[Job], groups: int, steps: int) -> Progress:
    if round_.kind == "training":
        return _training(session, round_, jobs, steps)
    return _scoring(round_, jobs) if round_.kind == "reward" else _drawing(round_, jobs, groups)


def _scoring(round_: Round, jobs: list[Job]) -> Progress:
    done, total = sum(job.progress_done for job in jobs), sum(job.progress_total for job in jobs)
    return Progress(done, total, "images", _seconds_left(round_, jobs), round_.state, round_.message)


def _drawing(round_: Round, jobs: list[Job], groups: int) -> Progress:
    unit = "images" if round_.kind == "evaluation" else "groups"
    return Progress(groups, _total(round_), unit, _seconds_left(round_, jobs), round_.state, round_.message)


def _training(session: Session, round_: Round, jobs: list[Job], steps: int) -> Progress:
    if round_.state == State.DONE:
        return Progress(steps, steps, STEPS, None, round_.state, round_.message)
    done, total = sum(job.progress_done for job in jobs), sum(job.progress_total for job in jobs)
    unit = next((job.progress_unit for job in jobs if job.progress_unit), STEPS)
    pace = _seconds_a_step(session, round_) if round_.state == State.RUNNING and unit == STEPS else None
    left = None if pace is None else round(pace * (total - done), 1)
    return Progress(done, total, unit, left, round_.state, round_.message, at_most=True)


def _seconds_a_step(session: Session, round_: Round) -> float | None:
    """The median of the latest steps: the start of the child, or of one that continues it, is not a step's time."""
    latest = select(Metric).where(Metric.round_id == round_.id).order_by(Metric.step.desc()).limit(STEPS_JUDGED + 1)
    moments = [metric.values["at"] for metric in session.scalars(latest) if metric.values.get("at")]
    times = [later - earlier for later, earlier in pairwise(moments)]
    return median(times) if len(times) >= STEPS_BEFORE_JUDGING else None


def _seconds_left(round_: Round, jobs: list[Job]) -> float | None:
    """What is left, at the speed of the work so far, shared by the workers that run now."""
    moment, running = now(), sum(job.state == State.RUNNING for job in jobs)
    done = sum(_size(job) * _fraction(job) for job in jobs)
    if round_.state != State.RUNNING or not done or not running:
        return None
    spent = sum(_seconds(job, moment) for job in jobs)
    return round(spent / done * (sum(map(_size, jobs)) - done) / running, 1)


def _seconds(job: Job, moment: datetime) -> float:
    """How long the attempt took that `_fraction` tells of."""
    if job.started_at is None or job.state not in (State.RUNNING, State.DONE):
        return 0.0
    return ((job.finished_at or moment) - job.started_at).total_seconds()


def _size(job: Job) -> int:
    parts = (job.payload.get(name) for name in ("prompts", "items", "group_ids"))
    return len(next(filter(None, parts), [None]))


def _fraction(job: Job) -> float:
    if job.state == State.DONE:
        return 1.0
    return job.progress_done / job.progress_total if job.state == State.RUNNING and job.progress_total else 0.0


def _total(round_: Round) -> int:
    return int(round_.params.get("items") or round_.params.get("prompts") or 0)


def _project(session: Session, round_: Round) -> Project:
    return session.get_one(Project, round_.project_id)
