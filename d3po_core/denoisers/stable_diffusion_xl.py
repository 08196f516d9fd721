"""Stable Diffusion XL: two text encoders, a pooled embedding and the image's size beside the prompt; DDIM as for 1.x."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor

from d3po_core.conditioning import Conditioning
from d3po_core.denoisers.stable_diffusion import StableDiffusionDenoiser
from d3po_core.params import ChainParams


class StableDiffusionXLDenoiser(StableDiffusionDenoiser):
    """The VAE runs in float32 where its configuration says that float16 overflows (force_upcast)."""

    def __init__(self, pipeline: Any, model: str) -> None:
        super().__init__(pipeline, model)
        if pipeline.vae.dtype == torch.float16 and pipeline.vae.config.force_upcast:
            pipeline.vae.float()

    @torch.no_grad()
    def encode(self, prompt: str, params: ChainParams) -> Conditioning:
        """The empty prompt is zeros where the pipeline forces it (force_zeros_for_empty_prompt), pooled as well."""
        embeds, negative, pooled, negative_pooled = self.pipeline.encode_prompt(prompt, device=self.device)
        size = self.size(params)
        time_ids = torch.tensor([*size, 0, 0, *size], dtype=embeds.dtype, device=self.device)
        return Conditioning(embeds[0], negative[0], pooled[0], negative_pooled[0], time_ids)

    def output(self, latents: Tensor, timesteps: Tensor, conditioning: Conditioning) -> Tensor:
        added = {"text_embeds": conditioning.pooled_prompt_embeds, "time_ids": conditioning.time_ids}
        embeds = conditioning.prompt_embeds
        return self.network(latents, timesteps, encoder_hidden_states=embeds, added_cond_kwargs=added).sample

    def unscaled(self, latents: Tensor) -> Tensor:
        config = self.pipeline.vae.config
        if config.latents_mean is None or config.latents_std is None:
            return super().unscaled(latents)
        mean, std = (latents.new_tensor(values).view(1, -1, 1, 1) for values in (config.latents_mean, config.latents_std))
        return latents * std / config.scaling_factor + mean
