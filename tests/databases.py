"""Which databases a test runs on: SQLite always; with `@on_both_databases`, the real PostgreSQL too."""

from __future__ import annotations

import os
import uuid
from collections.abc import Iterator
from contextlib import contextmanager

import pytest
from sqlalchemy import Connection, create_engine, make_url, text
from sqlalchemy.exc import OperationalError

from server.models import Base

POSTGRES = os.environ.get("D3PO_TEST_POSTGRES", "postgresql+psycopg://postgres@127.0.0.1:5432/postgres")

on_both_databases = pytest.mark.parametrize(
    "database_url", ["sqlite", pytest.param("postgres", marks=pytest.mark.postgres)], indirect=True
)


def missing(what: str) -> None:
    """Skips the test with the reason, or fails it where everything is required (D3PO_TEST_REQUIRE=1)."""
    if os.environ.get("D3PO_TEST_REQUIRE") == "1":
        pytest.fail(what, pytrace=False)
    pytest.skip(what)


@contextmanager
def scratch_postgres() -> Iterator[str]:
    """The URL of an empty database that is dropped afterwards."""
    name = f"d3po_test_{uuid.uuid4().hex[:12]}"
    server = create_engine(POSTGRES, isolation_level="AUTOCOMMIT", connect_args={"connect_timeout": 3})
    try:
        with server.connect() as connection:
            connection.execute(text(f"CREATE DATABASE {name}"))
            connection.execute(text(f"ALTER DATABASE {name} SET synchronous_commit = off"))
    except OperationalError as error:
        server.dispose()
        missing(f"PostgreSQL is not reachable at {make_url(POSTGRES).host}: {error.orig}")
    try:
        yield make_url(POSTGRES).set(database=name).render_as_string(hide_password=False)
    finally:
        with server.connect() as connection:
            connection.execute(text(f"DROP DATABASE {name} WITH (FORCE)"))
        server.dispose()


def empty_postgres(connection: Connection) -> None:
    """Deletes all rows; for the few that a test leaves this is many times faster than TRUNCATE."""
    connection.execute(text("UPDATE rounds SET checkpoint_id = NULL, opponent_id = NULL"))
    for table in reversed(Base.metadata.sorted_tables):
        connection.execute(table.delete())
