"""A project on the tiny pipeline, and jobs run in this process as a pool process would run them."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
from sqlalchemy import select
from sqlalchemy.orm import Session, selectinload

from d3po_core.params import SamplingParams, TrainingParams
from server.db import read_scope
from server.domain import rounds
from server.models import Group, Job, Project, Round, State, Task, User
from server.settings import Settings, get_settings
from tests import factories
from worker import gpu, perform, tasks

SAMPLING = SamplingParams(images_per_prompt=2, num_inference_steps=3, guidance_scale=2.0, seed=1)
PROMPTS = ["a red fish", "a cat", "a bird"]


@pytest.fixture(autouse=True)
def _quick_heartbeat(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(perform, "BEAT_SECONDS", 0.02)


@pytest.fixture
def tiny_settings(settings: Settings, tiny_model: Path, monkeypatch: pytest.MonkeyPatch) -> Settings:
    monkeypatch.setenv("D3PO_BASE_MODELS", json.dumps({"tiny": str(tiny_model)}))
    monkeypatch.setenv("D3PO_TORCH_THREADS", "1")
    get_settings.cache_clear()
    gpu.release()
    return get_settings()


@pytest.fixture
def project(tiny_settings: Settings, session: Session) -> Project:
    return factories.project(base_model="tiny", sampling=SAMPLING.model_dump())


@pytest.fixture
def alice(project: Project) -> User:
    return factories.operator(project)


@pytest.fixture
def sample_round(session: Session, project: Project, alice: User) -> Round:
    """Three prompts in two jobs: one prompt, then two."""
    round_ = rounds.request_sample_round(session, alice, project, SAMPLING, PROMPTS)
    factories.commit()
    return round_


@pytest.fixture
def training_round(session: Session, project: Project, alice: User, sample_round: Round) -> Round:
    """A round that may learn from one vote on each of the three groups."""
    for job in jobs_of(sample_round):
        tasks.sample(job.id)
    for task in session.scalars(select(Task)):
        factories.vote(task, alice, best=0)
    round_ = rounds.request_training_round(session, alice, project, TrainingParams(lora_rank=2, learning_rate=1e-2))
    factories.commit()
    return round_


def jobs_of(round_: Round) -> list[Job]:
    """In the order of their prompts; ids of one millisecond have none."""
    with read_scope() as session:
        found = session.scalars(select(Job).where(Job.round_id == round_.id)).all()
    return sorted(found, key=lambda job: job.payload.get("first_position", 0))


def groups_of(round_: Round) -> list[Group]:
    groups = select(Group).where(Group.round_id == round_.id).order_by(Group.position).options(selectinload(Group.images))
    with read_scope() as session:
        return list(session.scalars(groups))


def ended(round_: Round) -> tuple[State, str]:
    with read_scope() as session:
        stored = session.get_one(Round, round_.id)
        return stored.state, stored.message
