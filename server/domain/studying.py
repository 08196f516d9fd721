"""Requests for study rounds: several policies draw one image each of an item, and K people say, blind, which is best."""

from __future__ import annotations

import secrets
from collections.abc import Sequence

from pydantic import Field
from sqlalchemy.orm import Session

from d3po_core.params import ChainParams
from server.domain import checkpoints, people, projects
from server.domain import prompts as prompt_rules
from server.domain.launching import add_job, new_round
from server.errors import Invalid, TooLarge
from server.models import Project, Round, User

STUDY_ITEMS, RATERS = 100, 5
"""Items of a study, and votes that each wants, unless it is told."""
MOST_POLICIES = 9
"""As many as there are keys to pick one with."""
MAX_IMAGES = 10_000
CHUNK_IMAGES = 16


class StudyParams(ChainParams):
    """What a study draws and how many people look at it. Item i is drawn from the noise of `seed` + i."""

    votes_per_item: int = Field(default=RATERS, ge=1, le=100, description="K, the people who vote on each item.")
    seed: int = Field(default=0, ge=0, lt=2**30, description="The first item's noise; the next ones count on.")


def request_study_round(
    session: Session,
    by: User,
    project: Project,
    params: StudyParams,
    policies: Sequence[str],
    prompts: Sequence[str] | None = None,
    *,
    prompt_set: str | None = None,
    count: int = STUDY_ITEMS,
) -> Round:
    """One item for each given prompt, or for each of `count` that no sample round draws. `policies`: see checkpoints.resolve."""
    people.require(session, by, project, "operator")
    params = projects.merged({name: value for name, value in project.sampling.items() if name != "seed"}, params)
    if "seed" not in params.model_fields_set:
        params = params.model_copy(update={"seed": secrets.randbelow(2**30)})
    found = [checkpoints.resolve(session, project, name) for name in policies]
    ids = list(dict.fromkeys(checkpoint.id if checkpoint else checkpoints.BASE for checkpoint in found))
    if not 2 <= len(ids) <= MOST_POLICIES:
        raise Invalid(
            f"A study compares 2 to {MOST_POLICIES} different checkpoints, the base model among them, you chose {len(ids)}."
        )
    if prompts is not None and prompt_set is not None:
        raise Invalid("Give prompts or a prompt_set, not both.")
    drawn = prompt_rules.check(prompts) if prompts is not None else prompt_rules.held_out(project, count, params.seed, prompt_set)
    if len(drawn) * len(ids) > MAX_IMAGES:
        raise TooLarge(f"A study draws at most {MAX_IMAGES:,} images, this is {len(drawn) * len(ids):,}. Use fewer prompts.")
    kept = params.model_dump() | {"checkpoints": ids, "policies": len(ids), "prompts": len(drawn), "items": len(drawn)}
    round_ = new_round(session, by, project, "study", kept)
    items = [[prompt, params.seed + index] for index, prompt in enumerate(drawn)]
    size = max(1, CHUNK_IMAGES // len(ids))
    for first in range(0, len(items), size):
        add_job(session, round_, "study", {"first_position": first, "items": items[first : first + size]})
    return round_
