"""What each reward can be told. No torch, so that the server can validate it."""

from __future__ import annotations

from typing import Annotated

from pydantic import AfterValidator, Field, HttpUrl, TypeAdapter

from d3po_core.params import Params


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
