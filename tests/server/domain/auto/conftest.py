"""An auto round on rows alone: `Stage` ends the rounds that it launches as a worker would, and finds what a test wants."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import pytest
from sqlalchemy import select
from sqlalchemy.orm import Session

from d3po_core.rewards import ChosenReward, RewardParams
from server.domain import auto, jobs
from server.domain.auto import AutoParams
from server.domain.jobs import Claim
from server.models import Checkpoint, Group, Image, Job, Metric, Outcome, Project, Round, Score, State, Task, User
from tests import factories

REWARD = RewardParams(rewards=[ChosenReward(name="colourfulness")])


class Stage:
    def __init__(self, session: Session, project: Project, by: User) -> None:
        self.session, self.project, self.by = session, project, by
        self.auto: Round | None = None

    def begin(self, **asked: Any) -> Round:
        params = AutoParams(**{"reward": REWARD, "epochs": 2, "count": 2, "evaluation_prompts": 4} | asked)
        self.auto = auto.request_auto_round(self.session, self.by, self.project, params)
        return self.auto

    @property
    def children(self) -> list[Round]:
        assert self.auto is not None
        return list(self.session.scalars(select(Round).where(Round.auto_id == self.auto.id).order_by(Round.number)))

    @property
    def steps(self) -> list[tuple[str, int]]:
        return [(row.kind, row.params["epoch"]) for row in self.children]

    def waiting(self, row: Round) -> Job | None:
        """The first of its jobs that waits."""
        query = select(Job).where(Job.round_id == row.id, Job.state == State.QUEUED).order_by(Job.id)
        return self.session.scalars(query.limit(1)).one_or_none()

    def end(self, scores: Sequence[float] = (), kl: float = 0.001, alike: bool = False) -> None:
        """Whatever the newest round is, its jobs find this and finish."""
        row = self.children[-1]
        if row.kind == "sample":
            self.draw(row)
        elif row.kind == "reward":
            self._vote(row, alike)
        elif row.kind == "training":
            self._train(row, kl)
        else:
            self._evaluate(row, scores or (1.0, 2.0, 3.0, 4.0))
        while job := self.waiting(row):
            jobs.finish(self.session, self.claimed(job))

    def claimed(self, job: Job | None) -> Claim:
        claim = jobs.claim(self.session, job.id, "here:1") if job else None
        assert claim is not None
        return claim

    def break_(self, sentence: str) -> None:
        """The newest round's jobs fail for good."""
        row = self.children[-1]
        while job := self.waiting(row):
            jobs.fail(self.session, self.claimed(job), sentence, retry=False)

    def epoch(self, scores: Sequence[float] = (), **found: Any) -> None:
        """Sample, reward, training, and the evaluation where one follows."""
        for _ in range(3):
            self.end(**found)
        if self.children[-1].kind == "evaluation" and self.children[-1].state == State.QUEUED:
            self.end(scores)

    def made(self) -> list[Checkpoint]:
        query = select(Checkpoint).where(Checkpoint.project_id == self.project.id).order_by(Checkpoint.number)
        return list(self.session.scalars(query))

    def draw(self, row: Round) -> None:
        for position in range(row.params["prompts"]):
            drawn_by = [row.checkpoint_id] * 2
            factories.task(self.project, factories.group(self.project, round_id=row.id, position=position, drawn_by=drawn_by))

    def _vote(self, row: Round, alike: bool) -> None:
        machine = self.session.get_one(User, row.params["annotator_id"])
        for group in self.session.scalars(select(Group).where(Group.round_id.in_(row.params["round_ids"]))):
            ratings = {image.id: [0.0 if alike else float(place)] for place, image in enumerate(group.images)}
            [task] = self.tasks(Task.group_id == group.id)
            factories.vote(task, machine, None, outcome=Outcome.RATED, ratings=ratings)

    def tasks(self, *conditions: Any) -> list[Task]:
        return list(self.session.scalars(select(Task).where(*conditions)))

    def _train(self, row: Round, kl: float) -> None:
        number = len(self.made()) + 1
        self.session.add(Metric(round_id=row.id, step=1, values={"kl_average": kl}))
        factories.checkpoint(self.project, round_id=row.id, number=number, parent_id=row.checkpoint_id, promoted_at=None)

    def _evaluate(self, row: Round, scores: Sequence[float]) -> None:
        items = [item for job in sorted(row.jobs, key=lambda job: job.id) for item in job.payload["items"]]
        for position, ((prompt, seed), value) in enumerate(zip(items, scores, strict=True)):
            group = Group(project_id=self.project.id, round_id=row.id, position=position, prompt=prompt)
            group.images = [Image(position=0, sha256="0" * 64, width=64, height=64, seed=seed, checkpoint_id=row.checkpoint_id)]
            factories.add(group)
            factories.add(Score(image_id=group.images[0].id, reward="colourfulness", value=value))


@pytest.fixture
def stage(session: Session) -> Stage:
    project = factories.project()
    return Stage(session, project, factories.operator(project, name="Alice"))
