"""Import of what `everything` exported: files first, then all rows in one transaction, so that a row never points at nothing.

Ids stay, so the project comes back as it was. People come without a way in. Whoever has a name that is taken here gets a
number behind it: nobody's votes become somebody else's.
"""

from __future__ import annotations

import hashlib
import json
import re
import zlib
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any
from zipfile import BadZipFile, ZipFile

from sqlalchemy import func, insert, select, update
from sqlalchemy.orm import Session

from server.domain import audit, people, projects
from server.domain.exports import rows, zipped
from server.domain.exports.everything import FORMAT, MANIFEST, member
from server.errors import Conflict, Invalid
from server.models import Project, User, name_key
from server.storage import Storage, write_durably

SHA256 = re.compile("[0-9a-f]{64}")
NO_ROWS = {"count": 0, "sha256": hashlib.sha256().hexdigest()}


class Archive:
    """An export that is whole: its manifest's sums were compared."""

    def __init__(self, zipped_file: ZipFile) -> None:
        self._zip = zipped_file
        self.names = set(zipped_file.namelist())
        self.manifest: dict[str, Any] = json.loads(zipped_file.read(MANIFEST))
        if self.manifest.get("format") != FORMAT:
            raise ValueError(f"its format is {self.manifest.get('format')}, not {FORMAT}")
        for of in rows.TABLES:
            digest = hashlib.sha256()
            for line in self._lines(of):
                digest.update(line)
            if digest.hexdigest() != self._facts(of)["sha256"]:
                raise ValueError(f"the rows of {of.table.name} were changed")
        [self.project] = self.rows(_of("projects"))

    def count(self, of: rows.Rows) -> int:
        return int(self._facts(of)["count"])

    def _facts(self, of: rows.Rows) -> dict[str, Any]:
        """Of a table that an archive from before it was made knows nothing of: no rows."""
        return self.manifest["rows"].get(of.table.name, NO_ROWS)

    def _lines(self, of: rows.Rows) -> Iterator[bytes]:
        if of.table.name not in self.manifest["rows"]:
            return
        with self._zip.open(member(of.table.name)) as file:
            yield from file

    def rows(self, of: rows.Rows) -> Iterator[rows.Row]:
        for line in self._lines(of):
            yield rows.from_line(of, line)

    def chunks(self, name: str, sha256: str | None) -> Iterator[bytes]:
        """Of one file; ValueError at its end where it is not what its row says."""
        digest = hashlib.sha256()
        with self._zip.open(name) as file:
            while chunk := file.read(zipped.CHUNK):
                digest.update(chunk)
                yield chunk
        if sha256 is not None and digest.hexdigest() != sha256:
            raise ValueError(f"{name} was changed")


def _of(table: str) -> rows.Rows:
    return next(of for of in rows.TABLES if of.table.name == table)


@contextmanager
def opened(path: Path) -> Iterator[Archive]:
    """The archive; Invalid with the reason where it is none, or damaged, also later on."""
    try:
        with ZipFile(path) as zipped_file:
            yield Archive(zipped_file)
    except (BadZipFile, zlib.error, KeyError, ValueError, EOFError, TypeError) as error:
        raise Invalid(
            f"{path} is not an export of everything, or it is damaged ({error}). Nothing was imported; export it again."
        ) from error


def check(session: Session, archive: Archive) -> None:
    """Conflict where the project, or another of its name, is here; Invalid for a name that is none."""
    found, name = archive.project["id"], archive.project["name"]
    projects.check_name(name)
    if session.get(Project, found):
        raise Conflict(f"The project {name} is here already. Nothing was imported.")
    if session.scalar(select(Project.id).where(Project.name == name)):
        raise Conflict(
            f"There is another project called {name} here. Nothing was imported; give the imported one another --name."
        )


def put_files(archive: Archive, storage: Storage) -> int:
    """Writes the files that rows name; returns how many. One that is here already stays; Conflict where it is another one."""
    written = 0
    for name, sha256 in _wanted(archive):
        path = storage.place(name)
        if name not in archive.names:
            if name not in archive.manifest["missing"]:
                raise ValueError(f"{name} is not in it")
        elif not path.exists():
            write_durably(path, archive.chunks(name, sha256))
            written += 1
        elif not name.startswith("images/") and not _holds(path, archive.chunks(name, sha256)):  # an image's name is its sum
            raise Conflict(f"There is another file {path} here already, and it stays. Nothing was imported.")
    return written


def _holds(path: Path, chunks: Iterator[bytes]) -> bool:
    """Whether the file is these bytes."""
    with path.open("rb") as file:
        return all(file.read(len(chunk)) == chunk for chunk in chunks) and not file.read(1)


def _wanted(archive: Archive) -> Iterator[tuple[str, str | None]]:
    """(name, SHA-256 where a row tells it) of every file."""
    for image in archive.rows(_of("images")):
        sha256 = image["sha256"]
        if not SHA256.fullmatch(sha256):
            raise ValueError(f"{sha256[:80]!r} is no SHA-256")
        original = f"images/{sha256[:2]}/{sha256}.webp"
        copies = (f"images/{sha256[:2]}/{sha256}.{size}.webp" for size in ("thumb", "view"))
        yield from ((name, None) for name in copies if name in archive.names)
        yield original, sha256
    for group in archive.rows(_of("groups")):
        if group["trajectory_key"]:
            yield f"trajectories/{group['trajectory_key']}", group["trajectory_sha256"]
    keys = tuple(f"checkpoints/{made['key']}/" for made in archive.rows(_of("checkpoints")))
    yield from ((name, None) for name in sorted(archive.names) if keys and name.startswith(keys))


def put_rows(session: Session, archive: Archive) -> Project:
    """All of them or none, the project as `archive.project["name"]`. Invalid where a row belongs to another project."""
    project_id, taken = archive.project["id"], set[str]()
    for of in rows.TABLES:
        for batch in rows.in_batches(_adapted(session, of, archive, taken)):
            session.execute(insert(of.model), [row | dict.fromkeys(of.later) for row in batch])
    for of in rows.TABLES:
        for batch in rows.in_batches(_references(of, archive)):
            session.execute(update(of.model), batch)
    for of in rows.TABLES:
        there = session.scalar(select(func.count()).select_from(of.table).where(of.belong(project_id)))
        if there != archive.count(of):
            raise Invalid(f"Some rows of {of.table.name} belong to another project. Nothing was imported.")
    audit.record(session, None, "import project", project_id)
    return session.get_one(Project, project_id)


def _references(of: rows.Rows, archive: Archive) -> Iterator[rows.Row]:
    for row in archive.rows(of):
        later = {name: row.get(name) for name in of.later}  # archives from before a column lack it
        if any(later.values()):
            yield {name: row[name] for name in of.key} | later


def _adapted(session: Session, of: rows.Rows, archive: Archive, taken: set[str]) -> Iterator[rows.Row]:
    """The rows as they go in. `taken`: keys of the names that were given so far, some in a batch that is not in yet."""
    for row in archive.rows(of):
        if of.model is Project:
            measured = {"training": projects.settings_of(row["base_model"])[1]}  # for archives from before projects had any
            yield measured | row | {"name": archive.project["name"]}
        elif of.model is not User:
            yield row
        elif session.get(User, row["id"]) is None:
            name = people.free_name(session, row["name"], taken)
            taken.add(name_key(name))
            yield row | {"name": name}
