"""ImageReward (Xu et al. 2023, arXiv 2304.05977): BLIP reads the prompt while it looks at the image; a head scores what it read.

The published file is loaded into transformers' BLIP, whose names differ; its own package is not needed.
"""

from __future__ import annotations

import json
import math
from typing import Any

import torch
from PIL import Image
from torch import Tensor, nn
from transformers import BertTokenizer, BlipTextConfig, BlipTextModel, BlipVisionConfig, BlipVisionModel

from d3po_core.errors import ModelMissing
from d3po_core.rewards import weights
from d3po_core.rewards.base import Scorer
from d3po_core.rewards.clip import resized
from d3po_core.rewards.head import Head

NAME = "image_reward"
WEIGHTS, TEXT_CONFIG = "ImageReward.pt", "med_config.json"
MEAN, STD = 0.16717362830052426, 1.0333394966054072  # of the raw scores, as published
MAX_TOKENS = 35
HEAD_WIDTH = 64  # of one attention head, in BLIP's base and large vision transformers
ADDED_TOKENS = 2  # BLIP's [DEC] and [ENC], which no prompt contains

VISION_NAMES = (
    ("cls_token", "embeddings.class_embedding"),
    ("pos_embed", "embeddings.position_embedding"),
    ("patch_embed.proj.", "embeddings.patch_embedding."),
    ("blocks.", "encoder.layers."),
    (".attn.proj.", ".self_attn.projection."),
    (".attn.", ".self_attn."),
    (".norm1.", ".layer_norm1."),
    (".norm2.", ".layer_norm2."),
)
"""BLIP's names of a vision transformer's weights -> transformers'."""


def scorer(device: str, model: str, tokenizer: str | None) -> Scorer:
    network = ImageReward(model, tokenizer or model).to(device)
    return network.score


class ImageReward(nn.Module):
    """Raises ModelMissing if the weights, their text configuration or the tokenizer are not there or not ImageReward's."""

    def __init__(self, model: str, tokenizer: str) -> None:
        super().__init__()
        path = weights.fetched(model, WEIGHTS, NAME)
        state = weights.state_dict(path, NAME)
        vision, text, head = (_part(state, prefix) for prefix in ("blip.visual_encoder.", "blip.text_encoder.", "mlp."))
        text.pop("embeddings.position_ids", None)
        try:
            sizes = json.loads(weights.fetched(model, TEXT_CONFIG, NAME).read_text(encoding="utf-8"))
            self.vision = BlipVisionModel(_vision_config(vision))
            self.text = BlipTextModel(_text_config(sizes, self.vision.config.hidden_size), add_pooling_layer=False)
        except (KeyError, TypeError, ValueError, ZeroDivisionError) as error:
            raise ModelMissing(f"{path} or its {TEXT_CONFIG} does not describe ImageReward's network: {error!r}.") from error
        self.head = Head(self.text.config.hidden_size)
        weights.fill(self.vision, {_renamed(name): value for name, value in vision.items()}, path, NAME)
        weights.fill(self.text, text, path, NAME)
        weights.fill(self.head, head, path, NAME)
        self.tokenizer = weights.tokenizer(BertTokenizer, tokenizer, NAME)
        known, needed = len(self.tokenizer), self.text.config.vocab_size
        if not needed - ADDED_TOKENS <= known <= needed:
            raise ModelMissing(f"The reward {NAME} needs bert-base-uncased's tokenizer; that of {tokenizer} has {known} tokens.")

    @torch.inference_mode()
    def score(self, images: list[Image.Image], prompts: list[str]) -> list[float]:
        """(raw - mean) / std of each image under its prompt, cut to 35 tokens; about -2..2."""
        device = self.text.device
        seen = self.vision(pixel_values=resized(images, self.vision.config.image_size).to(device)).last_hidden_state
        tokens = self.tokenizer(prompts, padding=True, truncation=True, max_length=MAX_TOKENS, return_tensors="pt").to(device)
        read = self.text(
            input_ids=tokens["input_ids"], attention_mask=tokens["attention_mask"], encoder_hidden_states=seen, is_decoder=False
        )
        return ((self.head(read.last_hidden_state[:, 0]) - MEAN) / STD).tolist()


def _part(state: dict[str, Tensor], prefix: str) -> dict[str, Tensor]:
    return {name.removeprefix(prefix): value for name, value in state.items() if name.startswith(prefix)}


def _renamed(name: str) -> str:
    for ours, theirs in VISION_NAMES:
        name = name.replace(ours, theirs)
    return f"post_layernorm.{name.removeprefix('norm.')}" if name.startswith("norm.") else name


def _vision_config(state: dict[str, Tensor]) -> BlipVisionConfig:
    """The sizes that the weights have: published, ViT-L/16 of 224 pixels."""
    width, _, patch, _ = state["patch_embed.proj.weight"].shape
    grid = math.isqrt(state["pos_embed"].shape[1] - 1)
    return BlipVisionConfig(
        hidden_size=width, intermediate_size=state["blocks.0.mlp.fc1.weight"].shape[0], num_attention_heads=width // HEAD_WIDTH,
        num_hidden_layers=len({name.split(".")[1] for name in state if name.startswith("blocks.")}), patch_size=patch,
        image_size=grid * patch, layer_norm_eps=1e-6,
    )  # fmt: skip


def _text_config(sizes: dict[str, Any], vision_width: int) -> BlipTextConfig:
    """BERT with cross-attention; transformers' own defaults (8 heads) are not the published ones (12)."""
    names = (
        "vocab_size", "hidden_size", "intermediate_size", "num_hidden_layers", "num_attention_heads", "max_position_embeddings",
        "hidden_act", "layer_norm_eps",
    )  # fmt: skip
    given = {name: sizes[name] for name in names}
    return BlipTextConfig(encoder_hidden_size=vision_width, is_decoder=True, bos_token_id=None, sep_token_id=None, **given)
