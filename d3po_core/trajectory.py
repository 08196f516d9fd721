"""What sampling leaves for training: one safetensors file a group, params in the header, no pickle.

Tensors: latents [N,T+1,C,H,W] (each x_t once), log_probs float32 [N,T] (computed from the stored latents; 0 where a step
has no density), prompt_embeds [L,D] and negative_prompt_embeds [L,D] (once, not N times).
"""

from __future__ import annotations

import hashlib
import json
import os
from dataclasses import dataclass
from pathlib import Path

import torch
from safetensors import SafetensorError, safe_open
from safetensors.torch import save
from torch import Tensor

from d3po_core.errors import BadTrajectory, NotFinite
from d3po_core.params import SamplingParams
from d3po_core.transitions import Step

FORMAT = "d3po-trajectory-1"
TENSORS = ("latents", "log_probs", "prompt_embeds", "negative_prompt_embeds")


@dataclass(frozen=True)
class Header:
    """Everything a training round must agree with. `policy`: SHA-256 of the adapter that sampled, or "base"."""

    prompt: str
    position: int
    params: SamplingParams
    steps: tuple[Step, ...]
    seeds: tuple[int, ...]
    model: str
    policy: str
    dtype: str

    def to_json(self) -> str:
        fields = {**vars(self), "params": self.params.model_dump(), "steps": [list(vars(s).values()) for s in self.steps]}
        return json.dumps({"format": FORMAT, **fields})

    @classmethod
    def from_json(cls, text: str) -> Header:
        """Raises AttributeError, KeyError, TypeError or ValueError on anything else than what to_json wrote."""
        fields = json.loads(text)
        if fields.pop("format") != FORMAT:
            raise ValueError("another format")
        steps = tuple(Step(*row) for row in fields.pop("steps"))
        params = SamplingParams.model_validate(fields.pop("params"))
        return cls(params=params, steps=steps, seeds=tuple(fields.pop("seeds")), **fields)


@dataclass(frozen=True)
class Trajectory:
    """A group's chain: `latents[i, k]` is image i before step k; `latents[i, T]` is the clean latent."""

    header: Header
    latents: Tensor
    log_probs: Tensor
    prompt_embeds: Tensor
    negative_prompt_embeds: Tensor

    @property
    def trainable_steps(self) -> list[int]:
        """Indices of the steps that have a density (sigma > 0)."""
        return [k for k, step in enumerate(self.header.steps) if step.sigma > 0]

    def save(self, path: Path) -> str:
        """Write atomically (temporary file, fsync, rename); return the file's SHA-256.

        Raises NotFinite, writing nothing, if any tensor holds NaN or infinity.
        """
        tensors = {name: getattr(self, name).contiguous().cpu() for name in TENSORS}
        for name, tensor in tensors.items():
            if not torch.isfinite(tensor).all():
                raise NotFinite(f"{name} of the group for {self.header.prompt!r} holds NaN or infinity; nothing was written.")
        data = save(tensors, metadata={"d3po": self.header.to_json()})
        path.parent.mkdir(parents=True, exist_ok=True)
        temporary = path.with_suffix(".part")
        with temporary.open("wb") as file:
            file.write(data)
            file.flush()
            os.fsync(file.fileno())
        os.replace(temporary, path)
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
                header = Header.from_json((file.metadata() or {})["d3po"])
                tensors = {name: file.get_tensor(name) for name in TENSORS}
        except (SafetensorError, AttributeError, KeyError, TypeError, ValueError) as error:
            raise BadTrajectory(f"The trajectory {path} cannot be read as {FORMAT}: {error}.") from error
        trajectory = cls(header=header, **tensors)
        trajectory._check(path)
        return trajectory

    def _check(self, path: Path) -> None:
        images, steps = self.header.params.images_per_prompt, len(self.header.steps)
        fits = (
            self.latents.ndim == 5 and self.latents.shape[:2] == (images, steps + 1) and self.log_probs.shape == (images, steps)
        )
        if not fits or self.prompt_embeds.ndim != 2 or self.prompt_embeds.shape != self.negative_prompt_embeds.shape:
            shapes = ", ".join(f"{name} {list(getattr(self, name).shape)}" for name in TENSORS)
            raise BadTrajectory(f"The trajectory {path} should hold {images} images of {steps} steps; it holds {shapes}.")
        for name in TENSORS:
            if not torch.isfinite(getattr(self, name)).all():
                raise BadTrajectory(f"The trajectory {path} holds NaN or infinity in {name}.")


def file_sha256(path: Path) -> str:
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()
