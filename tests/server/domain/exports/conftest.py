"""A project in which every table has rows and every kind of file is there."""

from __future__ import annotations

import hashlib
from datetime import timedelta
from pathlib import Path

import pytest
from sqlalchemy import select
from sqlalchemy.orm import Session

from server.domain import exports, voting
from server.models import Metric, Outcome, Project, RoundVote, State, Vote, now
from server.storage import Storage, write_durably
from tests import factories


@pytest.fixture
def project(session: Session, storage: Storage) -> Project:
    project = factories.project(name="Emoji & Co", guideline="„Schön“\nbitte")
    alice, bob = factories.operator(project, name="Ålice"), factories.annotator(project, name="Bob")
    sample = factories.round_(project, created_by=alice.id, started_at=now(), finished_at=now())
    factories.job(sample, state=State.DONE, payload={"first_position": 0, "prompts": ["a cat", "a dog"]})
    for position, prompt in enumerate(("a cat", "a dog")):
        key, data = f"{sample.id}/{position:05d}-1.safetensors", f"latents {position}".encode()
        write_durably(storage.trajectory(key), data)
        group = factories.group(
            project, round_id=sample.id, position=position, prompt=prompt, trajectory_key=key,
            trajectory_sha256=hashlib.sha256(data).hexdigest(), images=2,
        )  # fmt: skip
        for image, colour in zip(group.images, ("red", "blue"), strict=True):
            image.sha256 = factories.stored_image(storage, colour, 300, 8)
        task = factories.task(project, group, votes_wanted=2)
        factories.vote(task, alice, flags={group.images[0].id: ["zu dunkel"]}, shown_at=now())
        taken_back = factories.vote(task, bob, None, outcome=Outcome.TIE)
        voting.retract(session, bob, taken_back.id)
    training = factories.round_(project, "training", votes_hash="ab" * 32)
    session.add_all(RoundVote(round_id=training.id, vote_id=vote_id) for vote_id in session.scalars(select(Vote.id)))
    session.add_all(Metric(round_id=training.id, step=step, values={"loss": 0.1 + step, "kl": None}) for step in (1, 2, 10))
    first = factories.checkpoint(project, round_id=training.id, key=f"{training.id}-1", manifest={"beta": 0.1})
    second = factories.checkpoint(project, parent_id=first.id)
    for made in (first, second):
        write_durably(storage.checkpoint(made.key) / "manifest.json", b"{}")
        write_durably(storage.checkpoint(made.key) / "pytorch_lora_weights.safetensors", made.key.encode())
    duel = factories.round_(project, "duel", checkpoint_id=second.id, opponent_id=first.id, started_at=now())
    duel.finished_at = now() + timedelta(seconds=1)
    factories.commit()
    return project


def exported(session: Session, storage: Storage, project: Project, format: str = "everything") -> bytes:
    return b"".join(exports.find(format).write(session, storage, project))


def in_file(data: bytes, folder: Path) -> Path:
    path = folder / "export.zip"
    path.write_bytes(data)
    return path
