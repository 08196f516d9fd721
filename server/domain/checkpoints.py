"""Checkpoints: which one is current, where it came from, what it changed. None stands for the base model everywhere."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from sqlalchemy import func, select, update
from sqlalchemy.orm import Session, selectinload

from server.domain import audit, people, projects
from server.domain.people import Role
from server.errors import Conflict, NotFound
from server.models import Checkpoint, Group, Image, Project, Round, RoundVote, State, User, Vote, now

BASE = "base"
CURRENT = "current"


@dataclass(frozen=True)
class BeforeAfter:
    """One prompt, one seed, two policies."""

    prompt: str
    base_image: Image
    tuned_image: Image


@dataclass(frozen=True)
class Lineage:
    """Where a checkpoint comes from: its ancestors, oldest first, and how many votes of each person its round learned from."""

    ancestors: list[Checkpoint]
    votes_by_person: dict[str, int]


def current(session: Session, project: Project) -> Checkpoint | None:
    """The policy that the next sample round uses: the checkpoint promoted last."""
    return current_of(session, [project]).get(project.id)


def current_of(session: Session, many: Sequence[Project]) -> dict[str, Checkpoint]:
    """The same for many projects with one query; a project that uses the base model is missing."""
    newest = func.row_number().over(
        partition_by=Checkpoint.project_id, order_by=(Checkpoint.promoted_at.desc(), Checkpoint.number.desc())
    )
    promoted = select(Checkpoint.id, newest.label("place")).where(
        Checkpoint.project_id.in_([project.id for project in many]), Checkpoint.promoted_at.is_not(None)
    )
    first = promoted.subquery()
    query = select(Checkpoint).join(first, first.c.id == Checkpoint.id).where(first.c.place == 1)
    return {checkpoint.project_id: checkpoint for checkpoint in session.scalars(query)}


def open_for(session: Session, user: User, checkpoint_id: str, role: Role) -> Checkpoint:
    """The checkpoint, for somebody who has this role in its project."""
    checkpoint = session.get(Checkpoint, checkpoint_id)
    if checkpoint is None:
        raise NotFound("There is no such checkpoint.")
    projects.open_for(session, user, checkpoint.project_id, role)
    return checkpoint


def resolve(session: Session, project: Project, name: str | None) -> Checkpoint | None:
    """What a person means by an id or a number, by "current", or by "base" (or nothing): a checkpoint of this project or the base
    model."""
    if name == CURRENT:
        return current(session, project)
    if name in (None, BASE):
        return None
    named = Checkpoint.number == int(name) if name.isdecimal() and len(name) < 10 else Checkpoint.id == name
    checkpoint = session.scalar(select(Checkpoint).where(Checkpoint.project_id == project.id, named))
    if checkpoint is None:
        raise NotFound(f"This project has no checkpoint {name[:40]}.")
    return checkpoint


def list_(session: Session, project: Project, after: str | None = None, limit: int = 50) -> tuple[list[Checkpoint], str | None]:
    """One page, newest first, and where the next one starts."""
    query = select(Checkpoint).where(Checkpoint.project_id == project.id).order_by(Checkpoint.number.desc())
    if after is not None:
        query = query.where(Checkpoint.number < projects.place(after))
    found = list(session.scalars(query.limit(limit + 1)))
    return found[:limit], str(found[limit - 1].number) if len(found) > limit else None


def promote(session: Session, by: User, checkpoint_id: str) -> Checkpoint:
    """From now on sample rounds use this checkpoint. Promoting an older one is a roll-back."""
    checkpoint = open_for(session, by, checkpoint_id, "operator")
    _refuse_within_auto(session, checkpoint.project_id)
    checkpoint.promoted_at = now()
    session.flush()
    audit.record(session, by, "promote", checkpoint.id)
    return checkpoint


def put_in_use(session: Session, round_: Round) -> Checkpoint | None:
    """What a training round that is done made is what the next sample round uses, provided that its parent still is: a policy
    that somebody chose meanwhile stays in use. Returns what was left unused."""
    made = session.scalar(select(Checkpoint).where(Checkpoint.round_id == round_.id))
    if made is None:
        return None
    if round_.auto_id is None:  # nobody can choose while an auto round is at work, which is locked before its project
        _hold_project(session, made.project_id)
    policy = current(session, session.get_one(Project, made.project_id))
    if policy is made:
        return None
    if made.parent_id != (policy.id if policy else None):
        return made
    made.promoted_at = now()
    session.flush()
    return None


def use(session: Session, project: Project, checkpoint: Checkpoint | None) -> None:
    """The same without a person who asks for it; None: the base model."""
    if checkpoint is None:
        session.execute(update(Checkpoint).where(Checkpoint.project_id == project.id).values(promoted_at=None))
    else:
        checkpoint.promoted_at = now()
    session.flush()


def _hold_project(session: Session, project_id: str) -> None:
    """Locks it, as whoever requests a round does."""
    session.execute(select(Project.id).where(Project.id == project_id).with_for_update())


def _refuse_within_auto(session: Session, project_id: str) -> None:
    _hold_project(session, project_id)
    active = (Round.kind == "auto", Round.state.in_((State.QUEUED, State.RUNNING)))
    number = session.scalar(select(Round.number).where(Round.project_id == project_id, *active))
    if number is not None:
        raise Conflict(f"Auto round {number} is at work and decides which policy is in use. Wait for it, or cancel it first.")


def promote_base(session: Session, by: User, project: Project) -> None:
    """From now on sample rounds use the base model again; the checkpoints stay and can be promoted later."""
    people.require(session, by, project, "operator")
    _refuse_within_auto(session, project.id)
    use(session, project, None)
    audit.record(session, by, "promote", BASE, project=project.id)


def lineage(session: Session, checkpoint: Checkpoint) -> Lineage:
    known = {row.id: row for row in session.scalars(select(Checkpoint).where(Checkpoint.project_id == checkpoint.project_id))}
    ancestors: list[Checkpoint] = []
    parent = checkpoint.parent_id
    while parent is not None:
        ancestors.insert(0, known[parent])
        parent = known[parent].parent_id
    votes = (
        select(User.name, func.count())
        .join(Vote, Vote.user_id == User.id)
        .join(RoundVote, RoundVote.vote_id == Vote.id)
        .where(RoundVote.round_id == checkpoint.round_id)
        .group_by(User.name)
        .order_by(User.name)
    )
    return Lineage(ancestors, dict(session.execute(votes).tuples().all()))


def gallery(session: Session, checkpoint: Checkpoint) -> list[BeforeAfter]:
    """The same prompts and seeds drawn by the base model and by this checkpoint."""
    query = select(Group).where(Group.round_id == checkpoint.round_id).order_by(Group.position)
    groups = session.scalars(query.options(selectinload(Group.images)))
    return [BeforeAfter(group.prompt, group.images[0], group.images[1]) for group in groups if len(group.images) == 2]
