"""A checkpoint folder: the LoRA as plain diffusers reads it, and a manifest of where it came from."""

from __future__ import annotations

import json
import os
import shutil
from collections.abc import Callable, Mapping, Sequence
from importlib.metadata import version
from pathlib import Path
from typing import Any

from diffusers.loaders.lora_base import LORA_ADAPTER_METADATA_KEY
from peft import LoraConfig
from pydantic import BaseModel, ConfigDict, FiniteFloat, TypeAdapter, ValidationError
from safetensors.torch import save_file
from torch import Tensor

from d3po_core.denoisers.base import adapter_sha256
from d3po_core.errors import ModelMissing
from d3po_core.params import TrainingParams
from d3po_core.policy import LoraPolicy, Policy

MANIFEST = "manifest.json"
STATISTICS = "prompt_statistics.json"


class Manifest(BaseModel):
    """What made a checkpoint. `parent`, `reference` and `weights` are SHA-256 of weight files; "base" is the base model.

    `parent` sampled the groups and is where training started; `reference` is what log-ratios were taken against.
    """

    model_config = ConfigDict(extra="forbid")

    format: str = "d3po-checkpoint-1"
    model: str
    parent: str
    reference: str = "base"
    weights: str
    params: TrainingParams
    groups: int
    pairs: int
    updates: int
    final: dict[str, float]
    versions: dict[str, str]


def save_checkpoint(policy: Policy, folder: Path, history: Mapping[str, Sequence[float]] | None = None, **facts: Any) -> Manifest:
    """Write the weights and their manifest; the manifest comes last, so a folder with one is complete.

    Plain diffusers loads the folder with the `load_lora_weights(folder)` of the pipeline that was trained, or, for full
    weights, with the `from_pretrained(folder)` of its U-Net or transformer. `history`, the latest scores of each prompt, goes
    into a file of its own beside them: manifests are listed and shown, and it grows with the number of prompts.
    """
    temporary = folder.with_name(folder.name + ".part")
    shutil.rmtree(temporary, ignore_errors=True)
    denoiser = policy.denoiser
    if isinstance(policy, LoraPolicy):
        layers = {f"{denoiser.component}_lora_layers": policy.state_dict()}
        denoiser.pipeline.save_lora_weights(temporary, **layers, save_function=_writer(policy.config, denoiser.component))
    else:
        denoiser.module.save_pretrained(temporary, max_shard_size="1TB")
    versions = {name: version(name) for name in ("d3po", "torch", "diffusers", "peft")}
    manifest = Manifest(model=denoiser.model, weights=adapter_sha256(temporary), versions=versions, **facts)
    if history:
        (temporary / STATISTICS).write_text(json.dumps(history), encoding="utf-8")
    (temporary / MANIFEST).write_text(manifest.model_dump_json(indent=2), encoding="utf-8")
    for path in temporary.iterdir():
        with path.open("rb") as file:
            os.fsync(file.fileno())
    folder.mkdir(parents=True, exist_ok=True)
    for name in sorted(os.listdir(temporary), key=lambda n: n == MANIFEST):
        os.replace(temporary / name, folder / name)
    temporary.rmdir()
    return manifest


def _writer(config: LoraConfig, component: str) -> Callable[[dict[str, Tensor], str], None]:
    """Writes what diffusers' own writer writes, but the same bytes for the same weights.

    Theirs keeps sets in their order of the day and two metadata entries, which safetensors stores in random order.
    """
    fields = {f"{component}.{key}": sorted(value) if isinstance(value, set) else value for key, value in config.to_dict().items()}
    metadata = {LORA_ADAPTER_METADATA_KEY: json.dumps(fields, indent=2, sort_keys=True)}
    return lambda tensors, path: save_file(tensors, path, metadata)


def read_manifest(folder: Path) -> Manifest | None:
    """The manifest of a finished checkpoint; None where there is none yet. Raises ModelMissing if it cannot be read."""
    path = folder / MANIFEST
    if not path.exists():
        return None
    try:
        return Manifest.model_validate_json(path.read_text(encoding="utf-8"))
    except ValueError as error:  # pydantic's errors and bytes that are no text
        fault = (
            "; ".join(f"{'.'.join(map(str, e['loc']))} {e['msg']}" for e in error.errors())
            if isinstance(error, ValidationError)
            else error
        )
        raise ModelMissing(f"The manifest {path} was damaged: {fault}. Remove {folder} to train the round again.") from error


def read_history(folder: Path | None) -> dict[str, list[float]]:
    """The latest scores of each prompt, up to the round that made the checkpoint, oldest first; none for the base model, and
    where the round's algorithm knows no advantages. Raises ModelMissing if the file is damaged."""
    if folder is None or not (path := folder / STATISTICS).exists():
        return {}
    try:
        return TypeAdapter(dict[str, list[FiniteFloat]]).validate_json(path.read_bytes())
    except ValidationError as error:
        raise ModelMissing(
            f"{path}, the latest scores of each prompt, was damaged: {error.errors()[0]['msg']}. Without the file the statistics "
            "start anew."
        ) from error
