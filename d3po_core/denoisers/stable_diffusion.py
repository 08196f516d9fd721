"""Stable Diffusion 1.x and 2.x: one text encoder, a U-Net that predicts epsilon or v, DDIM."""

from __future__ import annotations

import math
from typing import Any

import torch
from diffusers import DDIMScheduler
from torch import Tensor

from d3po_core.conditioning import Conditioning
from d3po_core.denoisers.base import Denoiser, with_guidance
from d3po_core.errors import UnsupportedModel
from d3po_core.params import ChainParams
from d3po_core.transitions import DdimTransition


class StableDiffusionDenoiser(Denoiser):
    component = "unet"

    def __init__(self, pipeline: Any, model: str) -> None:
        pipeline.scheduler = as_ddim(pipeline.scheduler)
        super().__init__(pipeline, model)
        if self.module.config.time_cond_proj_dim is not None:
            raise UnsupportedModel("The U-Net embeds the guidance scale (a latent consistency model); only plain ones are known.")

    @property
    def default_size(self) -> tuple[int, int]:
        sample = self.module.config.sample_size
        height, width = (sample, sample) if isinstance(sample, int) else sample
        return height * self.pipeline.vae_scale_factor, width * self.pipeline.vae_scale_factor

    @property
    def size_multiple(self) -> int:
        return math.lcm(8, self.pipeline.vae_scale_factor)

    @property
    def latent_channels(self) -> int:
        return self.module.config.in_channels

    def transition(self, params: ChainParams) -> DdimTransition:
        return DdimTransition(self.pipeline.scheduler, params.num_inference_steps, params.eta)

    @torch.no_grad()
    def encode(self, prompt: str, params: ChainParams) -> Conditioning:
        embeds, negative = self.pipeline.encode_prompt([prompt], self.device, 1, True)
        return Conditioning(embeds[0], negative[0])

    def predict(self, latents: Tensor, timesteps: Tensor, conditioning: Conditioning, guidance_scale: float) -> Tensor:
        return with_guidance(self.output, latents, timesteps, conditioning, guidance_scale)

    def output(self, latents: Tensor, timesteps: Tensor, conditioning: Conditioning) -> Tensor:
        return self.network(latents, timesteps, encoder_hidden_states=conditioning.prompt_embeds).sample


def as_ddim(scheduler: Any) -> DDIMScheduler:
    """The DDIM scheduler of the same noise schedule.

    The predicted image is clipped only where the pipeline's own configuration says so (DDIMScheduler's default says yes,
    and a configuration written by another scheduler is silent). Raises UnsupportedModel for a scheduler of another kind.
    """
    if DDIMScheduler not in scheduler.compatibles:
        raise UnsupportedModel(
            f"The pipeline uses {type(scheduler).__name__}, whose noise schedule DDIMScheduler cannot take over."
        )
    return DDIMScheduler.from_config(scheduler.config, clip_sample=scheduler.config.get("clip_sample", False))
