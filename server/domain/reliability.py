"""How reliable a training round took its people to be: estimated by its worker once, kept in its params, shown on its page."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from sqlalchemy import select
from sqlalchemy.orm import Session

from d3po_core.preferences import Crowd
from server.domain.jobs import Claim, require_claim
from server.models import Round, User

NAME = "reliability"
"""In a round's params: {"population": r, "people": {user id: {"votes", "shared", "reliability"}}}."""


@dataclass(frozen=True)
class Judged:
    """`votes` that state a comparison, `shared` of them with one that somebody else made too; `reliability` in 1/2..1."""

    name: str
    votes: int
    shared: int
    reliability: float


def record(session: Session, claim: Claim, estimate: Mapping[str, Any]) -> None:
    """Keep the estimate, so that every later attempt weighs the votes alike. Raises LostClaim."""
    require_claim(session, claim)
    round_ = session.get_one(Round, claim.round_id)
    round_.params = round_.params | {NAME: dict(estimate)}
    session.flush()


def known(round_: Round) -> Crowd | None:
    """What was recorded for the round; None before."""
    kept = round_.params.get(NAME)
    return kept and Crowd(kept["population"], {user: person["reliability"] for user, person in kept["people"].items()})


def judged(session: Session, round_: Round) -> list[Judged]:
    """The round's people, the most reliable first."""
    people = round_.params.get(NAME, {}).get("people", {})
    names = dict(session.execute(select(User.id, User.name).where(User.id.in_(list(people)))).tuples().all())
    rows = [Judged(names.get(user, ""), **person) for user, person in people.items()]
    return sorted(rows, key=lambda row: (-row.reliability, row.name))
