"""Rounds and the jobs that workers run for them."""

from __future__ import annotations

from datetime import datetime
from enum import StrEnum
from typing import Any

from sqlalchemy import BigInteger, ForeignKey, Index, String, Text, UniqueConstraint
from sqlalchemy.orm import Mapped, mapped_column, relationship

from server.models.base import Base, Identified


class State(StrEnum):
    QUEUED = "queued"  # written, not started by any worker
    RUNNING = "running"  # a worker holds (one of) its jobs
    DONE = "done"  # everything it promised is recorded
    FAILED = "failed"  # stopped; `message` says what happened, what was kept and what to do
    CANCELLED = "cancelled"  # stopped by a person; finished groups are kept


class Round(Identified, Base):
    """One unit an operator launches. kind: sample, training, duel, study, reward, evaluation, auto. `number` counts within the
    project from 1. `auto_id`: the auto round that launched this one."""

    __tablename__ = "rounds"
    __table_args__ = (UniqueConstraint("project_id", "number"),)
    project_id: Mapped[str] = mapped_column(ForeignKey("projects.id"), index=True)
    number: Mapped[int]
    kind: Mapped[str] = mapped_column(String(20))
    state: Mapped[State] = mapped_column(String(20), default=State.QUEUED)
    params: Mapped[dict[str, Any]]
    checkpoint_id: Mapped[str | None] = mapped_column(ForeignKey("checkpoints.id", use_alter=True))
    opponent_id: Mapped[str | None] = mapped_column(ForeignKey("checkpoints.id", use_alter=True))
    auto_id: Mapped[str | None] = mapped_column(ForeignKey("rounds.id"), index=True)
    votes_hash: Mapped[str | None] = mapped_column(String(64))
    message: Mapped[str] = mapped_column(Text, default="")
    created_by: Mapped[str | None] = mapped_column(ForeignKey("users.id"))
    started_at: Mapped[datetime | None]
    finished_at: Mapped[datetime | None]
    jobs: Mapped[list[Job]] = relationship(back_populates="round", order_by="Job.id")


class Job(Identified, Base):
    """What one worker runs. A claim sets running, a new attempt and a lease; results count only for that attempt.

    `attempt` only ever grows: it tells one claim from the next. `failures` counts the attempts that broke since a person
    last asked for the job.

    kind: sample, duel, study or evaluate (a chunk of prompts), train, score (a chunk of groups). `payload` is all a worker
    needs besides the round; `progress_done` of `progress_total` are `progress_unit`s. `memory_bytes`: the most that the attempt
    which succeeded took at once, of the device's memory; on a CPU, of the process's.
    """

    __tablename__ = "jobs"
    __table_args__ = (Index("ix_jobs_state_lease_expires_at", "state", "lease_expires_at"),)
    round_id: Mapped[str] = mapped_column(ForeignKey("rounds.id"), index=True)
    kind: Mapped[str] = mapped_column(String(20))
    state: Mapped[State] = mapped_column(String(20), default=State.QUEUED)
    payload: Mapped[dict[str, Any]]
    attempt: Mapped[int] = mapped_column(default=0)
    failures: Mapped[int] = mapped_column(default=0)
    worker: Mapped[str] = mapped_column(String(120), default="")
    lease_expires_at: Mapped[datetime | None]
    sent_at: Mapped[datetime | None]
    started_at: Mapped[datetime | None]
    finished_at: Mapped[datetime | None]
    progress_done: Mapped[int] = mapped_column(default=0)
    progress_total: Mapped[int] = mapped_column(default=0)
    progress_unit: Mapped[str] = mapped_column(String(40), default="")
    memory_bytes: Mapped[int | None] = mapped_column(BigInteger)
    error: Mapped[str] = mapped_column(Text, default="")
    round: Mapped[Round] = relationship(back_populates="jobs")


class RoundVote(Base):
    """A vote frozen into a training round: what the round may learn from, and nothing else."""

    __tablename__ = "round_votes"
    round_id: Mapped[str] = mapped_column(ForeignKey("rounds.id"), primary_key=True)
    vote_id: Mapped[str] = mapped_column(ForeignKey("votes.id"), primary_key=True, index=True)


class Metric(Base):
    """What training logged at one step: loss, pair_accuracy, log_ratio_mean, log_ratio_std, kl, ...; `at`: when, Unix time."""

    __tablename__ = "metrics"
    round_id: Mapped[str] = mapped_column(ForeignKey("rounds.id"), primary_key=True)
    step: Mapped[int] = mapped_column(primary_key=True)
    values: Mapped[dict[str, Any]]
