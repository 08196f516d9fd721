"""Everything of a project, lossless: rows as JSON lines, files as they lie in the data folder, and a manifest at the end.

A round that was running is exported as cancelled, with what it had finished: whoever imports it decides whether to run the
rest. What lets people in stays behind, and so do leases and the audit log. A file that is lost is named in the manifest.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Iterator
from typing import IO, Any

from sqlalchemy import ColumnElement, select
from sqlalchemy.orm import Session

from server.domain.exports import rows, zipped
from server.domain.rounds import ACTIVE
from server.models import Checkpoint, Group, Image, Project, State
from server.storage import Storage

FORMAT = "d3po-everything-1"
MANIFEST = "manifest.json"
STOPPED = "It was not over when this was exported. What was finished is here; retry runs the rest."


def write(session: Session, storage: Storage, project: Project) -> Iterator[bytes]:
    tables = {of.table.name: rows.spooled(_lines(session, of, project.id)) for of in rows.TABLES}
    files = rows.spooled(f"{name}\n".encode() for name in _files(session, storage, project.id))
    return zipped.stream(_members(storage, tables, files))


def member(table: str) -> str:
    return f"rows/{table}.jsonl"


def _lines(session: Session, of: rows.Rows, project_id: str) -> Iterator[bytes]:
    for row in rows.read(session, of, project_id):
        if row.get("state") in ACTIVE:
            row |= {"state": State.CANCELLED, "finished_at": row["started_at"]}
            row |= {"message": STOPPED} if "message" in row else {"lease_expires_at": None}
        yield rows.to_line(row)


def _files(session: Session, storage: Storage, project_id: str) -> Iterator[str]:
    """Where they lie under the data root, each once."""

    def each(column: Any, *where: ColumnElement[bool]) -> Iterator[str]:
        query = select(column).where(column.is_not(None), *where).group_by(column).order_by(rows.in_bytes(session, column))
        yield from session.scalars(query.execution_options(yield_per=rows.BATCH))

    for sha256 in each(Image.sha256, Image.group_id.in_(select(Group.id).where(Group.project_id == project_id))):
        yield from storage.names_of_image(sha256)
    for key in each(Group.trajectory_key, Group.project_id == project_id):
        yield f"trajectories/{key}"
    for key in each(Checkpoint.key, Checkpoint.project_id == project_id):
        yield from storage.names_of_checkpoint(key)


def _members(storage: Storage, tables: dict[str, IO[bytes]], files: IO[bytes]) -> Iterator[zipped.Member]:
    manifest: dict[str, Any] = {"format": FORMAT, "rows": {}, "files": 0, "missing": []}
    for name, spool in tables.items():
        with spool:
            manifest["rows"][name] = _facts(spool)
            yield member(name), spool
    with files:
        for line in files:
            name = line.decode().rstrip("\n")
            if storage.place(name).is_file():
                manifest["files"] += 1
                yield name, zipped.chunks_of(storage.place(name).open("rb"))
            else:
                manifest["missing"].append(name)
    yield MANIFEST, [json.dumps(manifest, indent=1, sort_keys=True).encode() + b"\n"]


def _facts(spool: IO[bytes]) -> dict[str, Any]:
    digest, count = hashlib.sha256(), 0
    for line in spool:
        digest.update(line)
        count += 1
    spool.seek(0)
    return {"count": count, "sha256": digest.hexdigest()}
