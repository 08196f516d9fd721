"""The voting page. With JavaScript it leases and votes through the API; without, each answer is a form post."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Annotated, Any
from uuid import uuid4

from fastapi import APIRouter, Form
from fastapi.responses import HTMLResponse, RedirectResponse

from server.api.shapes import TaskOut
from server.domain import projects, rounds, voting
from server.domain.voting import Ballot, LeasedTask
from server.errors import Invalid, parse
from server.models import Project, Round, State, now
from server.pages.templating import duration, title
from server.pages.visit import Leasing, Visit, Visiting

router = APIRouter(prefix="/p/{project_id}/vote")
Many = Annotated[list[str], Form(default_factory=list)]


@dataclass(frozen=True)
class Arriving:
    """What is being generated for people who have nothing to vote on."""

    sentence: str
    next: str
    done: int
    total: int


@router.get("")
def show(project_id: str, visit: Leasing, late: bool = False) -> HTMLResponse:
    """`late`: the vote before was surplus."""
    project = projects.open_for(visit.session, visit.user, project_id, "annotator")
    leased = voting.lease_tasks(visit.session, visit.user, project, 1)
    task = leased[0] if leased else None
    return visit.page(
        "vote.html", project, task=task, task_json=_as_json(task), vote_id=str(uuid4()), flags=project.flags,
        shown_at=now().isoformat(), late=late,
        last_vote_id=voting.last_vote_id(visit.session, visit.user, project), **_waiting(visit, project),
    )  # fmt: skip


@router.get("/waiting")
def waiting(project_id: str, visit: Visiting) -> HTMLResponse:
    """The part of the page that an empty queue shows; the page asks for it again and again."""
    project = projects.open_for(visit.session, visit.user, project_id, "annotator")
    return visit.page("_waiting.html", project, **_waiting(visit, project))


@router.post("")
def cast(
    project_id: str, visit: Visiting, vote_id: Annotated[str, Form()], task_id: Annotated[str, Form()],
    shown_order: Annotated[str, Form()], shown_at: Annotated[str, Form()], flag: Many, place: Many, bad: Many,
    choice: Annotated[str, Form()] = "",
) -> RedirectResponse:  # fmt: skip
    shown = shown_order.split(",")
    seen = {"shown_order": shown, "shown_at": shown_at, "decided_at": now(), "flags": _flags(flag)}
    ballot = parse(Ballot, {"vote_id": vote_id, **_answer(choice, shown, place, bad), **seen})
    receipt = voting.cast_vote(visit.session, visit.user, task_id, ballot)
    return RedirectResponse(f"/p/{project_id}/vote{'?late=true' if receipt.surplus else ''}", status_code=303)


@router.post("/undo")
def undo(
    project_id: str, visit: Visiting, last_vote_id: Annotated[str, Form()], task_id: Annotated[str, Form()] = ""
) -> RedirectResponse:
    """Takes the last vote back and gives up the task on screen, so that the one just taken back is shown again."""
    voting.retract(visit.session, visit.user, last_vote_id)
    if task_id:
        voting.release(visit.session, visit.user, task_id)
    return RedirectResponse(f"/p/{project_id}/vote", status_code=303)


def _answer(choice: str, shown: list[str], places: list[str], bad: list[str]) -> dict[str, Any]:
    """What the pressed button says; "ranking" is told by a place for each image, in the order shown, "rated" by which are bad."""
    if not choice:
        raise Invalid("Choose an image, or say tie, all bad or skip. Nothing was stored.")
    if choice in ("tie", "all_bad", "skip"):
        return {"outcome": choice}
    if choice in ("rated", "rated_bad"):
        good = [] if choice == "rated_bad" else [image_id for image_id in shown if image_id not in bad]
        return {"outcome": "rated", "ratings": {image_id: [float(image_id in good)] for image_id in shown}}
    if choice != "ranking":
        return {"outcome": "best", "best_image_id": choice}
    if sorted(places) != sorted(str(place) for place in range(1, len(shown) + 1)):
        raise Invalid(f"Give each image a place of its own, 1 (best) to {len(shown)}. Nothing was stored.")
    by_place = dict(zip(places, shown, strict=True))
    return {"outcome": "ranking", "ranking": [by_place[str(place)] for place in range(1, len(shown) + 1)]}


def _flags(checked: list[str]) -> dict[str, list[str]]:
    """From checkboxes that each say "image word"."""
    found: dict[str, list[str]] = {}
    for box in checked:
        image_id, _, word = box.partition(" ")
        found.setdefault(image_id, []).append(word)
    return found


def _as_json(task: LeasedTask | None) -> dict[str, Any] | None:
    """The same shape as the API's."""
    return TaskOut.of(task).model_dump(mode="json") if task else None


def _waiting(visit: Visit, project: Project) -> dict[str, Any]:
    mine = voting.my_progress(visit.session, visit.user, project)
    return {"voted": mine.voted_by_me, "total": mine.total, "arriving": _arriving(visit, project)}


def _arriving(visit: Visit, project: Project) -> Arriving | None:
    """The round whose next groups people will see, if one is being drawn."""
    drawing = [row for row in rounds.list_rounds(visit.session, project)[0] if _is_drawing(row)]
    if not drawing:
        return None
    row = min(drawing, key=lambda row: row.number)
    progress = rounds.progress(visit.session, row)
    sentence = f"Images are being drawn: {progress.done} of {progress.total} {progress.unit} of round {row.number}."
    left = progress.total - progress.done
    if progress.seconds_left is None or not left:
        soon = "The next group comes soon." if row.state == State.RUNNING else f"{title(row).capitalize()} waits for a worker."
    else:
        soon = f"Next group in about {duration(progress.seconds_left / left)}."
    return Arriving(sentence, soon, progress.done, progress.total)


def _is_drawing(row: Round) -> bool:
    return row.kind in ("sample", "duel", "study") and row.state in (State.QUEUED, State.RUNNING)
