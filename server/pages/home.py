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
    waits = f"{mine.waiting} {'group waits' if mine.waiting == 1 else 'groups wait'} for your vote"
    told = f"{waits if mine.waiting else 'Nothing waits for you'}; you voted on {mine.voted_by_me}."
    told = told if mine.total else "Nothing to vote on yet."
    runs = people.role_in(visit.session, visit.user, project) in ("operator", "admin")
    return Card(project, told, mine.waiting, runs)
