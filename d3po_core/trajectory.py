"""What sampling leaves for training: one safetensors file a group, params in the header, no pickle.

Tensors: latents [N,T+1,C,H,W] (each x_t once), log_probs float32 [N,T] (computed from the stored latents; 0 where a step
has no density), and the prompt's conditioning under its own names, such as prompt_embeds [L,D] (once, not N times).
"""

from __future__ import annotations

import hashlib
import json
import math
from dataclasses import dataclass, fields
from pathlib import Path
from typing import Any

import torch
from pydantic import ValidationError
from safetensors import SafetensorError, safe_open
from safetensors.torch import save
from torch import Tensor

from d3po_core.conditioning import Conditioning
from d3po_core.errors import BadTrajectory, NotFinite
from d3po_core.files import written_whole
from d3po_core.params import SamplingParams
from d3po_core.transitions import Step

FORMAT = "d3po-trajectory-1"
PLAIN = {"prompt": str, "position": int, "model": str, "policy": str, "dtype": str, "batch_size": int}


@dataclass(frozen=True)
class Header:
    """Everything a training round must agree with, and all that the group can be drawn from again.

    `policy`: SHA-256 of the adapter that sampled, or "base". `batch_size`: images that were drawn at once, this group's and
    others' (files from before it was recorded: the group's own).
    """

    prompt: str
    position: int
    params: SamplingParams
    steps: tuple[Step, ...]
    seeds: tuple[int, ...]
    model: str
    policy: str
    dtype: str
    batch_size: int

    @property
    def trainable_steps(self) -> list[int]:
        """Indices of the steps that have a density (sigma > 0)."""
        return [k for k, step in enumerate(self.steps) if step.sigma > 0]

    def to_json(self) -> str:
        values = {**vars(self), "params": self.params.model_dump(), "steps": [list(vars(s).values()) for s in self.steps]}
        return json.dumps({"format": FORMAT, **values})

    @classmethod
    def from_json(cls, text: str) -> Header:
        """Raises ValueError, saying the fault, on anything else than what to_json wrote."""
        values = json.loads(text)
        if not isinstance(values, dict) or values.pop("format", None) != FORMAT:
            raise ValueError("its header is of another format")
        if "params" in values:
            values.setdefault("batch_size", values["params"].get("images_per_prompt"))
        known = {field.name for field in fields(cls)}
        if known != values.keys():
            unknown, missing = sorted(values.keys() - known), sorted(known - values.keys())
            raise ValueError(f"its header has unknown keys {unknown} and lacks {missing}")
        try:
            values["params"] = SamplingParams.model_validate(values["params"])
        except ValidationError as error:
            raise ValueError("; ".join(f"{'.'.join(map(str, e['loc']))}: {e['msg']}" for e in error.errors())) from error
        if wrong := [name for name, kind in PLAIN.items() if type(values[name]) is not kind]:
            raise ValueError(f"its header has the {wrong[0]} {values[wrong[0]]!r}, which is no {PLAIN[wrong[0]].__name__}")
        values["steps"] = tuple(_step(row) for row in values["steps"])
        values["seeds"] = tuple(_seed(value) for value in values["seeds"])
        return cls(**values)


def _seed(value: Any) -> int:
    if type(value) is not int or not 0 <= value < 2**63:
        raise ValueError(f"its header has the seed {value!r}, which is no whole number from 0 to 2^63")
    return value


def _step(row: Any) -> Step:
    numbers = isinstance(row, list) and all(isinstance(value, int | float) and math.isfinite(value) for value in row)
    if not numbers or len(row) != 3 or row[2] < 0:
        raise ValueError(f"its header has the step {row}, which is no [t, t', sigma] with sigma >= 0")
    return Step(*row)


@dataclass(frozen=True)
class Trajectory:
    """A group's chain: `latents[i, k]` is image i before step k; `latents[i, T]` is the clean latent."""

    header: Header
    latents: Tensor
    log_probs: Tensor
    conditioning: Conditioning

    def tensors(self) -> dict[str, Tensor]:
        """All that the file holds, by name."""
        return {"latents": self.latents, "log_probs": self.log_probs, **self.conditioning.tensors()}

    @property
    def trainable_steps(self) -> list[int]:
        """Indices of the steps that have a density (sigma > 0)."""
        return self.header.trainable_steps

    def save(self, path: Path) -> str:
        """Write the file, whole or not at all; return its SHA-256.

        Raises NotFinite, writing nothing, if any tensor holds NaN or infinity.
        """
        tensors = {name: tensor.contiguous().cpu() for name, tensor in self.tensors().items()}
        for name, tensor in tensors.items():
            if not torch.isfinite(tensor).all():
                raise NotFinite(f"{name} of the group for {self.header.prompt!r} holds NaN or infinity; nothing was written.")
        data = save(tensors, metadata={"d3po": self.header.to_json()})
        path.parent.mkdir(parents=True, exist_ok=True)
        with written_whole(path) as file:
            file.write(data)
        return hashlib.sha256(data).hexdigest()

    @classmethod
    def load(cls, path: Path, sha256: str | None = None) -> Trajectory:
        """Read a file (memory-mapped), checking shapes, finiteness and, if given, its SHA-256.

        Raises BadTrajectory naming the file and the fault.
        """
        if not path.is_file():
            raise BadTrajectory(f"The trajectory {path} is not there.")
        if sha256 is not None and file_sha256(path) != sha256:
            raise BadTrajectory(
                f"The trajectory {path} was changed since it was sampled: its SHA-256 differs from the recorded one."
            )
        try:
            with safe_open(path, framework="pt") as file:
                header = Header.from_json((file.metadata() or {}).get("d3po", "null"))
                tensors = {name: file.get_tensor(name) for name in file.keys()}  # noqa: SIM118
        except (SafetensorError, AttributeError, TypeError, ValueError) as error:
            raise BadTrajectory(f"The trajectory {path} cannot be read as {FORMAT}: {error}.") from error
        known = {"latents", "log_probs", *(field.name for field in fields(Conditioning))}
        unknown, missing = sorted(tensors.keys() - known), sorted({"latents", "log_probs", "prompt_embeds"} - tensors.keys())
        if unknown or missing:
            raise BadTrajectory(f"The trajectory {path} holds unknown tensors {unknown} and lacks {missing}.")
        trajectory = cls(header, tensors.pop("latents"), tensors.pop("log_probs"), Conditioning(**tensors))
        trajectory._check(path)
        return trajectory

    def _check(self, path: Path) -> None:
        images, steps, told = self.header.params.images_per_prompt, len(self.header.steps), self.conditioning
        fits = (
            self.latents.ndim == 5
            and self.latents.shape[:2] == (images, steps + 1)
            and self.log_probs.shape == (images, steps)
            and self.log_probs.dtype == torch.float32
            and len(self.header.seeds) == images <= self.header.batch_size
            and told.prompt_embeds.ndim == 2
            and _alike(told.negative_prompt_embeds, told.prompt_embeds)
            and (told.pooled_prompt_embeds is None or told.pooled_prompt_embeds.ndim == 1)
            and _alike(told.negative_pooled_prompt_embeds, told.pooled_prompt_embeds)
            and (told.time_ids is None or told.time_ids.shape == (6,))
        )
        if not fits:
            shapes = ", ".join(f"{name} {tensor.dtype} {list(tensor.shape)}" for name, tensor in self.tensors().items())
            raise BadTrajectory(f"The trajectory {path} should hold {images} images of {steps} steps; it holds {shapes}.")
        for name, tensor in self.tensors().items():
            if not torch.isfinite(tensor).all():
                raise BadTrajectory(f"The trajectory {path} holds NaN or infinity in {name}.")
        if not self.trainable_steps:
            raise BadTrajectory(f"The trajectory {path} has no step with a density: every sigma is 0.")


def _alike(negative: Tensor | None, positive: Tensor | None) -> bool:
    return negative is None or (positive is not None and negative.shape == positive.shape)


def file_sha256(path: Path) -> str:
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()
