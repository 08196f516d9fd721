"""One pipeline a model family, with random weights and small enough to train in a test. Needs torch; import inside a test."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import torch
from diffusers import (
    AutoencoderKL,
    DDIMScheduler,
    DiffusionPipeline,
    EulerDiscreteScheduler,
    FlowMatchEulerDiscreteScheduler,
    FluxPipeline,
    FluxTransformer2DModel,
    SD3Transformer2DModel,
    StableDiffusion3Pipeline,
    StableDiffusionPipeline,
    StableDiffusionXLPipeline,
    UNet2DConditionModel,
)
from transformers import CLIPTextConfig, CLIPTextModelWithProjection, T5Config, T5EncoderModel, T5Tokenizer

from tests.factories.tiny_pipeline import LENGTH, WIDTH, text_encoder, tokenizer, vae

FAMILIES = ("stable-diffusion-2", "stable-diffusion-xl", "stable-diffusion-3", "flux-dev", "flux-schnell")


def tiny_family(family: str, folder: Path) -> Path:
    """Write the pipeline of `family` into `folder`: its own size is 32x32 pixels (FLUX: 512x512, fixed by the pipeline)."""
    torch.manual_seed(0)
    make: dict[str, Any] = {
        "stable-diffusion-2": _stable_diffusion_2,
        "stable-diffusion-xl": _stable_diffusion_xl,
        "stable-diffusion-3": _stable_diffusion_3,
        "flux-dev": lambda: _flux(guidance_embeds=True),
        "flux-schnell": lambda: _flux(guidance_embeds=False),
    }
    pipeline: DiffusionPipeline = make[family]()
    pipeline.save_pretrained(folder)
    return folder


def _stable_diffusion_2() -> StableDiffusionPipeline:
    """v-prediction with zero terminal SNR, as the fixed 2.1 models."""
    return StableDiffusionPipeline(
        vae=vae(), text_encoder=text_encoder(), tokenizer=tokenizer(), unet=_unet(use_linear_projection=True),
        scheduler=DDIMScheduler(
            beta_start=0.00085, beta_end=0.012, beta_schedule="scaled_linear", prediction_type="v_prediction",
            rescale_betas_zero_snr=True, timestep_spacing="trailing", clip_sample=False, set_alpha_to_one=False, steps_offset=1,
        ),
        safety_checker=None, feature_extractor=None, requires_safety_checker=False,
    )  # fmt: skip


def _stable_diffusion_xl() -> StableDiffusionXLPipeline:
    return StableDiffusionXLPipeline(
        vae=vae(force_upcast=True), text_encoder=text_encoder(), text_encoder_2=_projecting(), tokenizer=tokenizer(),
        tokenizer_2=tokenizer(), add_watermarker=False,
        unet=_unet(
            cross_attention_dim=2 * WIDTH, addition_embed_type="text_time", addition_time_embed_dim=8,
            projection_class_embeddings_input_dim=6 * 8 + WIDTH, use_linear_projection=True,
        ),
        scheduler=EulerDiscreteScheduler(
            beta_start=0.00085, beta_end=0.012, beta_schedule="scaled_linear", timestep_spacing="leading", steps_offset=1
        ),
    )  # fmt: skip


def _stable_diffusion_3() -> StableDiffusion3Pipeline:
    return StableDiffusion3Pipeline(
        vae=_flow_vae(), text_encoder=_projecting(), text_encoder_2=_projecting(), text_encoder_3=_t5(2 * WIDTH),
        tokenizer=tokenizer(), tokenizer_2=tokenizer(), tokenizer_3=_t5_tokenizer(),
        transformer=SD3Transformer2DModel(
            sample_size=8, patch_size=2, in_channels=4, out_channels=4, num_layers=1, attention_head_dim=8, num_attention_heads=2,
            joint_attention_dim=2 * WIDTH, caption_projection_dim=WIDTH, pooled_projection_dim=2 * WIDTH, pos_embed_max_size=16,
        ),
        scheduler=FlowMatchEulerDiscreteScheduler(shift=3.0),
    )  # fmt: skip


def _flux(guidance_embeds: bool) -> FluxPipeline:
    """dev shifts its noise levels by the image's size, schnell not at all."""
    return FluxPipeline(
        vae=_flow_vae(), text_encoder=text_encoder(), text_encoder_2=_t5(WIDTH), tokenizer=tokenizer(),
        tokenizer_2=_t5_tokenizer(),
        transformer=FluxTransformer2DModel(
            patch_size=1, in_channels=16, num_layers=1, num_single_layers=1, attention_head_dim=8, num_attention_heads=2,
            joint_attention_dim=WIDTH, pooled_projection_dim=WIDTH, axes_dims_rope=(2, 2, 4), guidance_embeds=guidance_embeds,
        ),
        scheduler=FlowMatchEulerDiscreteScheduler(shift=3.0 if guidance_embeds else 1.0, use_dynamic_shifting=guidance_embeds),
    )  # fmt: skip


def _unet(**options: Any) -> UNet2DConditionModel:
    shape = {
        "sample_size": 8, "in_channels": 4, "out_channels": 4, "block_out_channels": (WIDTH,), "layers_per_block": 1,
        "norm_num_groups": 4, "down_block_types": ("CrossAttnDownBlock2D",), "up_block_types": ("CrossAttnUpBlock2D",),
        "cross_attention_dim": WIDTH, "attention_head_dim": 2,
    }  # fmt: skip
    return UNet2DConditionModel(**{**shape, **options})


def _flow_vae() -> AutoencoderKL:
    return vae(shift_factor=0.06, scaling_factor=1.5, use_quant_conv=False, use_post_quant_conv=False)


def _projecting() -> CLIPTextModelWithProjection:
    return CLIPTextModelWithProjection(
        CLIPTextConfig(
            vocab_size=len(tokenizer()), hidden_size=WIDTH, intermediate_size=2 * WIDTH, num_hidden_layers=2,
            num_attention_heads=2, max_position_embeddings=LENGTH, projection_dim=WIDTH, bos_token_id=0, eos_token_id=1,
            pad_token_id=1,
        )
    )  # fmt: skip


def _t5(width: int) -> T5EncoderModel:
    return T5EncoderModel(T5Config(vocab_size=40, d_model=width, d_kv=8, d_ff=width, num_layers=1, num_heads=2))


def _t5_tokenizer() -> T5Tokenizer:
    pieces = ["<pad>", "</s>", "<unk>", "▁", *"abcdefghijklmnopqrstuvwxyz"]
    return T5Tokenizer(vocab=[(piece, -float(number)) for number, piece in enumerate(pieces)], extra_ids=0)
