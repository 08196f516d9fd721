"""The JSON that goes over the wire. Ids are strings, times are UTC ISO 8601, "base" is the base model."""

from __future__ import annotations

from datetime import datetime
from typing import Annotated, Any, Generic, Literal, TypeVar

from fastapi import Query
from pydantic import BaseModel, ConfigDict, Field

from server.domain import checkpoints
from server.domain.duels import DuelResult
from server.domain.estimates import Estimate
from server.domain.leasing import LeasedTask
from server.domain.rounds import Progress
from server.domain.scores import Mean, Scored
from server.domain.studies import StudyResult
from server.models import Checkpoint, Image, Project, Round

Item = TypeVar("Item")
Limit = Annotated[int, Query(ge=1, le=200)]
After = Annotated[str | None, Query(description="The `next` of the page before.")]
ID = "019ab3c7f0a21b2c3d4e5f60718293a4"
TIME = "2026-01-31T12:00:00Z"


def example(value: dict[str, Any]) -> ConfigDict:
    return ConfigDict(json_schema_extra={"examples": [value]})


class Problem(BaseModel):
    """Every error has this shape; `detail` is a sentence for a person."""

    model_config = example({"error": "not_found", "detail": "There is no such project."})
    error: str
    detail: str


class Page(BaseModel, Generic[Item]):
    """A part of a list; `next` is the `after` of the following part, null at the end."""

    items: list[Item]
    next: str | None


class ProjectOut(BaseModel):
    model_config = example(
        {"id": ID, "name": "Emoji", "base_model": "demo", "mode": "best", "guideline": "", "prompt_set": "demo",
         "votes_per_task": 1, "flags": ["distorted", "unsafe", "off-prompt"], "blur": False,
         "sampling": {"images_per_prompt": 6, "num_inference_steps": 20, "guidance_scale": 5.0, "eta": 1.0, "seed": 0},
         "training": {"learning_rate": 1e-3, "adam_epsilon": 1e-4, "lora_rank": 64, "max_kl": 4e-3},
         "checkpoint_id": "base", "created_at": TIME}
    )  # fmt: skip
    id: str
    name: str
    base_model: str
    mode: str
    guideline: str
    prompt_set: str = Field(description='What rounds draw prompts from; "own" is a set of the project\'s own.')
    votes_per_task: int
    flags: list[str] = Field(description="Words about single images that people are offered while they vote.")
    blur: bool = Field(description="Images are blurred until somebody wants to see them; a safety score decides for its image.")
    sampling: dict[str, Any] = Field(description="Of rounds that do not say otherwise.")
    training: dict[str, Any] = Field(description="Of rounds that do not say otherwise; what is left out is the default.")
    checkpoint_id: str = Field(description='The policy that the next sample round uses; "base" is the base model.')
    created_at: datetime

    @classmethod
    def of(cls, project: Project, current: Checkpoint | None) -> ProjectOut:
        fields = {name: getattr(project, name) for name in cls.model_fields if name != "checkpoint_id"}
        return cls(**fields, checkpoint_id=current.id if current else checkpoints.BASE)


class RoundOut(BaseModel):
    model_config = example(
        {"id": ID, "project_id": ID, "number": 3, "kind": "sample", "state": "running", "message": "",
         "params": {"images_per_prompt": 6, "num_inference_steps": 20, "guidance_scale": 5, "eta": 1, "seed": 7, "prompts": 12},
         "checkpoint_id": "base", "opponent_id": None,
         "progress": {"done": 4, "total": 12, "unit": "groups", "seconds_left": 31.5, "workers": ["gpu1:4711"], "silent": False},
         "result": None, "scored": None, "auto_id": None, "created_at": TIME, "started_at": TIME, "finished_at": None}
    )  # fmt: skip
    id: str
    project_id: str
    number: int
    kind: Literal["sample", "training", "duel", "study", "reward", "evaluation", "auto"]
    state: Literal["queued", "running", "done", "failed", "cancelled"]
    message: str = Field(
        description="Where the round failed or was cancelled: what happened, what was kept, what to do. How an auto round ended."
    )
    params: dict[str, Any]
    checkpoint_id: str = Field(
        description="Who draws (sample, evaluation), who is trained further (training), side a (duel), who drew what is scored "
        "(reward), where it begins (auto). A study's are in params."
    )
    opponent_id: str | None = Field(description="Side b of a duel; null for other rounds.")
    progress: ProgressOut
    result: DuelOut | StudyResult | None = Field(description="What the votes of a duel or study say so far; null for others.")
    scored: ScoredOut | None = Field(description="What a reward round found so far, where it is read by itself; else null.")
    auto_id: str | None = Field(description="The auto round that launched it.")
    created_at: datetime
    started_at: datetime | None
    finished_at: datetime | None

    @classmethod
    def of(
        cls, round_: Round, progress: Progress, result: DuelResult | StudyResult | None = None, scored: ScoredOut | None = None
    ) -> RoundOut:
        derived = {"checkpoint_id", "opponent_id", "progress", "result", "scored"}
        return cls(
            **{name: getattr(round_, name) for name in cls.model_fields.keys() - derived},
            checkpoint_id=round_.checkpoint_id or checkpoints.BASE,
            opponent_id=round_.opponent_id or checkpoints.BASE if round_.kind == "duel" else None,
            progress=ProgressOut.model_validate(progress),
            result=DuelOut.model_validate(result) if isinstance(result, DuelResult) else result,
            scored=scored,
        )


class ProgressOut(BaseModel):
    model_config = ConfigDict(from_attributes=True)
    done: int
    total: int
    unit: str
    seconds_left: float | None
    workers: list[str] = Field(description="Which run its jobs now, as host:process.")
    silent: bool = Field(description="None of them was heard of within its lease; the next worker takes over.")


class MeanOut(BaseModel):
    """Of one reward over all images of a round; low..high is the 95 % interval, null with a single group."""

    reward: str
    mean: float
    low: float | None
    high: float | None


class ScoredOut(BaseModel):
    model_config = example(
        {"groups": 12, "without_pairs": 1, "means": [{"reward": "colourfulness", "mean": 42.1, "low": 40.3, "high": 43.9}]}
    )
    groups: int = Field(description="Scored and voted on so far.")
    without_pairs: int = Field(description="How many of them rank no image above another.")
    means: list[MeanOut]

    @classmethod
    def of(cls, scored: Scored, means: dict[str, Mean]) -> ScoredOut:
        told = [MeanOut(reward=name, mean=one.mean, low=one.low, high=one.high) for name, one in means.items()]
        return cls(groups=scored.groups, without_pairs=scored.without_pairs, means=told)


class EstimateOut(BaseModel):
    model_config = example({"seconds": 41.5, "disk_bytes": 120e6, "memory_bytes": 1_200_000_000, "judged_by": 3})
    seconds: float | None = Field(description="Of work, by one worker.")
    disk_bytes: float | None
    memory_bytes: int | None = Field(description="What the measured round took at most: of the GPU, or on a CPU of the process.")
    judged_by: int | None = Field(description="The number of the round that was measured; null before the first one is done.")

    @classmethod
    def of(cls, estimate: Estimate | None) -> EstimateOut:
        return cls(**{name: getattr(estimate, name, None) for name in cls.model_fields})


class DuelOut(BaseModel):
    """wins are comparisons that checkpoint_id won, each by most of its votes; win_rate = wins / (wins + losses) with its 95 %
    interval by Wilson."""

    model_config = ConfigDict(from_attributes=True)
    wins: int
    losses: int
    ties: int
    skipped: int
    waiting: int
    win_rate: float | None
    low: float
    high: float


class ImageOut(BaseModel):
    id: str
    url: str
    width: int
    height: int
    blur: bool = Field(description="Show it blurred until the person wants to see it.")

    @classmethod
    def of(cls, image: Image, blur: bool) -> ImageOut:
        url = f"/api/v1/images/{image.id}.webp"
        return cls(id=image.id, url=url, width=image.width, height=image.height, blur=blur)


class TaskOut(BaseModel):
    model_config = example(
        {"task_id": ID, "prompt": "a red apple", "mode": "best", "lease_expires_at": TIME,
         "images": [{"id": ID, "url": f"/api/v1/images/{ID}.webp", "width": 64, "height": 64, "blur": False}]}
    )  # fmt: skip
    task_id: str
    prompt: str
    mode: str = Field(
        description="How people are asked: best, pairwise, ranking, or good_bad, whose votes are rated: 1 for good, 0 for bad."
    )
    images: list[ImageOut] = Field(description="In the order to show them in, which is recorded with the vote.")
    lease_expires_at: datetime

    @classmethod
    def of(cls, leased: LeasedTask) -> TaskOut:
        images = [ImageOut.of(image, image.id in leased.blurred) for image in leased.images]
        return cls(
            task_id=leased.task_id,
            prompt=leased.prompt,
            mode=leased.mode,
            images=images,
            lease_expires_at=leased.lease_expires_at,
        )


class ReceiptOut(BaseModel):
    model_config = example({"vote_id": "0b8f7c0e-5d0e-4c51-9a53-3e3f1a1f7a10", "counted": True, "surplus": False})
    vote_id: str
    counted: bool = Field(description="The vote fills one of the slots of its task.")
    surplus: bool = Field(description="The vote came too late or beyond the wanted ones: kept, not counted, not trained on.")


class RetractionOut(BaseModel):
    model_config = example({"vote_id": "0b8f7c0e-5d0e-4c51-9a53-3e3f1a1f7a10", "task": None})
    vote_id: str
    task: TaskOut | None = Field(description="The task, leased again; null where somebody else's vote fills the slot by now.")


class InvitationOut(BaseModel):
    model_config = ConfigDict(
        from_attributes=True,
        json_schema_extra={"examples": [{"id": ID, "role": "annotator", "by": "Alice", "created_at": TIME, "expires_at": TIME}]},
    )
    id: str
    role: str
    by: str = Field(description="Who made it; once they may not invite any more, it opens nothing.")
    created_at: datetime
    expires_at: datetime | None


class NewInvitationOut(BaseModel):
    model_config = example({"link": "https://d3po.example/join/SECRET"})
    link: str


class CheckpointOut(BaseModel):
    model_config = example(
        {"id": ID, "project_id": ID, "round_id": ID, "number": 2, "parent_id": ID, "current": True, "promoted_at": TIME,
         "created_at": TIME, "manifest": {"votes_hash": "9f86d081"}}
    )  # fmt: skip
    id: str
    project_id: str
    round_id: str
    number: int
    parent_id: str = Field(description='The checkpoint it was trained from; "base" is the base model.')
    current: bool = Field(description="Whether the next sample round uses it.")
    promoted_at: datetime | None
    created_at: datetime
    manifest: dict[str, Any]

    @classmethod
    def of(cls, checkpoint: Checkpoint, current: Checkpoint | None) -> CheckpointOut:
        names = ("id", "project_id", "round_id", "number", "promoted_at", "created_at", "manifest")
        parent_id = checkpoint.parent_id or checkpoints.BASE
        is_current = current is not None and current.id == checkpoint.id
        return cls(**{name: getattr(checkpoint, name) for name in names}, parent_id=parent_id, current=is_current)


class CheckpointDetail(CheckpointOut):
    ancestors: list[str] = Field(description="Ids of the checkpoints it descends from, oldest first.")
    votes_by_person: dict[str, int] = Field(description="How many votes of each person its training round learned from.")
