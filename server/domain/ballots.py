"""What an annotator sends, and whether it makes sense for the task."""

from __future__ import annotations

import hashlib
from datetime import datetime
from typing import Annotated, Literal
from uuid import UUID

from pydantic import AfterValidator, AwareDatetime, BaseModel, ConfigDict, Field, FiniteFloat
from pydantic.config import JsonDict

from d3po_core.rewards import MAX_SCORE
from server.errors import Invalid
from server.models import Outcome, Task

MAX_RATINGS = 16
Rating = Annotated[FiniteFloat, Field(ge=-MAX_SCORE, le=MAX_SCORE)]
MAX_FLAGS = 20
MAX_FLAG_CHARACTERS = 40
EXAMPLE: JsonDict = {
    "vote_id": "0b8f7c0e-5d0e-4c51-9a53-3e3f1a1f7a10",
    "outcome": "best",
    "best_image_id": "019ab3c7f0a21b2c3d4e5f60718293a4",
    "flags": {"019ab3c7f0a21b2c3d4e5f60718293a4": ["distorted"]},
    "shown_at": "2026-01-31T12:00:00Z",
    "decided_at": "2026-01-31T12:00:02Z",
}


def _uuid(value: str) -> str:
    try:
        return str(UUID(value))
    except ValueError as error:
        raise ValueError("must be a UUID that the client makes once for each vote") from error


VoteId = Annotated[str, AfterValidator(_uuid)]


class Ballot(BaseModel):
    """One vote as the client states it. `supersedes` names the person's own earlier vote on this task, to edit it."""

    model_config = ConfigDict(extra="forbid", json_schema_extra={"examples": [EXAMPLE]})

    vote_id: VoteId = Field(description="A UUID made by the client; sending the same vote again is harmless.")
    outcome: Literal["best", "ranking", "rated", "tie", "all_bad", "skip"]
    best_image_id: str | None = Field(default=None, description="With outcome best: the image that beats the others.")
    ranking: list[str] | None = Field(default=None, max_length=64, description="With outcome ranking: all image ids, best first.")
    ratings: dict[str, Annotated[list[Rating], Field(min_length=1, max_length=MAX_RATINGS)]] | None = Field(
        default=None,
        description="With outcome rated: for every image as many numbers, higher is better, such as 1 for good and 0 for bad. "
        "One image beats another if it is at least as good by each number and better by one.",
    )
    flags: dict[str, list[Annotated[str, Field(min_length=1, max_length=MAX_FLAG_CHARACTERS)]]] = Field(
        default={},
        description='Words about single images, {image_id: ["distorted", ...]}; the project offers some, others are taken too.',
    )
    shown_order: list[str] | None = Field(default=None, max_length=64, description="Image ids in the order on screen.")
    shown_at: AwareDatetime | None = None
    decided_at: AwareDatetime | None = None
    supersedes: VoteId | None = None

    def body_hash(self, task_id: str) -> str:
        """Equal for a vote that is sent again, whatever its times say; different for any other body."""
        unsaid = {"shown_at", "decided_at"} | ({"ratings"} if self.ratings is None else set())
        said = self.model_dump_json(exclude=unsaid)
        return hashlib.sha256(f"{task_id}\n{said}".encode()).hexdigest()


def check(ballot: Ballot, task: Task) -> None:
    """Invalid with the fault named, unless the ballot fits the images of the task."""
    images = {image.id for image in task.group.images}
    if (ballot.outcome == Outcome.BEST) != (ballot.best_image_id is not None):
        raise Invalid("best_image_id belongs to the outcome best, and to no other.")
    if (ballot.outcome == Outcome.RANKING) != bool(ballot.ranking):
        raise Invalid("ranking belongs to the outcome ranking, and to no other.")
    if (ballot.outcome == Outcome.RATED) != bool(ballot.ratings):
        raise Invalid("ratings belong to the outcome rated, and to no other.")
    _check_known(images, "best_image_id", [ballot.best_image_id] if ballot.best_image_id else [])
    _check_known(images, "flags", list(ballot.flags))
    rated = ballot.ratings or {}
    if len({len(numbers) for numbers in rated.values()}) > 1:
        raise Invalid("ratings must have as many numbers for each image.")
    for field, listed in (("ranking", ballot.ranking), ("ratings", list(rated)), ("shown_order", ballot.shown_order)):
        _check_known(images, field, listed or [])
        if listed and sorted(listed) != sorted(images):
            raise Invalid(f"{field} must list each of the {len(images)} images of this task once, you sent {len(listed)}.")
    if any(len(words) > MAX_FLAGS for words in ballot.flags.values()):
        raise Invalid(f"An image takes at most {MAX_FLAGS} flags.")


def _check_known(images: set[str], field: str, named: list[str]) -> None:
    for image_id in named:
        if image_id not in images:
            raise Invalid(f"{field} names image {image_id[:40]}, which is not in this task.")


def thinking_seconds(shown_at: datetime | None, decided_at: datetime | None) -> float | None:
    """How long the person looked, where both times are known and make sense."""
    if shown_at is None or decided_at is None or decided_at < shown_at:
        return None
    return (decided_at - shown_at).total_seconds()
