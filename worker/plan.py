"""What a job needs from the database, read in one short transaction before the long computation."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Any, TypeVar

from PIL.Image import Image

from d3po_core.params import DuelParams, Params
from d3po_core.prompts import PromptSet
from server.db import read_scope
from server.domain.jobs import Claim
from server.domain.prompts import set_of
from server.domain.recording import DrawnImage, checkpoint_of, recorded_positions
from server.models import Checkpoint, Job, Project, Round
from server.settings import get_settings
from server.storage import Storage

Item = TypeVar("Item")
P = TypeVar("P", bound=Params)


@dataclass(frozen=True)
class Plan:
    """Detached from the session. Checkpoint ids of None mean the base model; `trained_id` is this round's own result."""

    base_model: str
    prompts: PromptSet
    sampling: dict[str, Any]
    round_params: dict[str, Any]
    payload: dict[str, Any]
    checkpoint_id: str | None
    opponent_id: str | None
    trained_id: str | None
    recorded: set[int]

    def params(self, model: type[P]) -> P:
        return picked(model, self.round_params)

    def gallery_params(self) -> DuelParams:
        return picked(DuelParams, self.sampling)

    def unrecorded(self, items: list[Item]) -> tuple[int, list[Item]]:
        """The chunk without what an earlier attempt recorded: (first position, items left). Groups land in order."""
        first = self.payload.get("first_position", 0)
        done = next((index for index in range(len(items)) if first + index not in self.recorded), len(items))
        return first + done, items[done:]


def fetch(claim: Claim) -> Plan:
    with read_scope() as session:
        round_ = session.get_one(Round, claim.round_id)
        project = session.get_one(Project, round_.project_id)
        trained = checkpoint_of(session, round_.id)
        return Plan(
            base_model=project.base_model, prompts=set_of(project), sampling=project.sampling,
            round_params=round_.params, payload=session.get_one(Job, claim.job_id).payload,
            checkpoint_id=round_.checkpoint_id, opponent_id=round_.opponent_id, trained_id=trained.id if trained else None,
            recorded=recorded_positions(session, round_.id),
        )  # fmt: skip


def adapter(checkpoint_id: str | None) -> Path | None:
    """The folder of a checkpoint's adapter; None for the base model."""
    if checkpoint_id is None:
        return None
    with read_scope() as session:
        return storage().checkpoint(session.get_one(Checkpoint, checkpoint_id).key)


def storage() -> Storage:
    return Storage(get_settings().data_dir)


def stored(image: Image, seed: int, checkpoint_id: str | None) -> DrawnImage:
    """The image's file first, then what its row will say."""
    return DrawnImage(storage().put_image(image), image.width, image.height, seed, checkpoint_id)


def picked(model: type[P], values: dict[str, Any]) -> P:
    return model.model_validate({name: value for name, value in values.items() if name in model.model_fields})
