"""What leaves a project: one registry of formats, each written as a stream.

A format reads all it needs from the database before its first byte leaves, into temporary files: a slow download holds no
transaction, and memory stays the same however much there is.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator
from dataclasses import dataclass

from sqlalchemy.orm import Session

from server.domain.exports import everything, votes
from server.errors import Invalid
from server.models import Project
from server.storage import Storage

__all__ = ["FORMATS", "Format", "find", "plain_name"]


@dataclass(frozen=True)
class Format:
    """`write` reads the rows at once; the iterator it gives reads files and temporary files only."""

    name: str
    title: str
    suffix: str
    media_type: str
    write: Callable[[Session, Storage, Project], Iterator[bytes]]

    def filename(self, project: Project) -> str:
        return f"{plain_name(project, self.name)}.{self.suffix}"


def plain_name(project: Project, format: str) -> str:
    plain = re.sub(r"[^A-Za-z0-9]+", "-", project.name).strip("-").lower() or "project"
    return f"{plain}-{format}"


FORMATS = {
    made.name: made
    for made in (
        Format("everything", "everything", "zip", "application/zip", everything.write),
        Format("votes", "votes", "jsonl", "application/jsonl", votes.write),
    )
}


def find(name: str) -> Format:
    if name not in FORMATS:
        raise Invalid(f"There is no export format called {name[:40]}. Known: {', '.join(FORMATS)}.")
    return FORMATS[name]
