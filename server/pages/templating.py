"""Rendering: the template environment, and the few ways in which pages put numbers and times into words."""

from __future__ import annotations

import hashlib
from datetime import datetime
from pathlib import Path
from typing import Any

from fastapi.responses import HTMLResponse
from jinja2 import Environment, FileSystemLoader, StrictUndefined

from server.models import Checkpoint, Image, Round, now

WEB = Path(__file__).parents[2] / "web"
STATIC = WEB / "static"
POLICY = "default-src 'self'; img-src 'self' data:; base-uri 'none'; form-action 'self'; frame-ancestors 'none'"
HEADERS = {
    "Cache-Control": "no-store",
    "Content-Security-Policy": POLICY,
    "Referrer-Policy": "same-origin",
}


def _version() -> str:
    digest = hashlib.sha256()
    for path in sorted(STATIC.iterdir()):
        digest.update(path.name.encode() + path.read_bytes())
    return digest.hexdigest()[:12]


# The version is a folder, so that modules importing each other by relative path stay in it.
STATIC_URL = f"/static/{_version()}"


def static(name: str) -> str:
    return f"{STATIC_URL}/{name}"


def title(thing: Round | Checkpoint | None) -> str:
    """How a page calls a round or a checkpoint; None is the base model."""
    if thing is None:
        return "base model"
    if isinstance(thing, Checkpoint):
        return f"checkpoint {thing.number}"
    return f"{thing.kind}{'' if thing.kind == 'study' else ' round'} {thing.number}"


def the(checkpoint: Checkpoint | None) -> str:
    """The same inside a sentence: "the base model", "checkpoint 3"."""
    return "the base model" if checkpoint is None else title(checkpoint)


def duration(seconds: float) -> str:
    if seconds < 90:
        return f"{max(1, round(seconds))} s"
    if seconds < 90 * 60:
        return f"{round(seconds / 60)} min"
    if seconds < 36 * 3600:
        return f"{round(seconds / 3600)} h"
    return f"{round(seconds / 86400)} days"


def size(count: float) -> str:
    """Bytes on disk, with one digit where it is the only one."""
    power = next(power for power in (1, 2, 3) if count < 1000 ** (power + 1) or power == 3)
    scaled = count / 1000**power
    return f"{scaled:.{1 if scaled < 10 else 0}f} {'kMG'[power - 1]}B"


def ago(moment: datetime) -> str:
    """Relative to now, in either direction: "5 s ago", "in 2 min"."""
    seconds = (now() - moment).total_seconds()
    if abs(seconds) < 5:
        return "now"
    return f"{duration(seconds)} ago" if seconds > 0 else f"in {duration(-seconds)}"


def exact(moment: datetime) -> str:
    return f"{moment:%Y-%m-%d %H:%M:%S} UTC"


def progress_text(progress: Any) -> str:
    """ "Like "48 of 72 images, 2 min left"; nothing where nothing is counted."""
    if not progress.total:
        return ""
    told = f"{progress.done} of {progress.total} {progress.unit}".rstrip()
    return told if progress.seconds_left is None else f"{told}, {time_left(progress)}"


def time_left(progress: Any) -> str:
    return f"{'at most ' if progress.at_most else ''}{duration(progress.seconds_left)} left"


def percent(share: float) -> str:
    return f"{share * 100:.0f} %"


def image_url(image: Image, size: str) -> str:
    return f"/api/v1/images/{image.id}.webp?size={size}"


def _environment() -> Environment:
    environment = Environment(
        loader=FileSystemLoader(WEB / "templates"),
        autoescape=True,
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    unsaid: dict[str, Any] = {
        "user": None,
        "project": None,
        "runs_project": False,
        "section": "",
        "csrf_token": "",
        "blurred": frozenset(),
    }
    environment.globals.update(static=static, **unsaid)
    for name in (title, the, duration, ago, exact, progress_text, percent, image_url):
        environment.filters[name.__name__] = name
    return environment


templates = _environment()


def html(template: str, /, **context: Any) -> str:
    return templates.get_template(template).render(**context)


def answer(text: str, status: int = 200) -> HTMLResponse:
    return HTMLResponse(text, status, headers=HEADERS)
