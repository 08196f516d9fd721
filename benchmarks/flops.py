"""Floating-point operations that a model's formulas ask for, counted on tensors without data; recomputation is not among them."""

from __future__ import annotations

from collections.abc import Callable

import torch
from peft import LoraConfig
from torch import nn
from torch.utils.flop_counter import FlopCounterMode

from d3po_core.conditioning import Conditioning
from d3po_core.denoisers import Denoiser
from d3po_core.params import ChainParams

META = torch.device("meta")


def counted(work: Callable[[], object]) -> int:
    """Operations of the matrix products and convolutions in work(); a multiplication and an addition are two."""
    with FlopCounterMode(display=False) as counter:
        work()
    return int(counter.get_total_flops())


def without_data(module: nn.Module) -> nn.Module:
    """A diffusers model of the same configuration on the meta device, frozen."""
    with META:
        return type(module).from_config(module.config).requires_grad_(False)  # type: ignore[attr-defined]


def predict_flops(
    denoiser: Denoiser, conditioning: Conditioning, params: ChainParams, images: int, adapter: LoraConfig | None = None
) -> int:
    """Of one `predict` for so many images, guidance included; with an adapter of its backward pass and the adapter too.

    The backward pass is the one that trains the adapter: through all layers behind the first one that carries it, without the
    gradients of frozen weights.
    """
    network = without_data(denoiser.module)
    if adapter is not None:
        with META:
            network.add_adapter(adapter)
    with META:
        told = Conditioning(**{name: torch.zeros(images, *one.shape) for name, one in conditioning.tensors().items()})
        latents, timesteps = torch.zeros(images, *denoiser.latent_shape(params)), torch.zeros(images)
    mine, denoiser.network = denoiser.network, network
    try:
        with torch.set_grad_enabled(adapter is not None):
            return counted(lambda: _through(denoiser.predict(latents, timesteps, told, params.guidance_scale)))
    finally:
        denoiser.network = mine


def _through(output: torch.Tensor) -> None:
    if output.requires_grad:
        output.mean().backward()


def decode_flops(denoiser: Denoiser, params: ChainParams, images: int) -> int:
    """Of turning so many clean latents into pixels."""
    vae = without_data(denoiser.pipeline.vae)
    latents = torch.zeros(images, *denoiser.latent_shape(params), device=META)
    return counted(lambda: vae.decode(latents))  # type: ignore[operator]
