"""From a pipeline folder or hub id to the Denoiser of its family."""

from __future__ import annotations

import hashlib
import os
from pathlib import Path
from typing import Any

import torch
from diffusers import DiffusionPipeline

from d3po_core.denoisers.base import Denoiser
from d3po_core.denoisers.flux import FluxDenoiser
from d3po_core.denoisers.stable_diffusion import StableDiffusionDenoiser
from d3po_core.denoisers.stable_diffusion_3 import StableDiffusion3Denoiser
from d3po_core.denoisers.stable_diffusion_xl import StableDiffusionXLDenoiser
from d3po_core.errors import BadParams, ModelMissing, UnsupportedModel
from d3po_core.trajectory import file_sha256

FAMILIES: dict[str, type[Denoiser]] = {
    "StableDiffusionPipeline": StableDiffusionDenoiser,
    "StableDiffusionXLPipeline": StableDiffusionXLDenoiser,
    "StableDiffusion3Pipeline": StableDiffusion3Denoiser,
    "FluxPipeline": FluxDenoiser,
}
DTYPES = ("float32", "float16", "bfloat16")
WITHOUT_SAFETY_CHECKER = {"safety_checker": None, "feature_extractor": None, "requires_safety_checker": False}
EXTRA: dict[str, dict[str, Any]] = {"StableDiffusionPipeline": WITHOUT_SAFETY_CHECKER}


def load_denoiser(source: str | Path, device: str = "cpu", dtype: str = "float32", compiled: bool = False) -> Denoiser:
    """Load a pipeline from a folder or a hub id, with the scheduler of its family's transition.

    dtype: "float32", "float16" or "bfloat16", of everything that is loaded. compiled: see `Denoiser.make_fast`. Safetensors
    only and no remote code. Raises ModelMissing if a folder is not there or not a pipeline, UnsupportedModel for another
    kind of pipeline or scheduler, and BadParams for another dtype or a device that is not there.
    """
    if dtype not in DTYPES:
        raise BadParams(f"dtype is {dtype!r}; known are {', '.join(DTYPES)}.")
    try:
        torch.empty(0, device=device)
    except (AssertionError, RuntimeError) as error:
        raise BadParams(f"There is no device {device!r} for models here: {str(error).splitlines()[0]}.") from error
    folder = Path(source)
    is_folder = folder.is_dir()
    if not is_folder and (folder.is_absolute() or os.environ.get("HF_HUB_OFFLINE") == "1"):
        raise ModelMissing(
            f"The base model {source} is not there. Put a diffusers pipeline folder at that path, or correct the setting."
        )
    try:
        index = DiffusionPipeline.load_config(str(source), local_files_only=is_folder)
        name = index["_class_name"]
        if not isinstance(name, str) or name not in FAMILIES:
            raise UnsupportedModel(f"{source} is a {name}; this library knows {', '.join(FAMILIES)}.")
        if is_folder and (without := parts_missing(folder, index, EXTRA.get(name, {}))):
            raise ModelMissing(f"The base model {source} has no folder {', '.join(without)}, which its model_index.json names.")
        pipeline = DiffusionPipeline.from_pretrained(
            str(source), dtype=getattr(torch, dtype), use_safetensors=True, local_files_only=is_folder, **EXTRA.get(name, {})
        )
        pipeline.to(device)
    except (OSError, ValueError, KeyError, TypeError, NotImplementedError) as error:  # the last: weights that no file holds
        raise ModelMissing(f"The base model {source} cannot be loaded as a diffusers pipeline: {error}") from error
    return denoiser_of(pipeline, fingerprint(folder) if is_folder else str(source), compiled)


def parts_missing(folder: Path, index: dict[str, Any], left_out: dict[str, Any]) -> list[str]:
    """Parts that a pipeline's index names and its folder lacks; transformers would make an empty tokenizer of nothing."""
    named = [part for part, kind in index.items() if isinstance(kind, list | tuple) and kind[0] is not None]
    return [part for part in named if part not in left_out and not (folder / part).is_dir()]


def denoiser_of(pipeline: Any, model: str, compiled: bool = False) -> Denoiser:
    """The Denoiser of a diffusers pipeline that is in memory, where it lies; `model` names it in trajectories' headers.

    Raises UnsupportedModel for a kind of pipeline or scheduler that the library has no exact step for.
    """
    name = type(pipeline).__name__
    if name not in FAMILIES:
        raise UnsupportedModel(f"This pipeline is a {name}; this library knows {', '.join(FAMILIES)}.")
    pipeline.set_progress_bar_config(disable=True)
    denoiser = FAMILIES[name](pipeline, model)
    denoiser.make_fast(compiled)
    return denoiser


def fingerprint(folder: Path) -> str:
    """SHA-256 over the network's and scheduler's configuration and the network's weights: what a log-probability depends on."""
    digest = hashlib.sha256()
    for path in sorted([*folder.glob("unet/*"), *folder.glob("transformer/*"), *folder.glob("scheduler/*")]):
        digest.update(f"{path.name} {file_sha256(path)}\n".encode())
    return digest.hexdigest()
