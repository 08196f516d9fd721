"""`d3po export` and `d3po import`: a project as a file, and a project from one. cli.py registers both."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Any

import typer
from rich.console import Console

from server import cli_published, db
from server.cli_rounds import ProjectName, find_project
from server.domain import exports
from server.domain.exports import restore
from server.errors import Conflict, Invalid
from server.settings import get_settings
from server.storage import Storage, write_durably

told = Console(stderr=True, highlight=False)
PUBLISHED = "d3po"


def export(
    project: ProjectName = None,
    format: Annotated[
        str, typer.Option(help=f"{', '.join(exports.FORMATS)} or {PUBLISHED}; docs/formats.md describes them.")
    ] = "everything",
    out: Annotated[Path | None, typer.Option(help="The file to write; left out: named after project and format.")] = None,
) -> None:
    """Write a project to a file, or to a folder of the published code's files; prints its path. What is there already is kept."""
    if format == PUBLISHED:
        _export_published(project, out)
        return
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


def _export_published(project: str | None, out: Path | None) -> None:
    with db.read_scope() as session:
        found = find_project(session, project)
        path = (out or Path(exports.plain_name(found, PUBLISHED))).absolute()
        groups, numbers = cli_published.to_export(session, found, path)
    cli_published.export_folder(groups, numbers, path)
    print(path)


def import_(
    file: Annotated[Path, typer.Argument(help="What `d3po export` wrote, or a folder of the published code.", exists=True)],
    source: Annotated[
        str, typer.Option("--from", help=f"everything, what `d3po export` writes; or {PUBLISHED}, the published code's files.")
    ] = "everything",
    name: Annotated[str | None, typer.Option(help="Call the project so, where its name is taken.")] = None,
    base_model: Annotated[
        str | None,
        typer.Option(help=f"{PUBLISHED}: what drew the images, a name from D3PO_BASE_MODELS; left out: D3PO_BASE_MODEL."),
    ] = None,
    votes: Annotated[
        Path | None,
        typer.Option(
            help=f"{PUBLISHED}: the folder with a JSON file an annotator; left out: json in FILE, or FILE.", exists=True
        ),
    ] = None,
    eta: Annotated[float | None, typer.Option(help=f"{PUBLISHED}: that of the sampling; left out: 1, the published one.")] = None,
    guidance: Annotated[
        float | None, typer.Option(help=f"{PUBLISHED}: guidance_scale of the sampling; left out: 5, the published one.")
    ] = None,
    votes_per_task: Annotated[
        int | None, typer.Option(help=f"{PUBLISHED}: votes that each group waits for beside the imported ones; left out: 1.")
    ] = None,
) -> None:
    """Bring an exported project back as it was, with its people but without their ways in, or make one of the published code's
    files; prints its id."""
    only_published = {
        "--base-model": base_model, "--votes": votes, "--eta": eta, "--guidance": guidance, "--votes-per-task": votes_per_task,
    }  # fmt: skip
    if source == PUBLISHED:
        wanted: dict[str, Any] = {"name": name or file.resolve().name, "base_model": base_model or get_settings().base_model}
        wanted |= {} if votes_per_task is None else {"votes_per_task": votes_per_task}
        _import_published(file, votes, wanted, 1.0 if eta is None else eta, 5.0 if guidance is None else guidance)
        return
    if source != "everything":
        raise Invalid(f"--from is everything or {PUBLISHED}, you wrote {source[:40]}.")
    if given := [option for option, value in only_published.items() if value is not None]:
        raise Invalid(f"{given[0]} goes with --from {PUBLISHED} only. Nothing was imported.")
    if file.is_dir():
        raise Invalid(
            f"{file} is a folder. `--from {PUBLISHED}` imports one that the published code wrote. Nothing was imported."
        )
    _import_everything(file, name)


def _import_published(file: Path, votes: Path | None, wanted: dict[str, Any], eta: float, guidance: float) -> None:
    project = cli_published.import_folder(file, votes, wanted, eta, guidance)
    told.print(
        f"{project.name} is here: people can vote on it, and `d3po train` learns from its votes.", markup=False, soft_wrap=True
    )
    print(project.id)


def _import_everything(file: Path, name: str | None) -> None:
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
