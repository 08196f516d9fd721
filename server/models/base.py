"""What every table shares: the declarative base, sortable string ids, and timestamps that are always UTC."""

from __future__ import annotations

import secrets
import threading
import time
from datetime import UTC, datetime
from typing import Any

from sqlalchemy import JSON, DateTime, MetaData, String, TypeDecorator
from sqlalchemy.orm import DeclarativeBase, Mapped, mapped_column


def now() -> datetime:
    return datetime.now(UTC)


class _Ids:
    """Random numbers of 80 bits that only grow within a millisecond, so that this process's ids sort as they were made."""

    def __init__(self) -> None:
        self._lock, self._moment, self._number = threading.Lock(), 0, 0

    def next(self) -> str:
        with self._lock:
            moment = max(time.time_ns() // 1_000_000, self._moment)
            grown = self._number + 1 + secrets.randbits(40)
            self._number = grown if moment == self._moment else secrets.randbits(79)
            self._moment = moment
            return f"{moment:012x}{self._number:020x}"


_ids = _Ids()


def new_id() -> str:
    """A 32-character id that sorts by creation time: 12 hex digits of milliseconds, 20 random ones."""
    return _ids.next()


class UtcDateTime(TypeDecorator[datetime]):
    """Stores UTC, gives back aware datetimes on every database; a naive datetime is refused."""

    impl = DateTime(timezone=True)
    cache_ok = True

    def process_bind_param(self, value: datetime | None, dialect: Any) -> datetime | None:
        if value is None:
            return None
        if value.tzinfo is None:
            raise ValueError("A timestamp without a time zone reached the database; pass UTC.")
        return value.astimezone(UTC)

    def process_result_value(self, value: datetime | None, dialect: Any) -> datetime | None:
        if value is None:
            return None
        return value.replace(tzinfo=UTC) if value.tzinfo is None else value.astimezone(UTC)


class Base(DeclarativeBase):
    metadata = MetaData(
        naming_convention={
            "ix": "ix_%(table_name)s_%(column_0_N_name)s",
            "uq": "uq_%(table_name)s_%(column_0_N_name)s",
            "ck": "ck_%(table_name)s_%(constraint_name)s",
            "fk": "fk_%(table_name)s_%(column_0_N_name)s",
            "pk": "pk_%(table_name)s",
        }
    )
    type_annotation_map = {
        datetime: UtcDateTime,
        dict[str, Any]: JSON,
        list[str]: JSON,
        dict[str, list[str]]: JSON,
        dict[str, list[float]]: JSON,
        dict[str, float]: JSON,
    }


class Identified:
    id: Mapped[str] = mapped_column(String(32), primary_key=True, default=new_id)
    created_at: Mapped[datetime] = mapped_column(UtcDateTime, default=now)
