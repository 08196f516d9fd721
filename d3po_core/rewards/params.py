"""What each reward can be told. No torch, so that the server can validate it."""

from __future__ import annotations

from pydantic import Field

from d3po_core.params import Params


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
