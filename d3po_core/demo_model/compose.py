"""Composites: an emoji, moved, turned, mirrored and scaled, over a named background colour with an unnamed pattern."""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor

from d3po_core.demo_model.captions import COLOURS
from d3po_core.demo_model.emoji import SIZE

PALETTE = torch.tensor(list(COLOURS.values()), dtype=torch.float32) / 255


WIDE = (0.66, 0.35, (0.45, 0.25, 0.15, 0.15))
CLOSE = (0.82, 0.18, (0.55, 0.29, 0.08, 0.08))
"""How far composites vary: smallest scale, largest turn in radians, shares of flat, shaded, striped, dotted backgrounds."""


def backgrounds(colour: Tensor, generator: torch.Generator, shares: tuple[float, ...]) -> Tensor:
    """Backgrounds of the given colours (int64 [B], index into COLOURS): flat, shaded, striped or dotted; [B,3,64,64]."""
    count = len(colour)
    base = (PALETTE[colour] + 0.03 * torch.randn(count, 3, generator=generator)).clamp(0, 1)
    line = torch.linspace(0, 1, SIZE)
    y, x = torch.meshgrid(line, line, indexing="ij")
    angle = torch.rand(count, generator=generator) * torch.pi
    along = torch.cos(angle)[:, None, None] * x + torch.sin(angle)[:, None, None] * y
    periods = 2 + 3 * torch.rand(count, generator=generator)[:, None, None]
    across = torch.cos(angle + torch.pi / 2)[:, None, None] * x + torch.sin(angle + torch.pi / 2)[:, None, None] * y
    stripes = (torch.sin(2 * torch.pi * periods * along) * 4).clamp(-1, 1)
    dots = ((torch.sin(2 * torch.pi * periods * along) * torch.sin(2 * torch.pi * periods * across) - 0.4) * 6).clamp(0, 1)
    patterns = torch.stack([torch.zeros(count, SIZE, SIZE), 2 * (along - along.mean((1, 2), keepdim=True)), stripes, dots])
    which = torch.multinomial(torch.tensor(shares), count, replacement=True, generator=generator)
    shade = patterns[which, torch.arange(count)]
    strength = 0.06 + 0.08 * torch.rand(count, generator=generator)
    return (base[:, :, None, None] + (strength[:, None, None] * shade)[:, None]).clamp(0, 1)


def compose(
    rgba: Tensor, colour: Tensor, generator: torch.Generator, variety: tuple[float, float, tuple[float, ...]] = WIDE
) -> Tensor:
    """Draw one composite for every emoji given.

    rgba: premultiplied float32 [B,4,64,64] in 0..1; colour: int64 [B]. Returns float32 [B,3,64,64] in -1..1.
    """
    count = len(rgba)

    def uniform(low: float, high: float) -> Tensor:
        return low + (high - low) * torch.rand(count, generator=generator)

    smallest, turn, shares = variety
    scale, angle = uniform(smallest, 1.0), uniform(-turn, turn)
    mirror = torch.where(torch.rand(count, generator=generator) < 0.5, -1.0, 1.0)
    room = 1.04 - scale
    shift_x, shift_y = uniform(-1, 1) * room, uniform(-1, 1) * room
    cos, sin = torch.cos(angle) / scale, torch.sin(angle) / scale
    rows = [mirror * cos, mirror * sin, mirror * (-cos * shift_x - sin * shift_y), -sin, cos, sin * shift_x - cos * shift_y]
    theta = torch.stack(rows, dim=1).view(count, 2, 3)
    grid = F.affine_grid(theta, [count, 4, SIZE, SIZE], align_corners=False)
    moved = F.grid_sample(rgba, grid, align_corners=False, padding_mode="zeros")
    return (moved[:, :3] + (1 - moved[:, 3:]) * backgrounds(colour, generator, shares)) * 2 - 1
