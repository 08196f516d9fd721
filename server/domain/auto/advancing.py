"""How an auto round goes on: whenever a round that it launched is settled, the recorded rows say what comes next.

No process drives it. The end of a round and the launch of the next are one transaction, so whatever is killed, either both are
there or neither, and then the job is done again. Locks: the round that ended, then its auto round, then the project.
"""

from __future__ import annotations

from dataclasses import dataclass

from sqlalchemy import select
from sqlalchemy.orm import Session

from server.domain import checkpoints
from server.domain.auto import curve
from server.domain.auto.curve import evaluations_of, judged
from server.domain.auto.launch import Launch, Launched
from server.domain.auto.params import AutoParams, params_of
from server.domain.auto.steps import FIRST, Step, steps
from server.errors import D3poError
from server.models import Checkpoint, Metric, Project, Round, State, now


@dataclass(frozen=True)
class Stop:
    """After which epoch it ends, and why."""

    epoch: int
    reason: str


def follow(session: Session, round_: Round) -> None:
    """Goes on with the auto round that launched this one, if one did."""
    if round_.auto_id is None:
        return
    session.flush()
    auto = session.get_one(Round, round_.auto_id)
    session.refresh(auto, with_for_update=True)
    if auto.state != State.DONE:
        advance(session, auto)


def advance(session: Session, auto: Round) -> None:
    """Takes over the state of the first step that is not done, and launches it where it is not there yet. All of it is derived
    from rows, so that doing it twice changes nothing."""
    params, known = params_of(auto), launched(session, auto)
    for step, child in known.items():
        if child.state != State.DONE:
            _take_over(auto, step, child)
            return
    stop = _stop(session, auto, params, known)
    for step in steps(stop.epoch, params.evaluate_every):
        if step not in known:
            _launch(session, auto, params, known, step)
            return
    _end(session, auto, params, stop)


def launched(session: Session, auto: Round) -> Launched:
    rows = session.scalars(select(Round).where(Round.auto_id == auto.id).order_by(Round.number))
    return {(row.kind, row.params["epoch"]): row for row in rows}


def _launch(session: Session, auto: Round, params: AutoParams, known: Launched, step: Step) -> None:
    """What cannot be launched stops the auto round, and undoes nothing."""
    kind, epoch = step
    try:
        with session.begin_nested():
            child = Launch(session, auto, params, known, epoch).request(kind)
    except D3poError as error:
        told = f"Epoch {epoch} could not go on with a {kind} round: {error}"
        _set(auto, State.FAILED, f"{told} What was drawn, scored and trained is kept. Retry tries again from there.")
    else:
        _take_over(auto, step, child)
    session.flush()


def _take_over(auto: Round, step: Step, child: Round) -> None:
    if child.state in (State.FAILED, State.CANCELLED):
        _set(auto, child.state, f"Epoch {step[1]} stopped at {child.kind} round {child.number}. {child.message}")
    else:
        _set(auto, child.state if step == FIRST else State.RUNNING, "")


def _set(auto: Round, state: State, message: str) -> None:
    auto.state, auto.message = state, message
    if state == State.RUNNING:
        auto.started_at = auto.started_at or now()
    over = state not in (State.QUEUED, State.RUNNING)
    auto.finished_at = (auto.finished_at or now()) if over else None


def _stop(session: Session, auto: Round, params: AutoParams, known: Launched) -> Stop:
    """The first reason to end; without any, all epochs."""
    found = [stop for stop in (_regressed(session, auto, params), _too_far(session, params, known)) if stop]
    everything = Stop(params.epochs, "All epochs are done.")
    return min([*found, everything], key=lambda stop: stop.epoch)


def _regressed(session: Session, auto: Round, params: AutoParams) -> Stop | None:
    found = curve.regression(judged(evaluations_of(session, auto), params)) if params.stop_on_regression else None
    if found is None:
        return None
    worse, leader, told = found
    reason = (
        f"Stopped after epoch {worse.evaluation.epoch}: its held-out reward is below that of epoch {leader.evaluation.epoch} by "
        f"{-told.mean:.3g} [{-told.high:.3g}, {-told.low:.3g}], more than chance explains."
    )
    return Stop(worse.evaluation.epoch, reason)


def _too_far(session: Session, params: AutoParams, known: Launched) -> Stop | None:
    """Where the latest training ended too far from the policy that it began with; after an earlier one there is no later one."""
    trained = [(epoch, child) for (kind, epoch), child in known.items() if kind == "training"]
    if params.stop_kl is None or not trained:
        return None
    epoch, child = trained[-1]
    kl = _last_kl(session, child)
    told = f"Stopped after epoch {epoch}: its KL to the policy before, {kl:.3g}, is above {params.stop_kl:g}."
    return Stop(epoch, told) if kl > params.stop_kl else None


def _last_kl(session: Session, training: Round) -> float:
    """The average over the round's latest steps, nats a latent dimension."""
    last = session.scalar(select(Metric).where(Metric.round_id == training.id).order_by(Metric.step.desc()).limit(1))
    return (last.values.get("kl_average") or 0.0) if last else 0.0


def _end(session: Session, auto: Round, params: AutoParams, stop: Stop) -> None:
    """The best policy that was evaluated comes into use."""
    chosen = curve.best(judged(evaluations_of(session, auto), params)).evaluation
    made = session.get_one(Checkpoint, chosen.checkpoint_id) if chosen.checkpoint_id else None
    checkpoints.use(session, session.get_one(Project, auto.project_id), made)
    policy = f"checkpoint {made.number}" if made else "the base model"
    origin = f"of epoch {chosen.epoch}" if chosen.epoch else "that it began with"
    _set(auto, State.DONE, f"{stop.reason} Best on held-out prompts, and in use now: {policy}, {origin}.")
    session.flush()
