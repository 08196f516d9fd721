"""Weights of rewards, from a folder, or from a hub id because somebody named one: nothing is fetched otherwise."""

from __future__ import annotations

import os
import pickle
from pathlib import Path
from typing import Any, TypeVar

import httpx
import torch
from huggingface_hub import hf_hub_download
from huggingface_hub.errors import EntryNotFoundError
from safetensors import SafetensorError
from torch import Tensor, nn

from d3po_core.errors import ModelMissing

Loaded = TypeVar("Loaded")


def network(kind: type[Loaded], source: str, reward: str) -> Loaded:
    """A transformers model of a folder or hub id, frozen, in float32. Safetensors only, no remote code.

    Raises ModelMissing if it is not there, not of that kind, or lacks a weight, which would otherwise be drawn at random.
    """
    loaded, info = _loaded(kind, source, reward, dtype=torch.float32, use_safetensors=True, output_loading_info=True)
    if info["missing_keys"]:
        raise ModelMissing(f"{source} lacks weights of the {kind.__name__} of the reward {reward}: {_few(info['missing_keys'])}.")
    return loaded.eval().requires_grad_(False)


def tokenizer(kind: type[Loaded], source: str, reward: str) -> Loaded:
    """A transformers tokenizer of a folder or hub id. Raises ModelMissing if there is none."""
    return _loaded(kind, source, reward)


def fetched(source: str, file: str, reward: str) -> Path:
    """A file of a folder or of a hub repository. Raises ModelMissing if it is not there."""
    _check_there(source, reward)
    if Path(source).is_dir():
        path = Path(source) / file
        if not path.is_file():
            raise ModelMissing(f"The reward {reward} needs the file {file} in the folder {source}.")
        return path
    try:
        return Path(hf_hub_download(source, file))
    except (OSError, ValueError, EntryNotFoundError, httpx.HTTPError) as error:
        raise ModelMissing(f"The reward {reward} cannot fetch {file} of {source}: {error}") from error


def state_dict(path: Path, reward: str) -> dict[str, Tensor]:
    """The tensors of a .pt or .pth file; no code of it is run. Raises ModelMissing if it holds anything else."""
    try:
        state = torch.load(path, map_location="cpu", weights_only=True)
    except (OSError, EOFError, RuntimeError, ValueError, pickle.UnpicklingError) as error:
        raise ModelMissing(f"The reward {reward} cannot read weights from {path}: {error}") from error
    if not isinstance(state, dict) or not all(isinstance(value, Tensor) for value in state.values()):
        raise ModelMissing(f"The reward {reward} needs named tensors in {path}; it holds something else.")
    return state


def fill(module: nn.Module, state: dict[str, Tensor], place: Path, reward: str) -> None:
    """Load exactly these tensors. Raises ModelMissing, naming those that are missing, left over or of another shape.

    The network is frozen, its dropouts off.
    """
    try:
        module.load_state_dict(state)
    except RuntimeError as error:
        raise ModelMissing(f"The weights of the reward {reward} in {place} are those of another network: {error}") from error
    module.eval().requires_grad_(False)


def _loaded(kind: Any, source: str, reward: str, **options: Any) -> Any:
    _check_there(source, reward)
    try:
        return kind.from_pretrained(source, local_files_only=Path(source).is_dir(), **options)
    except (OSError, ValueError, KeyError, RuntimeError, SafetensorError, httpx.HTTPError) as error:
        raise ModelMissing(f"The reward {reward} cannot load {source} as a {kind.__name__}: {error}") from error


def _check_there(source: str, reward: str) -> None:
    folder = Path(source)
    if not folder.is_dir() and (folder.is_absolute() or os.environ.get("HF_HUB_OFFLINE") == "1"):
        raise ModelMissing(f"The weights of the reward {reward}, {source}, are not there. Put them at that path, or correct it.")


def _few(names: Any) -> str:
    listed = sorted(names)
    return ", ".join(listed[:3]) + (f" and {len(listed) - 3} more" if len(listed) > 3 else "")
