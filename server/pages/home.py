"""The projects of the person who is signed in."""

from __future__ import annotations

from dataclasses import dataclass

from fastapi import APIRouter
from fastapi.responses import HTMLResponse

from server.domain import people, projects, voting
from server.models import Project
from server.pages.visit import Visit, Visiting

router = APIRouter()


@dataclass(frozen=True)
class Card:
    project: Project
    summary: str
    waiting: int
    runs: bool


@router.get("/")
def home(visit: Visiting) -> HTMLResponse:
    cards = [_card(visit, project) for project in projects.list_for(visit.session, visit.user)]
    return visit.page("home.html", cards=cards)


def _card(visit: Visit, project: Project) -> Card:
    mine = voting.my_progress(visit.session, visit.user, project)
    told = f"You voted on {mine.voted_by_me}; {mine.waiting} wait for you." if mine.total else "Nothing to vote on yet."
    runs = people.role_in(visit.session, visit.user, project) in ("operator", "admin")
    return Card(project, told, mine.waiting, runs)
