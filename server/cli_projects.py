"""`d3po project`."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, TypeVar

import typer
from pydantic import ValidationError

from d3po_core.params import Params, SamplingParams, TrainingParams
from server import db
from server.cli_rounds import ProjectName, find_project, first_admin
from server.domain import projects, prompts
from server.errors import Invalid, describe

app = typer.Typer(no_args_is_help=True, help="Projects.")
P = TypeVar("P", bound=Params)


@app.command("create")
def create_project(
    name: str,
    base_model: Annotated[str | None, typer.Option(help="A name from D3PO_BASE_MODELS; left out: D3PO_BASE_MODEL.")] = None,
    preset: Annotated[
        str | None, typer.Option(help="distortion, safety or alignment: an experiment of the paper (docs/experiments.md).")
    ] = None,
    mode: Annotated[
        str | None, typer.Option(help="best (of N images), pairwise, ranking (all N in order), or good_bad (each image).")
    ] = None,
    guideline: Annotated[str | None, typer.Option(help="What people should look for.")] = None,
    votes_per_task: Annotated[int | None, typer.Option(help="Votes that each group wants.")] = None,
    prompt_set: Annotated[str | None, typer.Option(help="docs/prompts.md lists them.")] = None,
    prompts_file: Annotated[
        Path | None,
        typer.Option(help="Prompts of its own: a text file, one a line, a weight after a tab.", exists=True, dir_okay=False),
    ] = None,
    flag: Annotated[list[str] | None, typer.Option(help="A word about single images; repeat for more.")] = None,
    blur: Annotated[bool | None, typer.Option(help="Blur images until hovered, focused or tapped.")] = None,
    sampling: Annotated[
        Path | None, typer.Option(help="A JSON file: settings of sample and duel rounds.", exists=True, dir_okay=False)
    ] = None,
    training: Annotated[
        Path | None, typer.Option(help="A JSON file: settings of training rounds.", exists=True, dir_okay=False)
    ] = None,
) -> None:
    """Create a project; prints its id. What is left out is the preset's, without one the usual."""
    with db.session_scope() as session:
        project = projects.create(
            session, first_admin(session), name, base_model, mode, guideline, votes_per_task, prompt_set,
            prompts=prompts.in_text(prompts_file.read_bytes(), prompts_file.name) if prompts_file else None,
            sampling=_from_file(SamplingParams, sampling), training=_from_file(TrainingParams, training), flags=flag,
            blur=blur, preset=preset,
        )  # fmt: skip
    print(project.id)


@app.command("prompts")
def set_prompts(
    file: Annotated[
        Path, typer.Argument(help="A text file in UTF-8, one prompt a line, a weight after a tab.", exists=True, dir_okay=False)
    ],
    project: ProjectName = None,
) -> None:
    """From now on rounds of the project draw from these prompts; about a fifth of them are held out for duels."""
    with db.session_scope() as session:
        chosen = find_project(session, project)
        projects.set_prompts(session, first_admin(session), chosen, prompts.in_text(file.read_bytes(), file.name))
        print(f"{chosen.name} draws from {len(chosen.prompts):,} prompts of its own.")


def _from_file(model: type[P], path: Path | None) -> P | None:
    if path is None:
        return None
    try:
        return model.model_validate_json(path.read_bytes())
    except ValidationError as error:
        raise Invalid(f"{path} cannot be used. {describe(error.errors())} No project was created.") from error
