"""What each reward can be told, and how several combine. No torch, so that the server can validate it."""

from __future__ import annotations

import hashlib
import json
from typing import Annotated, Any, Literal, Self

from pydantic import AfterValidator, Field, HttpUrl, TypeAdapter, model_validator

from d3po_core.params import Params

MAX_REWARDS = 8
MAX_KEY = 300


def _address(url: str) -> str:
    """An http or https address with a host. A password in it would end up in messages and logs."""
    parsed = TypeAdapter(HttpUrl).validate_python(url)
    if parsed.username or parsed.password:
        raise ValueError("an address carries no user name and no password")
    return url


class NoParams(Params):
    """Nothing to choose."""


class ClipParams(Params):
    model: str = Field(min_length=1, description="Folder or hub id of a transformers CLIPModel with its tokenizer.")


class PickScoreParams(Params):
    model: str = Field(min_length=1, description="Folder or hub id of PickScore's CLIPModel.")
    tokenizer: str | None = Field(default=None, description="Folder or hub id of CLIP-H's tokenizer; null: beside the model.")


class AestheticParams(Params):
    model: str = Field(min_length=1, description="Folder or hub id of the CLIPModel ViT-L/14.")
    head: str | None = Field(
        default=None, description="File of the linear head; null: sac+logos+ava1-l14-linearMSE.pth in the model's folder."
    )


class ImageRewardParams(Params):
    model: str = Field(min_length=1, description="Folder or hub id that holds ImageReward.pt and med_config.json.")
    tokenizer: str | None = Field(default=None, description="Folder or hub id of bert-base-uncased's tokenizer; null: the same.")


class HttpParams(Params):
    url: Annotated[str, AfterValidator(_address)] = Field(description="Where images and prompts are posted.")
    timeout: float = Field(default=60.0, gt=0.0, le=3600.0, description="Seconds that a batch may take.")
    attempts: int = Field(default=4, ge=1, le=20, description="Tries of a batch before the reward fails.")
    pause: float = Field(
        default=1.0, ge=0.0, le=60.0, description="Seconds before the second try; doubled before each further one."
    )


class ChosenReward(Params):
    """One reward among those that vote together."""

    name: str = Field(min_length=1, max_length=80)
    parameters: dict[str, Any] = Field(default={}, description="What it is loaded with.")
    weight: float | None = Field(default=None, description="Of its score in a weighted sum; null where rewards do not add up.")

    @property
    def key(self) -> str:
        """Under what its scores are kept: its name, and its parameters where it has any; at most MAX_KEY characters."""
        if not self.parameters:
            return self.name
        told = json.dumps(self.parameters, sort_keys=True, separators=(",", ":"))
        key = f"{self.name} {told}"
        return key if len(key) <= MAX_KEY else f"{self.name} {hashlib.sha256(told.encode()).hexdigest()}"


class RewardParams(Params):
    """What a machine annotator votes by: one reward, or several that combine by Pareto dominance or by a weighted sum."""

    rewards: list[ChosenReward] = Field(min_length=1, max_length=MAX_REWARDS)
    combine: Literal["pareto", "weighted"] = Field(
        default="pareto",
        description="pareto: an image beats another if it is at least as good by each reward and better by one. weighted: by the "
        "sum of weight times score.",
    )

    @property
    def weights(self) -> list[float] | None:
        """As `rated` takes them: None for Pareto dominance."""
        given = [chosen.weight for chosen in self.rewards if chosen.weight is not None]
        return given if self.combine == "weighted" else None

    @model_validator(mode="after")
    def _fits(self) -> Self:
        if len({chosen.name for chosen in self.rewards}) < len(self.rewards):
            raise ValueError("names a reward twice; each counts once")
        weightless = [chosen.name for chosen in self.rewards if chosen.weight is None]
        if self.combine == "weighted" and weightless:
            raise ValueError(f"adds rewards up by their weights, and {', '.join(weightless)} has none; give each a weight")
        if self.combine == "pareto" and len(weightless) < len(self.rewards):
            raise ValueError("has weights, and Pareto dominance knows none; combine the rewards as weighted, or leave them out")
        return self
