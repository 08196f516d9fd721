"""What a study found, for `d3po study --result`."""

from __future__ import annotations

from rich.console import Console
from rich.table import Table
from sqlalchemy import select
from sqlalchemy.orm import Session

from server.domain import studies
from server.errors import NotFound
from server.models import Checkpoint, Project, Round

shown = Console(highlight=False)


def show(session: Session, project: Project, number: int) -> None:
    """Prints the paper's two numbers for each policy, with their intervals, and what else was said."""
    row = session.scalar(select(Round).where(Round.project_id == project.id, Round.number == number, Round.kind == "study"))
    if row is None:
        raise NotFound(f"{project.name} has no study {number}. `d3po status` lists its rounds.")
    found = studies.result(session, row)
    of_project = select(Checkpoint.id, Checkpoint.number).where(Checkpoint.project_id == project.id)
    numbers = dict(session.execute(of_project).tuples().all())
    table = Table("policy", "votes", "share preferred", f"items with {found.majority_of} of {found.votes_per_item} votes")
    for one in found.policies:
        name = f"checkpoint {numbers[one.checkpoint_id]}" if one.checkpoint_id in numbers else "base model"
        preferred = _share(one.preferred, one.preferred_low, one.preferred_high)
        table.add_row(name, str(one.votes), preferred, _share(one.majority, one.majority_low, one.majority_high))
    shown.print(table)
    lost = f"Ties {found.ties}, all bad {found.all_bad}, skipped {found.skipped}."
    shown.print(f"{found.complete} of {found.items} items have all votes, {found.waiting} wait. {lost}")
    shown.print("In brackets 95 % intervals over items.")


def _share(share: float | None, low: float, high: float) -> str:
    return "no votes yet" if share is None else f"{share * 100:.1f} % [{low * 100:.1f}, {high * 100:.1f}]"
