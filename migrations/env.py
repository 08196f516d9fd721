"""How Alembic reaches the database: through the project's own engine, one transaction for everything."""

from __future__ import annotations

from typing import Any

from alembic import context
from sqlalchemy import Connection, event, text

from server.db import make_engine
from server.models import Base


def run(connection: Connection) -> None:
    if connection.dialect.name == "postgresql":
        # Two servers that start together migrate one after the other.
        connection.execute(text("SELECT pg_advisory_xact_lock(3141592653)"))
    context.configure(connection=connection, target_metadata=Base.metadata, render_as_batch=True)
    context.run_migrations()


def leave_references(connection: Any, _record: Any) -> None:
    """SQLite alters a table by making it anew, and would not let the old one go while other tables refer to it."""
    connection.execute("PRAGMA foreign_keys=OFF").close()


engine = make_engine(context.config.get_main_option("sqlalchemy.url") or "")
if engine.dialect.name == "sqlite":
    event.listen(engine, "connect", leave_references)
with engine.begin() as connection:
    run(connection)
engine.dispose()
