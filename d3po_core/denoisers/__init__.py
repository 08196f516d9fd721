"""One Denoiser interface over diffusers pipelines: encode prompts, predict, decode."""

from d3po_core.denoisers.stable_diffusion import StableDiffusionDenoiser, load_denoiser

__all__ = ["StableDiffusionDenoiser", "load_denoiser"]
