"""A project: a base model, a guideline text, a voting mode, a prompt set, people."""

from __future__ import annotations

from typing import Any

from sqlalchemy import String, Text
from sqlalchemy.orm import Mapped, mapped_column

from server.models.base import Base, Identified

FLAGS = ("distorted", "unsafe", "off-prompt")
OWN_PROMPTS = "own"


class Project(Identified, Base):
    """mode: pairwise (two images), best (best of N), ranking (all N in order) or good_bad (each image by itself).

    `sampling` and `training` hold the SamplingParams and TrainingParams of rounds that do not say otherwise; what is missing
    there is the default. `flags`: the words about single images that the voting page offers. `blur`: images are blurred until
    somebody wants to see them, unless a safety score says otherwise of one. `prompts`: a prompt set of its own, each prompt with
    its weight, named OWN_PROMPTS in `prompt_set`.
    """

    __tablename__ = "projects"
    name: Mapped[str] = mapped_column(String(80), unique=True)
    base_model: Mapped[str] = mapped_column(String(80))
    mode: Mapped[str] = mapped_column(String(20))
    guideline: Mapped[str] = mapped_column(Text, default="")
    prompt_set: Mapped[str] = mapped_column(String(80), default="demo")
    prompts: Mapped[dict[str, float]] = mapped_column(default=dict, deferred=True)  # up to megabytes, and rarely wanted
    votes_per_task: Mapped[int] = mapped_column(default=1)
    sampling: Mapped[dict[str, Any]]
    training: Mapped[dict[str, Any]] = mapped_column(default=dict)
    flags: Mapped[list[str]] = mapped_column(default=lambda: list(FLAGS))
    blur: Mapped[bool] = mapped_column(default=False)
