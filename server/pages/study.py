"""What the page of a study tells: the paper's two numbers for each policy, as bars beside each other and as CSV."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, fields
from typing import Any

from fastapi import APIRouter, Response
from sqlalchemy import select
from sqlalchemy.orm import Session

from server.domain import checkpoints, rounds, studies
from server.domain.studies import PolicyResult, StudyResult
from server.domain.studying import RATERS, STUDY_ITEMS
from server.errors import NotFound
from server.models import Checkpoint, Round
from server.pages.bars import Bars, Share, draw
from server.pages.templating import the, title
from server.pages.visit import Visiting, csv
from server.pages.wording import facts

router = APIRouter(prefix="/rounds/{round_id}")
COLUMNS = ["policy", *(field.name for field in fields(PolicyResult) if field.name != "checkpoint_id")]


@dataclass(frozen=True)
class Study:
    """`charts`: share preferred, and share of items with a majority."""

    conclusion: str
    counts: str
    charts: list[Bars]


def read(session: Session, row: Round) -> Study:
    found, known = studies.result(session, row), _policies(session, row)
    csv_at = f"/rounds/{row.id}/study.csv"
    preferred = [
        Share(title(known[one.checkpoint_id]), one.preferred, one.preferred_low, one.preferred_high) for one in found.policies
    ]
    majority = [
        Share(title(known[one.checkpoint_id]), one.majority, one.majority_low, one.majority_high) for one in found.policies
    ]
    of = f"at least {found.majority_of} of {found.votes_per_item} votes"
    charts = [
        draw(preferred, title="Share preferred", csv=csv_at, caption="Of the votes that chose an image, whose it was."),
        draw(majority, title=f"Items with {of}", csv=csv_at, caption=f"Of the {found.complete} items that have all their votes."),
    ]
    return Study(_conclusion(found, known), _counts(found), charts)


def launch_form(known: Sequence[Checkpoint], current: Checkpoint | None) -> dict[str, Any]:
    """What can be compared, the policy in use first after the base model, and the usual sizes."""
    checkpoints_ = sorted(known, key=lambda one: one is not current)
    policies = [(checkpoints.BASE, title(None)), *((one.id, title(one)) for one in checkpoints_)]
    return {"policies": policies, "count": STUDY_ITEMS, "raters": RATERS}


def settings(session: Session, row: Round) -> dict[str, str]:
    told = facts({name: value for name, value in row.params.items() if name not in ("checkpoints", "policies", "items")})
    return {"Compares": ", ".join(title(policy) for policy in _policies(session, row).values())} | told


@router.get("/study.csv")
def study_csv(round_id: str, visit: Visiting) -> Response:
    """A line a policy."""
    row = rounds.open_for(visit.session, visit.user, round_id, "operator")
    if row.kind != "study":
        raise NotFound("This round is no study.")
    known = _policies(visit.session, row)
    lines = [
        [title(known[one.checkpoint_id]), *(getattr(one, name) for name in COLUMNS[1:])]
        for one in studies.result(visit.session, row).policies
    ]
    return csv(f"study-{row.number}", COLUMNS, lines)


def _policies(session: Session, row: Round) -> dict[str, Checkpoint | None]:
    """The study's policies in its order, by the names that its parameters have for them."""
    ids = row.params["checkpoints"]
    known = {one.id: one for one in session.scalars(select(Checkpoint).where(Checkpoint.id.in_(ids)))}
    return {ident: None if ident == checkpoints.BASE else known[ident] for ident in ids}


def _conclusion(found: StudyResult, known: dict[str, Checkpoint | None]) -> str:
    """Who is ahead, and whether by more than chance: its interval overlaps nobody else's."""
    ranked = sorted(found.policies, key=lambda one: one.votes, reverse=True)
    first, second = ranked[0], ranked[1]
    if first.preferred is None:
        return "Nobody has chosen an image yet."
    if first.preferred_low > max(other.preferred_high for other in ranked[1:]):
        return f"People prefer {the(known[first.checkpoint_id])}: its interval lies above all others."
    if first.votes == second.votes:
        return f"{the(known[first.checkpoint_id]).capitalize()} and {the(known[second.checkpoint_id])} are level so far."
    ahead = the(known[first.checkpoint_id]).capitalize()
    return f"{ahead} is ahead, but not told apart yet: the intervals overlap. More items narrow them."


def _counts(found: StudyResult) -> str:
    told = [
        f"{found.complete} of {found.items} items have all {found.votes_per_item} votes",
        f"{found.without_majority} of them without a majority" if found.without_majority else "",
        f"{found.waiting} wait for votes" if found.waiting else "",
        f"{found.ties} votes said tie" if found.ties else "",
        f"{found.all_bad} all bad" if found.all_bad else "",
        f"{found.skipped} skipped" if found.skipped else "",
    ]
    return f"{'; '.join(filter(None, told))}. Each vote of an item is another person’s."
