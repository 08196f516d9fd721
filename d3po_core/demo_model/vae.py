"""Stage 1: the autoencoder, 64x64 RGB to 4x16x16 latents (AutoencoderKL of diffusers)."""

from __future__ import annotations

from pathlib import Path

import torch
import torch.nn.functional as F
from diffusers import AutoencoderKL
from torch import Tensor, nn

from d3po_core.demo_model.captions import COLOURS
from d3po_core.demo_model.compose import compose
from d3po_core.demo_model.stage import Stage

BATCH = 8


def new_vae() -> AutoencoderKL:
    return AutoencoderKL(
        in_channels=3,
        out_channels=3,
        latent_channels=4,
        sample_size=64,
        block_out_channels=(16, 48, 96),
        layers_per_block=1,
        norm_num_groups=8,
        down_block_types=("DownEncoderBlock2D",) * 3,
        up_block_types=("UpDecoderBlock2D",) * 3,
        mid_block_add_attention=False,
    )


def edges(image: Tensor) -> tuple[Tensor, Tensor]:
    return image[..., 1:] - image[..., :-1], image[..., 1:, :] - image[..., :-1, :]


def reconstruction_loss(image: Tensor, target: Tensor) -> Tensor:
    """L1 at two scales plus L1 of the horizontal and vertical gradients (which keeps outlines crisp)."""
    gradient = sum((F.l1_loss(a, b) for a, b in zip(edges(image), edges(target), strict=True)), torch.zeros(()))
    return F.l1_loss(image, target) + F.l1_loss(F.avg_pool2d(image, 4), F.avg_pool2d(target, 4)) + gradient


def train_vae(rgba: Tensor, steps: int, folder: Path, seed: int) -> AutoencoderKL:
    """Train encoder and decoder for `steps` steps, resuming from `folder`; return the VAE, scaling_factor = 1/std.

    The learning rate's cycle is left at 70 %: the encoder is good enough then, and `refine_decoder` anneals the rest.
    """
    torch.manual_seed(seed)
    vae = new_vae()
    optimizer = torch.optim.AdamW(vae.parameters(), lr=2e-3, betas=(0.9, 0.99), weight_decay=1e-4)
    schedule = torch.optim.lr_scheduler.OneCycleLR(optimizer, 2e-3, total_steps=round(steps / 0.7), pct_start=0.05)
    stage = Stage("vae", folder, steps, model=vae, optimizer=optimizer, schedule=schedule)
    for step in stage.steps():
        image = random_composites(rgba, BATCH, torch.Generator().manual_seed(seed * 1_000_003 + step))
        posterior = vae.encode(image).latent_dist
        loss = reconstruction_loss(vae.decode(blurred(posterior.mean)).sample, image)
        total = loss + 1e-6 * posterior.kl().mean() + 1e-3 * posterior.mean.square().mean()
        optimizer.zero_grad(set_to_none=True)
        total.backward()
        nn.utils.clip_grad_norm_(vae.parameters(), 1.0)
        optimizer.step()
        schedule.step()
        stage.report(loss=loss.item())
    vae.eval().requires_grad_(False)
    probe = random_composites(rgba, 256, torch.Generator().manual_seed(seed))
    vae.register_to_config(scaling_factor=float(1 / vae.encode(probe).latent_dist.mean.std()))
    return vae


def refine_decoder(vae: AutoencoderKL, rgba: Tensor, steps: int, folder: Path, seed: int) -> AutoencoderKL:
    """Train the decoder alone for `steps` more steps, learning rate annealed to 0; the latents stay what they are."""
    decoder = nn.ModuleList([vae.decoder, vae.post_quant_conv]).requires_grad_(True).train()
    optimizer = torch.optim.AdamW(decoder.parameters(), lr=1e-3, betas=(0.9, 0.99), weight_decay=1e-4)
    schedule = torch.optim.lr_scheduler.OneCycleLR(optimizer, 1e-3, total_steps=steps, pct_start=0.05)
    stage = Stage("decoder", folder, steps, model=decoder, optimizer=optimizer, schedule=schedule)
    for step in stage.steps():
        image = random_composites(rgba, BATCH, torch.Generator().manual_seed(seed * 2_000_003 + step))
        with torch.no_grad():
            latents = blurred(vae.encode(image).latent_dist.mean)
        loss = reconstruction_loss(vae.decode(latents).sample, image)
        optimizer.zero_grad(set_to_none=True)
        loss.backward()
        nn.utils.clip_grad_norm_(decoder.parameters(), 1.0)
        optimizer.step()
        schedule.step()
        stage.report(loss=loss.item())
    decoder.eval().requires_grad_(False)
    return vae


def blurred(latents: Tensor) -> Tensor:
    """Latents with a twentieth of their spread as noise, so that the decoder forgives what the U-Net gets slightly wrong."""
    return latents + 0.05 * latents.std().detach() * torch.randn_like(latents)


def random_composites(rgba: Tensor, count: int, generator: torch.Generator) -> Tensor:
    which = torch.randint(len(rgba), (count,), generator=generator)
    colour = torch.randint(len(COLOURS), (count,), generator=generator)
    return compose(rgba[which], colour, generator)
