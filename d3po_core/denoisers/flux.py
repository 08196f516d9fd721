"""FLUX.1: CLIP's pooled embedding and T5, a transformer over latents packed two by two. Guidance is an input of the network
where it was distilled (dev), and not there at all elsewhere (schnell); there is no second, unconditional branch."""

from __future__ import annotations

from typing import Any

import numpy as np
import torch
from torch import Tensor

from d3po_core.conditioning import Conditioning
from d3po_core.denoisers.flow_matching import FlowMatchingDenoiser
from d3po_core.params import ChainParams

PATCH = 2
TRAINED_TIMESTEPS = 1000


class FluxDenoiser(FlowMatchingDenoiser):
    """Latents are [B,C,H,W] outside, as for every family; packing to [B,HW/4,4C] stays inside `predict`."""

    @property
    def patch_size(self) -> int:
        return PATCH

    @property
    def latent_channels(self) -> int:
        return self.module.config.in_channels // PATCH**2

    def spacing(self, num_inference_steps: int) -> dict[str, Any]:
        return {"sigmas": np.linspace(1.0, 1 / num_inference_steps, num_inference_steps)}

    @torch.no_grad()
    def encode(self, prompt: str, params: ChainParams) -> Conditioning:
        embeds, pooled, _ = self.pipeline.encode_prompt(prompt, prompt, device=self.device)
        return Conditioning(embeds[0], pooled_prompt_embeds=pooled[0])

    def predict(self, latents: Tensor, timesteps: Tensor, conditioning: Conditioning, guidance_scale: float) -> Tensor:
        """guidance_scale goes in as the distilled guidance; a model without it ignores the value, as its pipeline does."""
        batch, channels, height, width = latents.shape
        pipeline, scale = self.pipeline, self.pipeline.vae_scale_factor
        distilled = self.module.config.guidance_embeds
        velocity = self.network(
            hidden_states=pipeline._pack_latents(latents.contiguous(), batch, channels, height, width),
            timestep=timesteps.to(latents.dtype) / TRAINED_TIMESTEPS,
            guidance=latents.new_full((batch,), guidance_scale, dtype=torch.float32) if distilled else None,
            encoder_hidden_states=conditioning.prompt_embeds,
            pooled_projections=conditioning.pooled_prompt_embeds,
            txt_ids=latents.new_zeros(conditioning.prompt_embeds.shape[1], 3),
            img_ids=pipeline._prepare_latent_image_ids(batch, height // PATCH, width // PATCH, latents.device, latents.dtype),
        ).sample
        return pipeline._unpack_latents(velocity, height * scale, width * scale, scale)
