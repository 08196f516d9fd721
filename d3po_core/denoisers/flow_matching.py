"""What flow-matching transformers share: the scheduler's noise levels, and the SDE along them.

Plain diffusers draws these models by FlowMatchEulerDiscreteScheduler, which adds no noise: a pipeline call from the same x_T
gives the image of a chain whose eta goes to 0. A chain with eta > 0 has no counterpart there; `sampling.verify` redraws it.
"""

from __future__ import annotations

from abc import abstractmethod
from typing import Any

from d3po_core.denoisers.base import Denoiser
from d3po_core.errors import UnsupportedModel
from d3po_core.params import ChainParams
from d3po_core.transitions import FlowTransition


class FlowMatchingDenoiser(Denoiser):
    component = "transformer"

    def __init__(self, pipeline: Any, model: str) -> None:
        name = type(pipeline.scheduler).__name__
        if name != "FlowMatchEulerDiscreteScheduler":
            raise UnsupportedModel(f"The pipeline uses {name}; flow-matching models need FlowMatchEulerDiscreteScheduler here.")
        super().__init__(pipeline, model)

    @property
    @abstractmethod
    def patch_size(self) -> int:
        """Latent pixels, a side, that make one token."""

    @property
    def default_size(self) -> tuple[int, int]:
        side = self.pipeline.default_sample_size * self.pipeline.vae_scale_factor
        return side, side

    @property
    def size_multiple(self) -> int:
        return self.pipeline.vae_scale_factor * self.patch_size

    def spacing(self, num_inference_steps: int) -> dict[str, Any]:
        """Further arguments that the family's pipeline passes to its scheduler's set_timesteps."""
        return {}

    def transition(self, params: ChainParams) -> FlowTransition:
        """Along the scheduler's own noise levels, shifted as configured: by a constant, or by the image's size.

        The shift by size, mu, is a straight line through (base_image_seq_len, base_shift) and (max_image_seq_len, max_shift),
        in tokens; the scheduler leaves it aside where it has use_dynamic_shifting off.
        """
        scheduler, config = self.pipeline.scheduler, self.pipeline.scheduler.config
        _, height, width = self.latent_shape(params)
        tokens = (height // self.patch_size) * (width // self.patch_size)
        slope = (config.max_shift - config.base_shift) / (config.max_image_seq_len - config.base_image_seq_len)
        mu = config.base_shift + slope * (tokens - config.base_image_seq_len)
        scheduler.set_timesteps(params.num_inference_steps, mu=mu, **self.spacing(params.num_inference_steps))
        return FlowTransition(scheduler.sigmas.tolist(), params.eta)
