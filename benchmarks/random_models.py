"""Pipelines with the shapes of Stable Diffusion 1.5 and XL and random weights, made where they run; nothing is downloaded."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import Any

import torch
from diffusers import (
    AutoencoderKL,
    DDIMScheduler,
    EulerDiscreteScheduler,
    StableDiffusionPipeline,
    StableDiffusionXLPipeline,
    UNet2DConditionModel,
)
from transformers import CLIPTextConfig, CLIPTextModel, CLIPTextModelWithProjection, CLIPTokenizer

SCHEDULE = {"beta_start": 0.00085, "beta_end": 0.012, "beta_schedule": "scaled_linear", "steps_offset": 1}
LETTERS = "abcdefghijklmnopqrstuvwxyz"
VAE_LEVELS = (128, 256, 512, 512)


@dataclass(frozen=True)
class Shape:
    """unet, vae: what their configurations change; text: (width, layers, heads) of each text encoder.

    prompts: groups of `images` sampled at once; trained: images of a group whose activations fit 80 GB in training.
    """

    name: str
    unet: dict[str, Any]
    vae_levels: tuple[int, ...]
    text: tuple[tuple[int, int, int], ...]
    vocabulary: int
    prompts: int
    images: int
    trained: int


SD15 = Shape(
    name="SD 1.5",
    unet={"sample_size": 64, "cross_attention_dim": 768, "attention_head_dim": 8},
    vae_levels=VAE_LEVELS, text=((768, 12, 12),), vocabulary=49408, prompts=4, images=7, trained=7,
)  # fmt: skip
SDXL = Shape(
    name="SDXL",
    unet={
        "sample_size": 128, "block_out_channels": (320, 640, 1280), "attention_head_dim": (5, 10, 20),
        "cross_attention_dim": 2048,
        "down_block_types": ("DownBlock2D", "CrossAttnDownBlock2D", "CrossAttnDownBlock2D"),
        "up_block_types": ("CrossAttnUpBlock2D", "CrossAttnUpBlock2D", "UpBlock2D"),
        "transformer_layers_per_block": (1, 2, 10), "use_linear_projection": True, "addition_embed_type": "text_time",
        "addition_time_embed_dim": 256, "projection_class_embeddings_input_dim": 6 * 256 + 1280,
    },
    vae_levels=VAE_LEVELS, text=((768, 12, 12), (1280, 32, 20)), vocabulary=49408, prompts=1, images=7, trained=4,
)  # fmt: skip


def tiny(shape: Shape) -> Shape:
    """The same architecture, small enough for a test on a CPU."""
    levels = len(shape.unet.get("block_out_channels", VAE_LEVELS))
    text = tuple((16, 2, 2) for _ in shape.text)
    unet = {
        **shape.unet, "sample_size": 8, "cross_attention_dim": 16 * len(text), "attention_head_dim": 2, "norm_num_groups": 4,
        "block_out_channels": (8,) * levels,
    }  # fmt: skip
    if len(text) == 2:
        unet |= {"addition_time_embed_dim": 8, "projection_class_embeddings_input_dim": 6 * 8 + 16}
    return replace(shape, unet=unet, vae_levels=(8, 8, 8, 8), text=text, vocabulary=64, prompts=1, images=3, trained=2)


def random_pipeline(shape: Shape, device: str, dtype: torch.dtype) -> Any:
    """The pipeline of `shape` on `device`, in `dtype`, with weights as an untrained model has them."""
    torch.manual_seed(0)
    words = _tokenizer()
    with torch.device(device):
        encoders = [_text_encoder(shape, number).to(dtype) for number in range(len(shape.text))]
        parts = {"unet": UNet2DConditionModel(**shape.unet).to(dtype), "vae": _vae(shape.vae_levels).to(dtype)}
    if len(encoders) == 1:
        return StableDiffusionPipeline(
            **parts, text_encoder=encoders[0], tokenizer=words, scheduler=DDIMScheduler(**SCHEDULE, clip_sample=False),
            safety_checker=None, feature_extractor=None, requires_safety_checker=False,
        )  # fmt: skip
    return StableDiffusionXLPipeline(
        **parts, text_encoder=encoders[0], text_encoder_2=encoders[1], tokenizer=words, tokenizer_2=words,
        scheduler=EulerDiscreteScheduler(**SCHEDULE), add_watermarker=False,
    )  # fmt: skip


def _tokenizer() -> CLIPTokenizer:
    """Spells every word: what a prompt says costs nothing and changes no shape."""
    tokens = ["<|startoftext|>", "<|endoftext|>", *LETTERS, *(f"{letter}</w>" for letter in LETTERS)]
    return CLIPTokenizer(vocab={token: number for number, token in enumerate(tokens)}, merges=[], model_max_length=77)


def _text_encoder(shape: Shape, number: int) -> CLIPTextModel | CLIPTextModelWithProjection:
    width, layers, heads = shape.text[number]
    config = CLIPTextConfig(
        vocab_size=shape.vocabulary, hidden_size=width, intermediate_size=4 * width, num_hidden_layers=layers,
        num_attention_heads=heads, projection_dim=width, bos_token_id=0, eos_token_id=1, pad_token_id=1,
    )  # fmt: skip
    return (CLIPTextModelWithProjection if number == 1 else CLIPTextModel)(config)


def _vae(levels: tuple[int, ...]) -> AutoencoderKL:
    return AutoencoderKL(
        block_out_channels=levels, latent_channels=4, layers_per_block=2, norm_num_groups=min(32, levels[0] // 2),
        down_block_types=("DownEncoderBlock2D",) * len(levels), up_block_types=("UpDecoderBlock2D",) * len(levels),
    )  # fmt: skip
