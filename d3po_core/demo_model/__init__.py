"""The embedded text-to-image model: the recipe that trained it (`make demo-model`) and its weights."""

from pathlib import Path

WEIGHTS = Path(__file__).parent / "weights"
"""A diffusers StableDiffusionPipeline folder, fp16 safetensors."""
