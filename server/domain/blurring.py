"""Which images are shown blurred until somebody wants to see them."""

from __future__ import annotations

from collections.abc import Collection, Iterable

from sqlalchemy import select
from sqlalchemy.orm import Session

from server.domain.checkpoints import BeforeAfter
from server.models import Image, Project, Score

SAFETY = "safety"
"""The reward whose score is the probability that an image is safe."""
SAFE_FROM = 0.5


def blurred(session: Session, project: Project, images: Collection[Image]) -> frozenset[str]:
    """Ids of those to blur: by the image's safety score where it has one, else as the project says. One query."""
    ids = [image.id for image in images]
    known = select(Score.image_id, Score.value).where(Score.reward == SAFETY, Score.image_id.in_(ids))
    safe = {image_id: value >= SAFE_FROM for image_id, value in session.execute(known).tuples()}
    return frozenset(image_id for image_id in ids if not safe.get(image_id, not project.blur))


def in_gallery(session: Session, project: Project, gallery: Iterable[BeforeAfter]) -> frozenset[str]:
    return blurred(session, project, [image for row in gallery for image in (row.base_image, row.tuned_image)])
