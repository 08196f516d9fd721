"""`d3po export` and `d3po import`: a project as a file, and a project from one. cli.py registers both."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer
from rich.console import Console

from server import db
from server.cli_rounds import ProjectName, find_project
from server.domain import exports
from server.domain.exports import restore
from server.errors import Conflict
from server.settings import get_settings
from server.storage import Storage, write_durably

told = Console(stderr=True, highlight=False)


def export(
    project: ProjectName = None,
    format: Annotated[str, typer.Option(help=f"{' or '.join(exports.FORMATS)}; docs/formats.md describes them.")] = "everything",
    out: Annotated[Path | None, typer.Option(help="The file to write; left out: named after project and format.")] = None,
) -> None:
    """Write a project to a file; prints its path. A file that is there already is kept."""
    chosen = exports.find(format)
    with db.read_scope() as session:
        found = find_project(session, project)
        path = (out or Path(chosen.filename(found))).absolute()
        if path.exists():
            raise Conflict(f"There is already a file {path}. Nothing was written; name another with --out.")
        stream = chosen.write(session, Storage(get_settings().data_dir), found)
    with told.status(f"Writing {path}"):
        write_durably(path, stream)
    print(path)


def import_(
    file: Annotated[
        Path, typer.Argument(help="What `d3po export` wrote, in the format everything.", exists=True, dir_okay=False)
    ],
    name: Annotated[str | None, typer.Option(help="Call the project so, where its name is taken.")] = None,
) -> None:
    """Bring an exported project back as it was, with its people but without their ways in; prints its id."""
    with restore.opened(file) as archive:
        archive.project["name"] = name or archive.project["name"]
        with db.read_scope() as session:
            restore.check(session, archive)
        with told.status("Writing its files"):
            written = restore.put_files(archive, Storage(get_settings().data_dir))
        with told.status("Writing its rows"), db.session_scope() as session:
            project = restore.put_rows(session, archive)
    told.print(
        f"{project.name} is here, with {written} new files. `d3po user link NAME` lets one of its people in.",
        markup=False,
        soft_wrap=True,
    )
    if project.base_model not in get_settings().base_models:
        told.print(f"Its base model {project.base_model} is not in D3PO_BASE_MODELS here: nothing can be drawn until it is.")
    print(project.id)
