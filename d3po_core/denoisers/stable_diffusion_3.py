"""Stable Diffusion 3 and 3.5: two CLIP encoders and T5, a transformer that predicts a velocity, classifier-free guidance."""

from __future__ import annotations

import torch
from torch import Tensor

from d3po_core.conditioning import Conditioning
from d3po_core.denoisers.base import with_guidance
from d3po_core.denoisers.flow_matching import FlowMatchingDenoiser
from d3po_core.params import ChainParams


class StableDiffusion3Denoiser(FlowMatchingDenoiser):
    @property
    def patch_size(self) -> int:
        return self.pipeline.patch_size

    @property
    def latent_channels(self) -> int:
        return self.module.config.in_channels

    @torch.no_grad()
    def encode(self, prompt: str, params: ChainParams) -> Conditioning:
        embeds = self.pipeline.encode_prompt(prompt, prompt, prompt, device=self.device)
        return Conditioning(*(tensor[0] for tensor in embeds))

    def predict(self, latents: Tensor, timesteps: Tensor, conditioning: Conditioning, guidance_scale: float) -> Tensor:
        return with_guidance(self.output, latents, timesteps, conditioning, guidance_scale)

    def output(self, latents: Tensor, timesteps: Tensor, conditioning: Conditioning) -> Tensor:
        return self.network(
            hidden_states=latents,
            timestep=timesteps,
            encoder_hidden_states=conditioning.prompt_embeds,
            pooled_projections=conditioning.pooled_prompt_embeds,
        ).sample
