"""What the operator's page shows of a project: whether it works yet, the four stages of the loop, and the one next step."""

from __future__ import annotations

from dataclasses import dataclass, field

from sqlalchemy import select
from sqlalchemy.orm import Session

from server.domain import checkpoints, duels, pairs, rounds, stats
from server.domain.duels import DuelResult
from server.domain.pairs import Usable
from server.domain.rounds import Progress
from server.models import Checkpoint, Project, Round, State
from server.pages.expectation import ENOUGH_GROUPS, expectation
from server.pages.templating import percent, progress_text, the, time_left, title

ACTIVE = (State.QUEUED, State.RUNNING)
KINDS = ("sample", "training", "duel", "study", "reward", "evaluation", "auto")


@dataclass(frozen=True)
class Stage:
    name: str
    href: str
    figure: str
    lines: list[str]
    progress: Progress | None = None


@dataclass(frozen=True)
class Suggestion:
    """A button: a link (`href`), a form (`action` with `fields`), or neither where the only thing to do is to wait. `note` says
    what to expect of it."""

    label: str
    href: str = ""
    action: str = ""
    fields: dict[str, str] = field(default_factory=dict)
    note: str = ""


@dataclass(frozen=True)
class Overview:
    """Everything the loop and the suggestion are derived from, read once."""

    project: Project
    latest: dict[str, Round]
    progress: dict[str, Progress]
    usable: Usable
    fresh: Usable
    waiting: int
    set_aside: int
    surplus: int
    current: Checkpoint | None
    duel: DuelResult | None
    duelled: tuple[Checkpoint | None, Checkpoint | None]


def read(session: Session, project: Project) -> Overview:
    latest = {kind: row for kind in KINDS if (row := _latest(session, project, kind))}
    duel = latest.get("duel")
    return Overview(
        project=project,
        latest=latest,
        progress=rounds.progress_of(session, list(latest.values())),
        usable=pairs.usable_pairs(session, project),
        fresh=pairs.usable_pairs(session, project, "new"),
        waiting=stats.waiting(session, project),
        set_aside=stats.set_aside(session, project),
        surplus=stats.surplus(session, project),
        current=checkpoints.current(session, project),
        duel=duels.result(session, duel) if duel else None,
        duelled=opponents(session, duel) if duel else (None, None),
    )


def opponents(session: Session, duel: Round) -> tuple[Checkpoint | None, Checkpoint | None]:
    one, other = (session.get(Checkpoint, ident) if ident else None for ident in (duel.checkpoint_id, duel.opponent_id))
    return one, other


def stages(seen: Overview) -> list[Stage]:
    return [_sample(seen), _vote(seen), _train(seen), _duel(seen)]


def verdict(seen: Overview) -> str:
    """Whether it works yet, in a sentence."""
    current, (duelled, rival), duel = seen.current, seen.duelled, seen.duel
    if current is None:
        trained = "A checkpoint is there, but the" if State.DONE in _states(seen, "training") else "Nothing is trained yet: the"
        return f"{trained} base model draws the images."
    if duel is None or duelled is not current:
        return f"Nobody has compared {title(current)} yet, so whether it is better is open."
    if duel.win_rate is None:
        return f"Whether {title(current)} is better than {the(rival)} shows once its duel has votes."
    against = f"in {headline(duel)} of comparisons"
    if duel.low > 0.5:
        return f"It works: people prefer {title(current)} to {the(rival)} {against}."
    if _lost(duel):
        return f"It got worse: people prefer {title(current)} to {the(rival)} only {against}."
    return f"Not clear yet: people prefer {title(current)} to {the(rival)} {against}. More votes narrow the interval."


def _states(seen: Overview, kind: str) -> list[State]:
    return [seen.latest[kind].state] if kind in seen.latest else []


def suggest(seen: Overview) -> Suggestion:
    """The first of these that applies: an auto round, mend, wait for training, vote, train, wait for images, duel, roll back,
    sample."""
    newest = max(seen.latest.values(), key=lambda row: row.number, default=None)
    training, project_url = seen.latest.get("training"), f"/p/{seen.project.id}"
    if (auto := seen.latest.get("auto")) and (found := _auto(seen, auto, newest)):
        return found
    if newest and newest.state == State.FAILED:
        return Suggestion(f"retry {title(newest)}", action=f"/rounds/{newest.id}/retry", note=seen.progress[newest.id].message)
    if training and training.state in ACTIVE:
        return _wait_for_training(seen, training)
    if seen.waiting and not _is_enough(seen):
        return Suggestion(f"vote on {_count(seen.waiting, 'group')}", href=f"{project_url}/vote", note=_wanted(seen))
    if seen.fresh.groups >= ENOUGH_GROUPS:
        label = f"train on {_count(seen.usable.pairs, 'pair')}"
        return Suggestion(label, action=f"{project_url}/training-rounds", note=expectation(seen.project, seen.usable.groups))
    busy = next((row for row in seen.latest.values() if row.state in ACTIVE), None)
    if busy:
        then = "Its votes count as they come." if busy.kind == "reward" else "The first groups can be voted on soon."
        return Suggestion(f"{title(busy).capitalize()} is {busy.state}. {then}")
    return _after_training(seen, project_url)


def _auto(seen: Overview, auto: Round, newest: Round | None) -> Suggestion | None:
    """To watch it while it runs, and to retry it where nothing was launched since it failed."""
    progress = seen.progress[auto.id]
    if auto.state in ACTIVE:
        note = f"{progress_text(progress)}; it samples, scores and trains by itself. You can go on voting."
        return Suggestion(f"watch {title(auto)}", href=f"/rounds/{auto.id}", note=note)
    if auto.state == State.FAILED and newest and auto.id in (newest.id, newest.auto_id):
        return Suggestion(f"retry {title(auto)}", action=f"/rounds/{auto.id}/retry", note=progress.message)
    return None


def _wait_for_training(seen: Overview, training: Round) -> Suggestion:
    then = "You can go on voting." if seen.waiting else "Its pictures before and after appear here once it is done."
    note = expectation(seen.project, int(training.params.get("groups", 0)))
    return Suggestion(f"{title(training).capitalize()} is {training.state}. {then}", note=note)


def _is_enough(seen: Overview) -> bool:
    """A round's worth of new groups; or nearly all there are, so that one group that nobody decides holds nothing up."""
    return seen.fresh.groups >= min(ENOUGH_GROUPS, 4 * seen.waiting)


def _wanted(seen: Overview) -> str:
    if seen.duel and seen.duel.waiting:
        return f"{seen.duel.waiting} of them decide the duel."
    return f"{seen.fresh.groups} of {ENOUGH_GROUPS} groups for the next training round."


def _after_training(seen: Overview, project_url: str) -> Suggestion:
    if seen.current and seen.current is not seen.duelled[0] and not seen.fresh.groups:
        return Suggestion(f"duel {title(seen.current)}", action=f"{project_url}/duel-rounds")
    if seen.current and seen.duel and _lost(seen.duel):
        rival = seen.duelled[1]
        fields = {"checkpoint_id": rival.id if rival else checkpoints.BASE}
        return Suggestion(f"roll back to {the(rival)}", action=f"{project_url}/promote", fields=fields)
    count = ENOUGH_GROUPS - seen.fresh.groups
    label = f"sample {count} more groups" if seen.fresh.groups else f"sample {count} groups"
    note = f"You can train now, too. {expectation(seen.project, seen.usable.groups)}" if seen.fresh.groups else ""
    return Suggestion(label, action=f"{project_url}/sample-rounds", fields={"count": str(count)}, note=note.strip())


def _lost(duel: DuelResult) -> bool:
    return duel.high < 0.5


def _sample(seen: Overview) -> Stage:
    row = seen.latest.get("sample")
    href = f"/rounds/{row.id}" if row else "#launch"
    if row is None:
        return Stage("Sample", href, "not yet", ["Draws the images to vote on."])
    progress = seen.progress[row.id]
    figure = f"{progress.done} of {progress.total}"
    return Stage("Sample", href, figure, [f"groups of {title(row)}", *_state_lines(row, progress)], _running(row, progress))


def _vote(seen: Overview) -> Stage:
    waiting = f"{_count(seen.waiting, 'group')} to vote on" if seen.waiting else "nothing waits"
    lines = [f"from {_count(seen.usable.groups, 'group')} that {the(seen.current)} drew", waiting]
    if seen.set_aside:
        lines.append(f"{_count(seen.set_aside, 'group')} of another policy set aside: no round can train on them now")
    lines += [f"{_count(seen.surplus, 'vote')} too late or too many: kept, not counted"] if seen.surplus else []
    lines += [f"no pair from: {seen.usable.lost}"] if seen.usable.lost else []
    return Stage("Vote", f"/p/{seen.project.id}/vote", _count(seen.usable.pairs, "pair"), lines)


def _train(seen: Overview) -> Stage:
    row = seen.latest.get("training")
    if row is None:
        return Stage("Train", "#launch", "not yet", ["Learns from the pairs."])
    progress = seen.progress[row.id]
    share = percent(progress.done / progress.total) if progress.total else row.state
    figure = str(share if row.state in ACTIVE else title(seen.current) if row.state == State.DONE else row.state)
    return Stage("Train", f"/rounds/{row.id}", figure, [title(row), *_state_lines(row, progress)], _running(row, progress))


def _duel(seen: Overview) -> Stage:
    row, result = seen.latest.get("duel"), seen.duel
    if row is None or result is None:
        return Stage("Duel", "#launch", "not yet", ["Shows whether the new checkpoint wins."])
    progress = seen.progress[row.id]
    lines = [f"{the(seen.duelled[0])} against {the(seen.duelled[1])}"]
    lines += [f"{result.waiting} of {progress.total} wait for a vote"] if result.waiting else []
    return Stage("Duel", f"/rounds/{row.id}", headline(result), lines + _state_lines(row, progress), _running(row, progress))


def headline(result: DuelResult) -> str:
    """61 % [54, 68]"""
    if result.win_rate is None:
        return "no votes yet"
    return f"{percent(result.win_rate)} [{result.low * 100:.0f}, {result.high * 100:.0f}]"


def _state_lines(row: Round, progress: Progress) -> list[str]:
    if row.state == State.RUNNING and progress.seconds_left is not None:
        return [time_left(progress)]
    return [] if row.state in (State.DONE, State.RUNNING) else [str(row.state)]


def _running(row: Round, progress: Progress) -> Progress | None:
    return progress if row.state == State.RUNNING else None


def _count(number: int, noun: str) -> str:
    return f"{number} {noun}" if number == 1 else f"{number} {noun}s"


def _latest(session: Session, project: Project, kind: str) -> Round | None:
    query = select(Round).where(Round.project_id == project.id, Round.kind == kind)
    return session.scalar(query.order_by(Round.number.desc()).limit(1))
