"""One step of an auto round, requested as a person would request it."""

from __future__ import annotations

from dataclasses import dataclass

from sqlalchemy import select
from sqlalchemy.orm import Session

from d3po_core.params import DuelParams
from server.domain import checkpoints, evaluating, launching, rewarding
from server.domain.auto.params import AutoParams
from server.domain.auto.steps import FIRST, Step
from server.errors import Conflict, Denied
from server.models import Checkpoint, Project, Round, User

Launched = dict[Step, Round]
"""The rounds that an auto round launched so far, in their order."""


@dataclass(frozen=True)
class Launch:
    """The next step of an auto round; whoever launched that one must still be allowed to."""

    session: Session
    auto: Round
    params: AutoParams
    known: Launched
    epoch: int

    def request(self, kind: str) -> Round:
        """The round of this kind, as its auto round's own. D3poError where it makes no sense."""
        requests = {"sample": self._sample, "reward": self._reward, "training": self._training, "evaluation": self._evaluation}
        by = self.session.get_one(User, self.auto.created_by)
        if by.revoked_at is not None:
            raise Denied(f"The access of {by.name}, who launched it, was taken away. Launch another one.")
        project = self.session.get_one(Project, self.auto.project_id)
        if kind in ("sample", "training"):
            self._refuse_another_policy(project)
        child = requests[kind](by, project)
        child.auto_id, child.params = self.auto.id, child.params | {"epoch": self.epoch}
        self.session.flush()
        return child

    def _refuse_another_policy(self, project: Project) -> None:
        """Somebody can put one into use while it is stopped. Its curve would go on as if what followed were its own."""
        used, own = checkpoints.current(self.session, project), checkpoints.resolve(self.session, project, self._policy)
        if used is not own:
            in_use, wanted = (f"checkpoint {made.number}" if made else "the base model" for made in (used, own))
            raise Conflict(f"{in_use.capitalize()} is in use by now, and it goes on with {wanted}. Put that one into use again.")

    def _sample(self, by: User, project: Project) -> Round:
        asked = self.params.sampling.model_copy(update={"seed": (self.params.seed + self.epoch) % 2**31})
        return launching.request_sample_round(
            self.session, by, project, asked, prompt_set=self.params.prompt_set, count=self.params.count
        )

    def _reward(self, by: User, project: Project) -> Round:
        return rewarding.request_reward_round(self.session, by, project, self.params.reward, round_ids=[self._sampled.id])

    def _training(self, by: User, project: Project) -> Round:
        votes = {"round_ids": [self._sampled.id]}
        return launching.request_training_round(self.session, by, project, self.params.training, votes, within=self.auto)

    def _evaluation(self, by: User, project: Project) -> Round:
        """The same prompts and noise every time, whatever the project's prompts are by then."""
        first, asked = self.known.get(FIRST), self.params.sampling
        chain = DuelParams(**asked.model_dump(include=asked.model_fields_set & DuelParams.model_fields.keys()))
        items = evaluating.items_of(first) if first else self._items(project)
        return evaluating.request_evaluation_round(self.session, by, project, chain, self.params.reward, items, self._policy)

    def _items(self, project: Project) -> list[evaluating.Item]:
        return evaluating.items(project, self.params.evaluation_prompts, self.params.seed, self.params.prompt_set)

    @property
    def _sampled(self) -> Round:
        return self.known["sample", self.epoch]

    @property
    def _policy(self) -> str | None:
        """Who is evaluated: what it trained last, at first what it began with."""
        trained = [row.id for (kind, _), row in self.known.items() if kind == "training"]
        if not trained:
            return self.auto.checkpoint_id
        return self.session.scalars(select(Checkpoint.id).where(Checkpoint.round_id == trained[-1])).one()
