"""How checkpoints did against each other in duels: a chart against the base model, and everything as CSV."""

from __future__ import annotations

from fastapi import APIRouter, Response
from sqlalchemy.orm import Session

from server.domain import duels, projects, rounds
from server.models import Checkpoint, Project, Round
from server.pages.charts import Chart, Point, draw
from server.pages.overview import opponents
from server.pages.visit import Visiting, csv

router = APIRouter(prefix="/p/{project_id}")
COLUMNS = ["round", "checkpoint", "opponent", "wins", "losses", "ties", "win_rate", "low", "high"]


@router.get("/win-rates.csv")
def win_rates_csv(project_id: str, visit: Visiting) -> Response:
    project = projects.open_for(visit.session, visit.user, project_id, "operator")
    played = _duels(visit.session, project)
    found = duels.results(visit.session, played)
    return csv("win-rates", COLUMNS, [_row(visit.session, row, found[row.id]) for row in played])


def _row(session: Session, row: Round, result: duels.DuelResult) -> list[object]:
    sides = ["base" if side is None else side.number for side in opponents(session, row)]
    return [row.number, *sides, result.wins, result.losses, result.ties, result.win_rate, result.low, result.high]


def win_rates(session: Session, project: Project, known: dict[str, Checkpoint]) -> Chart | None:
    """How each checkpoint did against the base model, with intervals; None before the first such duel has votes."""
    against_base = [row for row in _duels(session, project) if row.opponent_id is None and row.checkpoint_id in known]
    found = duels.results(session, against_base)
    best: dict[int, Point] = {}
    for row in against_base:
        result, number = found[row.id], known[str(row.checkpoint_id)].number
        if result.win_rate is not None:
            best[number] = Point(number, result.win_rate, result.low, result.high)
    points = [best[number] for number in sorted(best)]
    if not points:
        return None
    return draw(
        points, title="Win rate against the base model", caption=_conclusion(points[-1]), csv=f"/p/{project.id}/win-rates.csv",
        x_name="checkpoint", y_name="win rate, with 95 % interval", reference=0.5, span=(0, 1), whole_x=True, dots=True,
    )  # fmt: skip


def _conclusion(last: Point) -> str:
    if last.low is not None and last.low > 0.5:
        return f"People prefer checkpoint {last.x:.0f} to the base model: its whole interval is above one half."
    if last.high is not None and last.high < 0.5:
        return f"People prefer the base model to checkpoint {last.x:.0f}: its whole interval is below one half."
    return (
        f"Checkpoint {last.x:.0f} is not yet told apart from the base model: its interval holds one half. More votes narrow it."
    )


def _duels(session: Session, project: Project) -> list[Round]:
    """Duel rounds, oldest first."""
    found, _ = rounds.list_rounds(session, project, limit=200)
    return [row for row in reversed(found) if row.kind == "duel"]
