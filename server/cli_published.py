"""`d3po import --from d3po` and `d3po export --format d3po`: the published code's files, both ways.

sample.pkl needs PyTorch and the base model, so a process of its own reads and writes it; this one stays without.
"""

from __future__ import annotations

import hashlib
import importlib.util
import json
import shutil
import subprocess
import sys
from collections.abc import Iterable, Iterator
from contextlib import suppress
from dataclasses import replace
from itertools import count
from pathlib import Path
from tempfile import TemporaryFile
from typing import Any

from rich.console import Console
from rich.progress import track
from sqlalchemy.orm import Session

from d3po_core.files import sync_folder
from d3po_core.params import SamplingParams
from server import db
from server.cli_rounds import first_admin
from server.cli_up import NO_TORCH
from server.domain.published import folder, numbers, rows
from server.domain.published.folder import IMAGES, NOTHING, PROMPTS, SAMPLES, VOTES, SampleFolder, read_folder
from server.domain.published.rows import StoredGroup, Wanted
from server.errors import Conflict, Invalid, parse
from server.leash import leashed
from server.models import Group, Project
from server.settings import get_settings
from server.storage import Storage, write_durably

told = Console(stderr=True, highlight=False)
Votes = dict[str, folder.Numbers]


def import_folder(path: Path, votes: Path | None, wanted: dict[str, Any], eta: float, guidance: float) -> Project:
    """The project. A second try after a kill goes on with the trajectories that are there; rows come last, all at once."""
    with told.status("Reading the folder"):
        found = read_folder(path, votes)
        key = _key(found, wanted, eta, guidance)
    size = {"height": found.height, "width": found.width}
    params = {"images_per_prompt": found.images, "eta": eta, "guidance_scale": guidance, **size}
    asked = Wanted(sampling=parse(SamplingParams, params), **wanted)
    with db.session_scope() as session:
        rows.put_project(session, first_admin(session), found, asked)
        session.rollback()  # only to refuse a name or a model now rather than at the end
    storage = Storage(get_settings().data_dir)
    keys = [f"{key}/{group:05d}.safetensors" for group in range(len(found.prompts))]
    groups, drawn = _store(storage, found, asked, keys)
    asked = replace(asked, sampling=parse(SamplingParams, params | drawn))
    with told.status("Writing its rows"), db.session_scope() as session:
        return rows.put_rows(session, first_admin(session), found, asked, groups)


def _key(found: SampleFolder, wanted: dict[str, Any], eta: float, guidance: float) -> str:
    """The folder of the trajectories: the same for the same import."""
    with (found.path / SAMPLES).open("rb") as file:
        digest = hashlib.file_digest(file, "sha256")
    digest.update(json.dumps([found.prompts, wanted["name"], wanted["base_model"], eta, guidance]).encode())
    return f"published-{digest.hexdigest()[:32]}"


def _store(storage: Storage, found: SampleFolder, asked: Wanted, keys: list[str]) -> tuple[list[StoredGroup], dict[str, Any]]:
    job = {
        "samples": str(found.path / SAMPLES), "prompts": found.prompts, "base_model": asked.base_model,
        "params": asked.sampling.model_dump(), "paths": [str(storage.trajectory(key)) for key in keys],
    }  # fmt: skip
    groups, drawn = list[StoredGroup](), dict[str, Any]()
    lines = track(_lines("import", job, NOTHING), "Groups", total=len(keys), console=told)
    for group, (key, line) in enumerate(zip(keys, lines, strict=True)):
        pictures = (folder.open_image(found.image(group, position)) for position in range(found.images))
        groups.append(StoredGroup(key, line.pop("sha256"), [storage.put_image(picture) for picture in pictures]))
        drawn = line
    return groups, drawn


def _lines(verb: str, job: dict[str, Any], kept: str) -> Iterator[dict[str, Any]]:
    """What the process with PyTorch reports. Raises Invalid with its sentence."""
    if importlib.util.find_spec("torch") is None:
        raise Invalid(f"{NO_TORCH} Or run this where a worker runs, on the same database and data folder.")
    command = leashed([sys.executable, "-m", "worker.published", verb])
    with TemporaryFile("w+") as log, subprocess.Popen(
        command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=log, text=True
    ) as process:  # fmt: skip
        try:
            assert process.stdin is not None
            assert process.stdout is not None
            with suppress(BrokenPipeError):  # it ended before it listened; its log tells why
                process.stdin.write(json.dumps(job))
                process.stdin.close()
            for line in map(json.loads, process.stdout):
                if "error" in line:
                    raise Invalid(f"{line['error']} {kept}")
                yield line
            if process.wait():
                log.seek(0)
                words = (log.read().strip().splitlines() or [f"it ended with {process.returncode}"])[-1]
                raise Invalid(f"Reading or writing {SAMPLES} broke ({words}). {kept} Try again; what is done is not done again.")
        finally:
            process.kill()


def to_export(session: Session, project: Project, out: Path) -> tuple[list[Group], Votes]:
    """The groups, and their numbers by annotator. Raises Conflict where `out` is there already."""
    if out.exists():
        raise Conflict(f"There is already {out}. Nothing was written; name another folder with --out.")
    groups = numbers.groups_of(session, project)
    return groups, numbers.numbers_of(session, groups)


def export_folder(groups: list[Group], votes: Votes, out: Path) -> None:
    """The whole folder, or nothing of it."""
    making = out.with_name(f".{out.name}.part")
    shutil.rmtree(making, ignore_errors=True)
    try:
        _write(Storage(get_settings().data_dir), groups, votes, making)
        making.rename(out)
        sync_folder(out.parent)
    finally:
        shutil.rmtree(making, ignore_errors=True)


def _write(storage: Storage, groups: list[Group], votes: Votes, making: Path) -> None:
    (making / IMAGES).mkdir(parents=True)
    write_durably(making / PROMPTS, json.dumps([group.prompt for group in groups]).encode())
    for name, found in zip(file_names(votes), votes.values(), strict=True):
        write_durably(making / VOTES / f"{name}.json", numbers.to_json(found))
    stored = [(str(storage.trajectory(group.trajectory_key or "")), group.trajectory_sha256) for group in groups]
    with told.status(f"Writing {SAMPLES}"):
        list(_lines("export", {"samples": str(making / SAMPLES), "trajectories": stored}, "Nothing was written."))
    images = [image for group in groups for image in group.images]
    for number, image in enumerate(track(images, "Images", console=told)):
        path = storage.image(image.sha256)
        if not path.exists():
            raise Invalid(f"The image {path} of {groups[number // len(groups[0].images)].prompt!r} is lost. Nothing was written.")
        folder.open_image(path).save(making / IMAGES / f"{number:05}.png")


def file_names(people: Iterable[str]) -> list[str]:
    """Each person's, without its ending; two whose names differ by what no file name takes get two files."""
    given: list[str] = []
    for person in people:
        name = person.replace("/", "_").replace("\0", "_").lstrip(".") or "_"
        tries = (name if number == 1 else f"{name} {number}" for number in count(1))
        given.append(next(tried for tried in tries if tried not in given))
    return given
