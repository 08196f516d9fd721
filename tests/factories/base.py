"""The session that factories write to."""

from __future__ import annotations

import itertools
from typing import TypeVar

from sqlalchemy.orm import Session

Row = TypeVar("Row")
_bound: list[Session] = []
count = itertools.count(1)


def bind(session: Session) -> None:
    _bound[:] = [session]


def session() -> Session:
    return _bound[0]


def add(row: Row) -> Row:
    session().add(row)
    session().flush()
    return row


def commit() -> None:
    session().commit()
