"""The command d3po. It speaks to the database directly and acts as the first admin."""

from __future__ import annotations

import sys
from typing import Annotated

import typer
from pydantic import ValidationError
from pydantic_settings import SettingsError
from rich.console import Console
from rich.table import Table
from sqlalchemy import select
from sqlalchemy.exc import SQLAlchemyError

from migrations.run import upgrade
from server import checks, cli_auto, cli_exports, cli_people, cli_projects, cli_rounds, cli_up, db
from server.cli_rounds import ProjectName, find_project
from server.domain import checkpoints, pairs, rounds, stats
from server.errors import D3poError, describe
from server.models import Project, Round
from server.settings import get_settings

app = typer.Typer(
    no_args_is_help=True, pretty_exceptions_enable=False, help="Pick the better image; the picks train a better model."
)
app.add_typer(cli_people.app, name="user")
app.add_typer(cli_projects.app, name="project")
for command in (
    cli_up.up,
    cli_up.worker,
    cli_rounds.sample,
    cli_rounds.train,
    cli_rounds.duel,
    cli_rounds.study,
    cli_rounds.reward,
):
    app.command()(command)
app.command("auto")(cli_auto.auto_)
app.command("export")(cli_exports.export)
app.command("import")(cli_exports.import_)

told = Console(stderr=True, highlight=False)
shown = Console(highlight=False)


def main() -> None:
    """Errors are sentences here too."""
    try:
        app()
    except D3poError as error:
        told.print(str(error), markup=False, soft_wrap=True)
        sys.exit(1)
    except (ValidationError, SettingsError) as error:
        told.print(_bad_settings(error), markup=False, soft_wrap=True)
        sys.exit(1)
    except SQLAlchemyError as error:
        cause = str(getattr(error, "orig", error)).splitlines()[0]
        told.print(
            f"The database cannot be used ({cause}). Run `d3po migrate`; `d3po doctor` tells more.", markup=False, soft_wrap=True
        )
        sys.exit(1)


def _bad_settings(error: ValidationError | SettingsError) -> str:
    if isinstance(error, SettingsError):
        told = f"{error}."
    else:
        told = describe([{**fault, "loc": (f"D3PO_{'.'.join(map(str, fault['loc']))}".upper(),)} for fault in error.errors()])
    return f"The settings cannot be read. {told} docs/settings.md says what each takes."


@app.command()
def serve(
    host: Annotated[str, typer.Option(help="Address to listen on.")] = "127.0.0.1",
    port: Annotated[int, typer.Option(min=1, max=65535, help="Port to listen on.")] = 8000,
) -> None:
    """Start the web server: pages and JSON API."""
    from server.serving import run  # the whole web application; no other command needs it

    run(host, port)


@app.command()
def migrate() -> None:
    """Bring the database to the newest schema."""
    upgrade(get_settings().database_url)
    told.print("The database is up to date.")


@app.command()
def status(project: ProjectName = None) -> None:
    """What is running, how far, and whether there are enough votes to train."""
    with db.read_scope() as session:
        chosen = [find_project(session, project)] if project else list(session.scalars(select(Project).order_by(Project.name)))
        for one in chosen:
            usable, current = pairs.usable_pairs(session, one), checkpoints.current(session, one)
            policy = f"checkpoint {current.number}" if current else "base model"
            shown.print(
                f"{one.name}: {policy}, {usable.pairs} usable pairs, {stats.waiting(session, one)} tasks wait for votes",
                markup=False,
            )
            found, _ = rounds.list_rounds(session, one, limit=10)
            shown.print(_rounds_table(found, rounds.progress_of(session, found)))
    if not chosen:
        told.print("There is no project yet. `d3po project create NAME` makes one.")


def _rounds_table(found: list[Round], progress: dict[str, rounds.Progress]) -> Table:
    table = Table("round", "kind", "state", "progress", "message")
    for round_ in found:
        now = progress[round_.id]
        left = "" if now.seconds_left is None else f", {now.seconds_left:.0f} s left"
        table.add_row(
            str(round_.number), round_.kind, str(round_.state), f"{now.done} of {now.total} {now.unit}{left}", round_.message
        )
    return table


@app.command()
def doctor() -> None:
    """Check database, broker, disk, model, device and versions; say how to mend what is wrong."""
    found = [check() for check in (*checks.READY, checks.model, checks.device, checks.versions)]
    for check in found:
        shown.print(f"{'ok  ' if check.ok else 'FAIL'}  {check.name}: {check.detail}", markup=False, soft_wrap=True)
    if not all(check.ok for check in found):
        raise typer.Exit(1)


if __name__ == "__main__":
    main()
