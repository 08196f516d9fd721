"""Is everything there that the system needs? Each check says what is wrong and how to mend it."""

from __future__ import annotations

import importlib.util
import os
import platform
import shutil
import subprocess
import sys
import tempfile
from collections.abc import Callable
from dataclasses import dataclass
from importlib import metadata
from pathlib import Path

from packaging.requirements import Requirement
from sqlalchemy.exc import SQLAlchemyError

from migrations.run import is_current
from server import queue
from server.db import get_engine
from server.settings import get_settings
from server.storage import DISK_FULL

MIN_FREE_BYTES = 1_000_000_000
PROBE_BYTES = 4096


@dataclass(frozen=True)
class Check:
    name: str
    ok: bool
    detail: str


def database() -> Check:
    url = get_settings().database_url
    try:
        current = is_current(get_engine(), url)
    except SQLAlchemyError as error:
        cause = str(getattr(error, "orig", error)).strip().splitlines()[0]
        return Check("database", False, f"The database does not answer ({cause}). Start it, or correct D3PO_DATABASE_URL.")
    if not current:
        return Check("database", False, "The database has an old schema or none. Run `d3po migrate`.")
    return Check("database", True, f"{get_engine().dialect.name}, schema up to date")


def broker() -> Check:
    try:
        queue.ping()
    except queue.BrokerDown as error:
        return Check(
            "broker",
            False,
            f"The broker does not answer or takes no writes ({error}). Votes are taken, rounds wait. "
            "Start it, make room for it, or correct D3PO_BROKER_URL.",
        )
    return Check("broker", True, "answers")


def disk() -> Check:
    folder = get_settings().data_dir
    try:
        folder.mkdir(parents=True, exist_ok=True)
        free = shutil.disk_usage(folder).free
        _write(folder)
    except OSError as error:
        mend = "Make room" if error.errno in DISK_FULL else "Correct D3PO_DATA_DIR"
        return Check("disk", False, f"The data folder {folder} cannot be used ({error.strerror}). {mend}.")
    if free < MIN_FREE_BYTES:
        return Check("disk", False, f"Only {free / 1e9:.1f} GB are free in {folder}. Make room: images and trajectories need it.")
    return Check("disk", True, f"{free / 1e9:.0f} GB free")


def _write(folder: Path) -> None:
    """A full quota or a disk that turned read-only has free space all the same."""
    with tempfile.TemporaryFile(dir=folder) as file:
        file.write(bytes(PROBE_BYTES))
        file.flush()
        os.fsync(file.fileno())


def model() -> Check:
    settings = get_settings()
    place = settings.base_models[settings.base_model]
    if place.startswith(("/", ".", "~")) and not (Path(place).expanduser() / "model_index.json").exists():
        return Check(
            "model", False, f"There is no diffusers pipeline in {place} (model_index.json is missing). Correct D3PO_BASE_MODEL."
        )
    return Check("model", True, f"{settings.base_model}: {place}")


def versions() -> Check:
    """Do the installed packages fit? Those of a worker count where there is PyTorch."""
    extra = "worker" if importlib.util.find_spec("torch") else ""
    try:
        needed = [Requirement(line) for line in metadata.requires("d3po") or ()]
    except metadata.PackageNotFoundError:
        return Check("versions", False, "d3po itself is not installed here. Run `make setup`, or install it with pip.")
    wrong = [
        told for each in needed if (each.marker is None or each.marker.evaluate({"extra": extra})) and (told := _unfit(each))
    ]
    if wrong:
        return Check("versions", False, f"{'; '.join(wrong)}. Run `make setup`, or install requirements.lock with pip.")
    return Check("versions", True, f"d3po {metadata.version('d3po')} on Python {platform.python_version()}, all packages fit")


def _unfit(needed: Requirement) -> str:
    """What is wrong with a package; empty where nothing is."""
    try:
        found = metadata.version(needed.name)
    except metadata.PackageNotFoundError:
        return f"{needed.name} is missing"
    fits = needed.specifier.contains(found, prereleases=True)
    return "" if fits else f"{needed.name} is {found}, it must be {needed.specifier}"


READY: tuple[Callable[[], Check], ...] = (database, broker, disk)


def device() -> Check:
    """Asked of a process of its own: this one stays without PyTorch."""
    if importlib.util.find_spec("torch") is None:
        return Check("device", True, "no PyTorch here: this machine serves, and a worker elsewhere runs the models")
    code = "import torch; print(torch.__version__, torch.cuda.get_device_name() if torch.cuda.is_available() else 'CPU only')"
    asked = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=False)
    if asked.returncode:
        cause = (asked.stderr.strip().splitlines() or ["no reason given"])[-1]
        return Check("device", False, f"PyTorch does not start ({cause}). Install it again.")
    return Check("device", True, f"PyTorch {asked.stdout.strip()}")
