"""One Denoiser interface over diffusers pipelines: encode a prompt, predict, decode. One file a model family."""

from d3po_core.denoisers.base import Denoiser
from d3po_core.denoisers.loading import load_denoiser

__all__ = ["Denoiser", "load_denoiser"]
