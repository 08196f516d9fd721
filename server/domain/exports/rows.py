"""The rows of a project as lines of JSON, table by table, and back."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass
from datetime import datetime
from itertools import islice
from tempfile import TemporaryFile
from typing import IO, Any

from sqlalchemy import ColumnElement, Select, Table, collate, or_, select
from sqlalchemy.orm import Session

from server.models import (
    Base,
    Checkpoint,
    Group,
    Image,
    Job,
    Membership,
    Metric,
    Project,
    Round,
    RoundVote,
    Score,
    Task,
    User,
    Vote,
)
from server.models.base import UtcDateTime

BATCH = 500
Row = dict[str, Any]


@dataclass(frozen=True)
class Rows:
    """The rows of `model` that belong to a project. `columns`: not all of them leave. `later`: references among rows of one
    kind or in a circle, filled in once all rows are there."""

    model: type[Base]
    belong: Callable[[str], ColumnElement[bool]]
    columns: tuple[str, ...] = ()
    later: tuple[str, ...] = ()

    @property
    def table(self) -> Table:
        return self.model.__table__  # type: ignore[return-value]

    @property
    def names(self) -> tuple[str, ...]:
        return self.columns or tuple(self.table.columns.keys())

    @property
    def key(self) -> tuple[str, ...]:
        return tuple(column.name for column in self.table.primary_key)


def _rounds(project_id: str) -> Select[Any]:
    return select(Round.id).where(Round.project_id == project_id)


def _groups(project_id: str) -> Select[Any]:
    return select(Group.id).where(Group.project_id == project_id)


def _images(project_id: str) -> Select[Any]:
    return select(Image.id).where(Image.group_id.in_(_groups(project_id)))


def _tasks(project_id: str) -> Select[Any]:
    return select(Task.id).where(Task.project_id == project_id)


def _people(project_id: str) -> ColumnElement[bool]:
    members = select(Membership.user_id).where(Membership.project_id == project_id)
    voters = select(Vote.user_id).where(Vote.task_id.in_(_tasks(project_id)))
    launchers = select(Round.created_by).where(Round.project_id == project_id)
    return or_(*(User.id.in_(people) for people in (members, voters, launchers)))


# In the order in which rows may refer to each other. What lets somebody in (passwords, tokens, who is admin) stays.
TABLES = (
    Rows(User, _people, columns=("id", "created_at", "name", "revoked_at", "reward")),
    Rows(Project, lambda project_id: Project.id == project_id),
    Rows(Membership, lambda project_id: Membership.project_id == project_id),
    Rows(Round, lambda project_id: Round.project_id == project_id, later=("checkpoint_id", "opponent_id", "auto_id")),
    Rows(Checkpoint, lambda project_id: Checkpoint.project_id == project_id, later=("parent_id",)),
    Rows(Group, lambda project_id: Group.project_id == project_id),
    Rows(Image, lambda project_id: Image.group_id.in_(_groups(project_id))),
    Rows(Score, lambda project_id: Score.image_id.in_(_images(project_id))),
    Rows(Task, lambda project_id: Task.project_id == project_id),
    Rows(Vote, lambda project_id: Vote.task_id.in_(_tasks(project_id)), later=("supersedes",)),
    Rows(RoundVote, lambda project_id: RoundVote.round_id.in_(_rounds(project_id))),
    Rows(Job, lambda project_id: Job.round_id.in_(_rounds(project_id))),
    Rows(Metric, lambda project_id: Metric.round_id.in_(_rounds(project_id))),
)


def read(session: Session, rows: Rows, project_id: str) -> Iterator[Row]:
    """Ordered by primary key; a few hundred rows in memory at a time."""
    key = [in_bytes(session, column) for column in rows.table.primary_key]
    query = select(*(rows.table.columns[name] for name in rows.names)).where(rows.belong(project_id)).order_by(*key)
    for found in session.execute(query.execution_options(yield_per=BATCH)):
        yield dict(zip(rows.names, found, strict=True))


def in_bytes(session: Session, column: ColumnElement[Any]) -> ColumnElement[Any]:
    """An order that is the same on every database."""
    binary = "C" if session.get_bind().dialect.name == "postgresql" else "BINARY"
    return column if column.type.python_type is int else collate(column, binary)


def in_batches(found: Iterable[Row]) -> Iterator[list[Row]]:
    waiting = iter(found)
    while batch := list(islice(waiting, BATCH)):
        yield batch


def to_line(row: Row) -> bytes:
    return json.dumps(row, default=_plain, ensure_ascii=False, sort_keys=True, separators=(",", ":")).encode() + b"\n"


def _plain(value: Any) -> str:
    if isinstance(value, datetime):
        return value.isoformat()
    raise TypeError(f"{type(value).__name__} does not belong in an export.")


def spooled(lines: Iterable[bytes]) -> IO[bytes]:
    """A temporary file that holds the lines, at its start; whoever reads it closes it."""
    file = TemporaryFile()  # noqa: SIM115
    file.writelines(lines)
    file.seek(0)
    return file


def from_line(rows: Rows, line: bytes) -> Row:
    """As the database takes it; ValueError where it is not such a row."""
    row = json.loads(line)
    unknown = row.keys() - rows.names if isinstance(row, dict) else {"no JSON object"}
    if unknown or not row.keys() >= set(rows.key):
        raise ValueError(f"a row of {rows.table.name} does not fit ({', '.join(sorted(unknown)) or 'no key'})")
    moments = {name for name in row if isinstance(rows.table.columns[name].type, UtcDateTime)}
    return {name: datetime.fromisoformat(value) if value and name in moments else value for name, value in row.items()}
