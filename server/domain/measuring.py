"""What a job of an evaluation round has to score, and its scores: rows by image and reward, and no vote."""

from __future__ import annotations

from sqlalchemy import select
from sqlalchemy.orm import Session, selectinload

from server.domain import scoring
from server.domain.jobs import Claim, require_claim
from server.domain.scoring import Scores, Work
from server.models import Group, Job, Round


def begin(session: Session, claim: Claim) -> Work:
    """The groups of this job, all of them drawn, and what is known of their images. Raises LostClaim."""
    require_claim(session, claim)
    payload = session.get_one(Job, claim.job_id).payload
    first, count = payload["first_position"], len(payload["items"])
    query = select(Group).where(Group.round_id == claim.round_id, Group.position.between(first, first + count - 1))
    groups = session.scalars(query.order_by(Group.position).options(selectinload(Group.images))).all()
    known = scoring.known(session, [image.id for group in groups for image in group.images])
    to_score = [scoring.to_score(group, known) for group in groups]
    return Work(scoring.params_of(session.get_one(Round, claim.round_id)), to_score, 0)


def record(session: Session, claim: Claim, group_ids: list[str], scores: Scores) -> None:
    """Adds what is not there yet. Raises LostClaim."""
    require_claim(session, claim)
    keys = [chosen.key for chosen in scoring.params_of(session.get_one(Round, claim.round_id)).rewards]
    for group in session.scalars(select(Group).where(Group.id.in_(group_ids)).options(selectinload(Group.images))):
        scoring.store(session, group, scores, keys)
