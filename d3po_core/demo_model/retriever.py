"""Stage 4: the judge of the model card. Names the emoji in an image, to measure whether pictures still show what was asked.

A small convolutional classifier over all emoji, trained on composites that went through the autoencoder, blur and noise,
so that it judges a generated image by its content and not by its texture.
"""

from __future__ import annotations

from pathlib import Path

import torch
import torch.nn.functional as F
from diffusers import AutoencoderKL
from safetensors.torch import save_file
from torch import Tensor, nn

from d3po_core.demo_model.captions import COLOURS
from d3po_core.demo_model.compose import compose
from d3po_core.demo_model.stage import Stage

BATCH = 48
FILE = "retriever.safetensors"


def block(channels_in: int, channels_out: int, stride: int) -> nn.Sequential:
    convolution = nn.Conv2d(channels_in, channels_out, 3, stride, 1, bias=False)
    return nn.Sequential(convolution, nn.BatchNorm2d(channels_out), nn.ReLU())


class Retriever(nn.Module):
    """Images float32 [B,3,64,64] in -1..1 to logits over emoji [B,count]."""

    def __init__(self, count: int) -> None:
        super().__init__()
        shapes = [(3, 24, 2), (24, 48, 2), (48, 48, 1), (48, 96, 2), (96, 96, 1), (96, 160, 2), (160, 160, 1)]
        self.features = nn.Sequential(*(block(*shape) for shape in shapes))
        self.head = nn.Linear(160, count)

    def forward(self, images: Tensor) -> Tensor:
        return self.head(self.features(images).mean(dim=(2, 3)))


def train_retriever(vae: AutoencoderKL, rgba: Tensor, steps: int, folder: Path, seed: int) -> Retriever:
    """Cross-entropy on degraded composites; a sixth of each batch is decoded from latents."""
    torch.manual_seed(seed)
    model = Retriever(len(rgba))
    optimizer = torch.optim.AdamW(model.parameters(), lr=3e-3, weight_decay=1e-3)
    schedule = torch.optim.lr_scheduler.OneCycleLR(optimizer, 3e-3, total_steps=steps, pct_start=0.1)
    stage = Stage("retriever", folder, steps, model=model, optimizer=optimizer, schedule=schedule)
    for step in stage.steps():
        generator = torch.Generator().manual_seed(seed * 3_000_017 + step)
        which = torch.randint(len(rgba), (BATCH,), generator=generator)
        colour = torch.randint(len(COLOURS), (BATCH,), generator=generator)
        images = degrade(compose(rgba[which], colour, generator), vae)
        loss = F.cross_entropy(model(images), which, label_smoothing=0.05)
        optimizer.zero_grad(set_to_none=True)
        loss.backward()
        optimizer.step()
        schedule.step()
        stage.report(loss=loss.item())
    return model.eval().requires_grad_(False)


@torch.no_grad()
def degrade(images: Tensor, vae: AutoencoderKL) -> Tensor:
    """A sixth of the batch through the autoencoder, a third blurred, all with a little noise."""
    sixth, third = len(images) // 6, len(images) // 3
    latents = vae.encode(images[:sixth]).latent_dist.mean
    decoded = vae.decode(latents + 0.15 * latents.std() * torch.randn_like(latents)).sample
    small = F.interpolate(images[sixth : sixth + third], scale_factor=0.4, mode="bilinear", antialias=True)
    blurry = F.interpolate(small, size=images.shape[-1], mode="bilinear")
    images = torch.cat([decoded, blurry, images[sixth + third :]])
    return (images + 0.05 * torch.randn_like(images)).clamp(-1, 1)


def save_retriever(model: Retriever, labels: list[tuple[str, str, str]], folder: Path) -> None:
    """Weights as float16, and for every class its name, kind and family in the header."""
    tensors = {key: value.half() if value.is_floating_point() else value for key, value in model.state_dict().items()}
    save_file(tensors, folder / FILE, metadata={"labels": "\n".join("|".join(phrases) for phrases in labels)})
