"""The one interface over all model families, and what they share: adapters, guidance, sizes, decoding."""

from __future__ import annotations

import warnings
from abc import ABC, abstractmethod
from collections.abc import Callable
from pathlib import Path
from typing import Any, ClassVar

import torch
from PIL import Image
from torch import Tensor, nn

from d3po_core.conditioning import Conditioning
from d3po_core.errors import BadParams, ModelMissing
from d3po_core.params import ChainParams
from d3po_core.trajectory import file_sha256
from d3po_core.transitions import Transition

ADAPTER = "policy"
WEIGHTS = "pytorch_lora_weights.safetensors"
FULL_WEIGHTS = "diffusion_pytorch_model.safetensors"
COMPILED_WAYS = 64
"""Shapes of batches and states of the adapter for which a compiled network is kept; beyond it runs uncompiled."""
DECODED_AT_ONCE = 2**16  # latent pixels: 16 images of 512x512, 4 of 1024x1024


class Denoiser(ABC):
    """A pipeline, the adapter it carries now, and its three verbs: encode, predict, decode.

    `module` is the U-Net or transformer itself, `network` what `predict` calls: the same, or its compiled form, or what a
    caller puts there.
    `model` is the base model's fingerprint and `policy` the checkpoint's SHA-256, "base" without one.
    """

    component: ClassVar[str]
    """The pipeline's name for its network: "unet" or "transformer"."""

    def __init__(self, pipeline: Any, model: str) -> None:
        self.pipeline, self.model, self.policy = pipeline, model, "base"
        self.weights_changed = False
        self.network: Callable[..., Any] = self.module
        self.device, self.dtype = self.module.device, self.module.dtype
        for part in pipeline.components.values():
            if isinstance(part, nn.Module):
                part.eval().requires_grad_(False)

    def make_fast(self, compiled: bool) -> None:
        """Lay weights out as the device's convolutions want them; `compiled`: fuse the network's kernels by torch.compile.

        Attention is fused already (diffusers calls scaled_dot_product_attention). On CUDA in half precision convolutions run
        on tensor cores without transposing when weights are channels-last. Compiling takes minutes for each shape of batch
        and each way the network is used (plain, with an adapter, with gradients), and pays in rounds of many groups.
        """
        if self.device.type == "cuda" and self.dtype != torch.float32:
            self.module.to(memory_format=torch.channels_last)
            self.pipeline.vae.to(memory_format=torch.channels_last)
        if compiled:
            torch._dynamo.config.recompile_limit = max(torch._dynamo.config.recompile_limit, COMPILED_WAYS)
            self.network = torch.compile(self.module, dynamic=False)

    @property
    def module(self) -> Any:
        return getattr(self.pipeline, self.component)

    @property
    @abstractmethod
    def default_size(self) -> tuple[int, int]:
        """Height and width in pixels that the pipeline draws unless told otherwise."""

    @property
    @abstractmethod
    def size_multiple(self) -> int:
        """Pixels that height and width must be a multiple of."""

    @property
    @abstractmethod
    def latent_channels(self) -> int: ...

    @abstractmethod
    def transition(self, params: ChainParams) -> Transition:
        """The chain of stochastic steps. Raises UnsupportedModel where the scheduler has none."""

    @abstractmethod
    def encode(self, prompt: str, params: ChainParams) -> Conditioning:
        """Embed one prompt, and the empty one where the family has classifier-free guidance. No batch dimension."""

    @abstractmethod
    def predict(self, latents: Tensor, timesteps: Tensor, conditioning: Conditioning, guidance_scale: float) -> Tensor:
        """What the transition takes as the model's output, guidance included.

        latents [B,C,H,W]; timesteps [B], those of the transition's steps; conditioning of B rows. Returns [B,C,H,W].
        """

    def size(self, params: ChainParams) -> tuple[int, int]:
        """Height and width of an image in pixels. Raises BadParams if the model cannot draw them."""
        height, width = (asked or own for asked, own in zip((params.height, params.width), self.default_size, strict=True))
        if height % self.size_multiple or width % self.size_multiple:
            raise BadParams(
                f"This model draws heights and widths that are multiples of {self.size_multiple} pixels; "
                f"{height} by {width} is not one of them."
            )
        return height, width

    def latent_shape(self, params: ChainParams) -> tuple[int, int, int]:
        """(C,H,W) of an image's latents. Raises BadParams if the model cannot draw the size."""
        height, width = self.size(params)
        scale = self.pipeline.vae_scale_factor
        return self.latent_channels, height // scale, width // scale

    @torch.no_grad()
    def decode(self, latents: Tensor) -> list[Image.Image]:
        """Clean latents [B,C,H,W] to RGB images, as the pipeline itself does."""
        vae, images = self.pipeline.vae, list[Image.Image]()
        for part in latents.split(max(1, DECODED_AT_ONCE // latents[0, 0].numel())):
            pixels = vae.decode(self.unscaled(part.to(vae.dtype))).sample
            images += self.pipeline.image_processor.postprocess(pixels, output_type="pil")
        return images

    def unscaled(self, latents: Tensor) -> Tensor:
        """Latents [B,C,H,W] on the scale that the VAE was trained on."""
        config = self.pipeline.vae.config
        return latents / config.scaling_factor + (config.shift_factor or 0.0)

    def use_adapter(self, folder: Path | None) -> None:
        """Carry the adapter in `folder` from now on; None: the base model.

        Raises ModelMissing if it is not there or made for another model; the base model is carried then.
        """
        wanted = "base" if folder is None else adapter_sha256(folder)
        if wanted == self.policy:
            return
        if self.policy != "base":
            self.pipeline.unload_lora_weights()
        if self.weights_changed:
            self._load_full(Path(self.pipeline.name_or_path or "") / self.component)
            self.weights_changed = False
        self.policy = "base"
        if folder is not None:
            if (folder / WEIGHTS).is_file():
                self.load_lora(folder, ADAPTER)
            else:
                self.weights_changed = True
                self._load_full(folder)
            self.policy = wanted
        self.module.eval().requires_grad_(False)

    def _load_full(self, folder: Path) -> None:
        """The network's weights become those in `folder`. Raises ModelMissing if they do not fit."""
        try:
            weights = type(self.module).from_pretrained(folder, torch_dtype=self.dtype, use_safetensors=True).state_dict()
            self.module.load_state_dict(weights)
        except (OSError, ValueError, RuntimeError) as error:
            raise ModelMissing(f"The weights in {folder} cannot be loaded onto this model: {error}") from error

    def load_lora(self, folder: Path, name: str) -> None:
        """Put the LoRA in `folder` on the network as the adapter `name`. Raises ModelMissing if it does not fit."""
        try:
            with warnings.catch_warnings():
                warnings.filterwarnings("ignore", "Already found a `peft_config`")  # a second adapter is meant
                self.pipeline.load_lora_weights(str(folder), adapter_name=name, local_files_only=True)
        except (OSError, ValueError, RuntimeError, KeyError) as error:  # KeyError: the library's own clean-up after a misfit
            self.pipeline.unload_lora_weights()  # what was half loaded
            cause = error.__context__ if isinstance(error, KeyError) and error.__context__ else error
            reason = str(cause).splitlines()[0].rstrip(":")
            raise ModelMissing(f"The checkpoint {folder} cannot be loaded onto this base model: {reason}") from error


def with_guidance(
    output: Callable[[Tensor, Tensor, Conditioning], Tensor],
    latents: Tensor,
    timesteps: Tensor,
    conditioning: Conditioning,
    guidance_scale: float,
) -> Tensor:
    """Classifier-free guidance (Ho & Salimans 2022) in one batch: u + g (c - u), or the conditional output for g <= 1.

    output(latents [B,C,H,W], timesteps [B], conditioning of B rows) is the network alone. Returns [B,C,H,W].
    """
    if guidance_scale <= 1:
        return output(latents, timesteps, conditioning)
    both = output(torch.cat([latents, latents]), torch.cat([timesteps, timesteps]), conditioning.with_negative())
    unconditional, conditional = both.chunk(2)
    return unconditional + guidance_scale * (conditional - unconditional)


def adapter_sha256(folder: Path) -> str:
    """SHA-256 of a checkpoint's weights, a LoRA or full ones. Raises ModelMissing if the folder holds neither."""
    found = [path for name in (WEIGHTS, FULL_WEIGHTS) if (path := Path(folder) / name).is_file()]
    if not found:
        raise ModelMissing(f"The checkpoint {folder} has no {WEIGHTS}; it was moved or its round never finished.")
    return file_sha256(found[0])
