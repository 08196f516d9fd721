"""Stable Diffusion 1.x pipelines of diffusers, one adapter at a time."""

from __future__ import annotations

import hashlib
import os
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from diffusers import DDIMScheduler, StableDiffusionPipeline
from PIL import Image
from torch import Tensor, nn

from d3po_core.errors import ModelMissing, UnsupportedModel
from d3po_core.trajectory import file_sha256
from d3po_core.transitions import DdimTransition

ADAPTER = "policy"
WEIGHTS = "pytorch_lora_weights.safetensors"
CHUNK = 64


@dataclass(frozen=True)
class Conditioning:
    """Prompt embeddings of a batch, [B,L,D], and of the empty prompt, [L,D]."""

    prompt_embeds: Tensor
    negative_prompt_embeds: Tensor


class StableDiffusionDenoiser:
    """A pipeline, the adapter it carries now, and its three verbs: encode, predict, decode."""

    def __init__(self, pipeline: StableDiffusionPipeline, model: str) -> None:
        self.pipeline, self.model, self.policy = pipeline, model, "base"
        self.unet: nn.Module = pipeline.unet
        self.device, self.dtype = pipeline.unet.device, pipeline.unet.dtype
        for part in (pipeline.vae, pipeline.text_encoder, pipeline.unet):
            part.eval().requires_grad_(False)

    @property
    def latent_shape(self) -> tuple[int, int, int]:
        config = self.pipeline.unet.config
        return config.in_channels, config.sample_size, config.sample_size

    def transition(self, num_inference_steps: int, eta: float) -> DdimTransition:
        return DdimTransition(self.pipeline.scheduler, num_inference_steps, eta)

    def use_adapter(self, folder: Path | None) -> None:
        """Carry the adapter in `folder` from now on; None: the base model.

        Raises ModelMissing if it is not there or made for another model; the base model is carried then.
        """
        wanted = "base" if folder is None else adapter_sha256(folder)
        if wanted == self.policy:
            return
        if self.policy != "base":
            self.pipeline.unload_lora_weights()
        self.policy = "base"
        if folder is not None:
            self._load_adapter(folder)
            self.policy = wanted
        self.pipeline.unet.eval().requires_grad_(False)

    def _load_adapter(self, folder: Path) -> None:
        try:
            self.pipeline.load_lora_weights(str(folder), adapter_name=ADAPTER, local_files_only=True)
        except (OSError, ValueError, RuntimeError, KeyError) as error:  # KeyError: the library's own clean-up after a misfit
            self.pipeline.unload_lora_weights()  # what was half loaded
            cause = error.__context__ if isinstance(error, KeyError) and error.__context__ else error
            reason = str(cause).splitlines()[0].rstrip(":")
            raise ModelMissing(f"The checkpoint {folder} cannot be loaded onto this base model: {reason}") from error

    @torch.no_grad()
    def encode(self, prompts: list[str]) -> Conditioning:
        """Embed each prompt once. Returns [P,L,D] and the empty prompt's [L,D]."""
        embeds, _ = self.pipeline.encode_prompt(prompts, self.device, 1, False)
        negative, _ = self.pipeline.encode_prompt([""], self.device, 1, False)
        return Conditioning(embeds, negative[0])

    def predict(self, latents: Tensor, timesteps: Tensor, conditioning: Conditioning, guidance_scale: float) -> Tensor:
        """The model's output with classifier-free guidance: u + g (c - u), or c alone for g <= 1.

        latents [B,C,H,W], timesteps int64 [B]. Returns [B,C,H,W].
        """
        if guidance_scale <= 1:
            return self.unet(latents, timesteps, encoder_hidden_states=conditioning.prompt_embeds).sample
        negative = conditioning.negative_prompt_embeds.expand_as(conditioning.prompt_embeds)
        embeds = torch.cat([negative, conditioning.prompt_embeds])
        output = self.unet(torch.cat([latents, latents]), torch.cat([timesteps, timesteps]), encoder_hidden_states=embeds).sample
        unconditional, conditional = output.chunk(2)
        return unconditional + guidance_scale * (conditional - unconditional)

    @torch.no_grad()
    def decode(self, latents: Tensor) -> list[Image.Image]:
        """Clean latents [B,C,H,W] to RGB images, as the pipeline itself does."""
        images: list[Image.Image] = []
        for part in latents.split(CHUNK):
            pixels = self.pipeline.vae.decode(part.to(self.dtype) / self.pipeline.vae.config.scaling_factor).sample
            images += self.pipeline.image_processor.postprocess(pixels, output_type="pil")
        return images


def adapter_sha256(folder: Path) -> str:
    weights = Path(folder) / WEIGHTS
    if not weights.is_file():
        raise ModelMissing(f"The checkpoint {folder} has no {WEIGHTS}; it was moved or its round never finished.")
    return file_sha256(weights)


def load_denoiser(source: str | Path, device: str = "cpu", dtype: str = "float32") -> StableDiffusionDenoiser:
    """Load a pipeline from a folder or a hub id and give it a DDIM scheduler.

    Safetensors only and no remote code. Raises ModelMissing if a folder is not there or not a pipeline, and
    UnsupportedModel for another kind of pipeline.
    """
    folder = Path(source)
    is_folder = folder.is_dir()
    if not is_folder and (folder.is_absolute() or os.environ.get("HF_HUB_OFFLINE") == "1"):
        raise ModelMissing(
            f"The base model {source} is not there. Put a diffusers pipeline folder at that path, or correct the setting."
        )
    options: dict[str, Any] = {"safety_checker": None, "feature_extractor": None, "requires_safety_checker": False}
    try:
        pipeline = StableDiffusionPipeline.from_pretrained(
            str(source), dtype=getattr(torch, dtype), use_safetensors=True, local_files_only=is_folder, **options
        )
    except (OSError, ValueError) as error:
        raise ModelMissing(f"The base model {source} cannot be loaded as a Stable Diffusion pipeline: {error}") from error
    if not isinstance(pipeline, StableDiffusionPipeline):
        raise UnsupportedModel(f"{source} is a {type(pipeline).__name__}; this library knows StableDiffusionPipeline.")
    pipeline.scheduler = DDIMScheduler.from_config(pipeline.scheduler.config, clip_sample=False)
    pipeline.set_progress_bar_config(disable=True)
    return StableDiffusionDenoiser(pipeline.to(device), model=fingerprint(folder) if is_folder else str(source))


def fingerprint(folder: Path) -> str:
    """SHA-256 over the U-Net's and scheduler's configuration and the U-Net's weights: what a log-probability depends on."""
    digest = hashlib.sha256()
    for path in sorted([*folder.glob("unet/*"), *folder.glob("scheduler/*")]):
        digest.update(f"{path.name} {file_sha256(path)}\n".encode())
    return digest.hexdigest()
