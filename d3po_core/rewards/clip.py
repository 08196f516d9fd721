"""Rewards on CLIP's embeddings: CLIP score, PickScore and the LAION aesthetic score."""

from __future__ import annotations

from pathlib import Path

import torch
import torch.nn.functional as F
from PIL import Image
from torch import Tensor
from transformers import CLIPImageProcessorPil, CLIPModel, CLIPTokenizer

from d3po_core.errors import ModelMissing
from d3po_core.rewards import weights
from d3po_core.rewards.base import Scorer
from d3po_core.rewards.head import Head

AESTHETIC_HEAD = "sac+logos+ava1-l14-linearMSE.pth"
"""The name under which the head is published (christophschuhmann/improved-aesthetic-predictor)."""


def resized(images: list[Image.Image], size: int) -> Tensor:
    """CLIP's and BLIP's view of images: the short side scaled to `size` (bicubic), the middle, normalised. [B,3,size,size]"""
    processor = CLIPImageProcessorPil(size={"shortest_edge": size}, crop_size={"height": size, "width": size})
    return processor(images=images, return_tensors="pt")["pixel_values"]


class Clip:
    """A CLIP of any size: embeddings of unit length."""

    def __init__(self, reward: str, model: str, device: str) -> None:
        self.network = weights.network(CLIPModel, model, reward).to(device)
        self.device = device

    @torch.inference_mode()
    def images(self, images: list[Image.Image]) -> Tensor:
        """Float32 [B,D]."""
        pixels = resized(images, self.network.config.vision_config.image_size).to(self.device)
        return F.normalize(self.network.get_image_features(pixel_values=pixels).pooler_output, dim=-1)


class ClipWithWords(Clip):
    """The same, with its tokenizer. Prompts are cut to the model's length."""

    def __init__(self, reward: str, model: str, tokenizer: str, device: str) -> None:
        super().__init__(reward, model, device)
        self.tokenizer = weights.tokenizer(CLIPTokenizer, tokenizer, reward)
        known, needed = len(self.tokenizer), self.network.config.text_config.vocab_size
        if known != needed:  # a folder without a vocabulary gives a tokenizer of two tokens
            raise ModelMissing(f"The reward {reward} needs a tokenizer of {needed} tokens; that of {tokenizer} has {known}.")

    @torch.inference_mode()
    def texts(self, prompts: list[str]) -> Tensor:
        """Float32 [B,D]."""
        length = self.network.config.text_config.max_position_embeddings
        tokens = self.tokenizer(prompts, padding=True, truncation=True, max_length=length, return_tensors="pt")
        return F.normalize(self.network.get_text_features(**tokens.to(self.device)).pooler_output, dim=-1)


def clip_score_scorer(device: str, model: str) -> Scorer:
    """Cosine of image and prompt (Radford et al. 2021), -1..1."""
    clip = ClipWithWords("clip_score", model, model, device)

    def score(images: list[Image.Image], prompts: list[str]) -> list[float]:
        return (clip.images(images) * clip.texts(prompts)).sum(dim=1).tolist()

    return score


def pick_score_scorer(device: str, model: str, tokenizer: str | None) -> Scorer:
    """PickScore (Kirstain et al. 2023, arXiv 2305.01569): exp(logit_scale) times the cosine, of a CLIP-H tuned on choices."""
    clip = ClipWithWords("pick_score", model, tokenizer or model, device)

    def score(images: list[Image.Image], prompts: list[str]) -> list[float]:
        cosine = (clip.images(images) * clip.texts(prompts)).sum(dim=1)
        return (clip.network.logit_scale.exp() * cosine).tolist()

    return score


def aesthetic_scorer(device: str, model: str, head: str | None) -> Scorer:
    """LAION's aesthetic predictor V2: a linear head on the unit embedding of CLIP ViT-L/14, about 1..10."""
    clip = Clip("aesthetic", model, device)
    path = Path(head) if head else Path(model) / AESTHETIC_HEAD
    if not path.is_file():
        raise ModelMissing(f"The reward aesthetic needs the head {AESTHETIC_HEAD}; {path} is not there. Name it with head=.")
    predictor = Head(clip.network.config.projection_dim)
    weights.fill(predictor, weights.state_dict(path, "aesthetic"), path, "aesthetic")
    predictor.to(device)

    @torch.inference_mode()
    def score(images: list[Image.Image], prompts: list[str]) -> list[float]:
        return predictor(clip.images(images)).tolist()

    return score
