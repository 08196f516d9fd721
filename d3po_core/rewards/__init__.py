"""Scores of a stored image, higher is better, computed from its pixels. No torch."""

from d3po_core.rewards.colourfulness import colourfulness
from d3po_core.rewards.jpeg import compressibility, jpeg_kilobytes

__all__ = ["colourfulness", "compressibility", "jpeg_kilobytes"]
