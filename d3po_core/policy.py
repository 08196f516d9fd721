"""The trainable weights: a LoRA on the attention of the U-Net or transformer, or all weights of it.

The reference is known from log-probabilities, so no second model is held: those that sampling stored, or those of another
adapter, which is switched on once before the round.
"""

from __future__ import annotations

import copy
from collections.abc import Iterator
from contextlib import AbstractContextManager, contextmanager
from pathlib import Path
from typing import Protocol

import torch
from peft import LoraConfig
from peft.utils import get_peft_model_state_dict
from torch import nn

from d3po_core.denoisers.base import ADAPTER, Denoiser
from d3po_core.errors import BadParams, ModelMissing
from d3po_core.objectives import OBJECTIVES
from d3po_core.params import TrainingParams

REFERENCE = "reference"
IN_TRAINING = "in training"


class Policy(Protocol):
    """What a round trains. `start`: SHA-256 of the parent's weights, or "base"."""

    denoiser: Denoiser
    start: str

    @property
    def parameters(self) -> list[nn.Parameter]: ...

    def as_base(self) -> AbstractContextManager[None]:
        """The base model instead of the policy, for a while."""


def new_policy(denoiser: Denoiser, params: TrainingParams, parent: Path | None, reference: Path | None) -> Policy:
    """The trainable weights that `params` ask for, equal to `parent` (None: the base model) at the start."""
    if params.weights == "lora":
        return LoraPolicy(denoiser, params, parent, reference)
    return FullPolicy(denoiser, parent, keep_base=OBJECTIVES[params.algorithm].kl_to_base)


class LoraPolicy:
    """The adapter `policy` on the denoiser's network, trainable, starting as `parent` or as no change at all.

    `reference`, a checkpoint folder (None: the base model), is what `as_reference` shows. Raises ModelMissing if the parent
    is a LoRA of another shape than `params` ask for, BadParams if the network has none of the layers that they name.
    """

    def __init__(
        self, denoiser: Denoiser, params: TrainingParams, parent: Path | None = None, reference: Path | None = None
    ) -> None:
        denoiser.use_adapter(parent)
        if REFERENCE in getattr(denoiser.module, "peft_config", {}):  # an earlier round's; it would be trained, and saved
            denoiser.module.delete_adapters(REFERENCE)
        self.denoiser, self.start = denoiser, denoiser.policy
        alpha = params.lora_alpha or params.lora_rank
        if parent is None:
            torch.manual_seed(params.seed)
            config = LoraConfig(r=params.lora_rank, lora_alpha=alpha, target_modules=list(params.lora_targets))
            try:
                denoiser.module.add_adapter(config, ADAPTER)
            except ValueError as error:
                denoiser.pipeline.unload_lora_weights()
                raise BadParams(f"The {denoiser.component} takes no LoRA on {', '.join(params.lora_targets)}: {error}") from error
        else:
            self._check_shape(parent, params.lora_rank, alpha, params.lora_targets)
        denoiser.policy = IN_TRAINING  # so that any later use_adapter takes this adapter off again
        for name, parameter in denoiser.module.named_parameters():
            if "lora_" in name:
                parameter.data = parameter.data.float()
                parameter.requires_grad_(True)
        self._parameters = [p for p in denoiser.module.parameters() if p.requires_grad]
        self._has_reference = reference is not None
        if reference is not None:
            denoiser.load_lora(reference, REFERENCE)
            self._switch_to(ADAPTER)

    @property
    def config(self) -> LoraConfig:
        return self.denoiser.module.peft_config[ADAPTER]

    @property
    def parameters(self) -> list[nn.Parameter]:
        return self._parameters

    def state_dict(self) -> dict[str, torch.Tensor]:
        """The adapter's weights in peft's naming."""
        return get_peft_model_state_dict(self.denoiser.module, adapter_name=ADAPTER)

    def as_reference(self) -> AbstractContextManager[None]:
        """The reference instead of the policy, for a while: its adapter, or no adapter."""
        return self._with_reference() if self._has_reference else self.as_base()

    @contextmanager
    def as_base(self) -> Iterator[None]:
        self.denoiser.module.disable_adapters()
        try:
            yield
        finally:
            self.denoiser.module.enable_adapters()

    @contextmanager
    def _with_reference(self) -> Iterator[None]:
        self._switch_to(REFERENCE)
        try:
            yield
        finally:
            self._switch_to(ADAPTER)

    def _switch_to(self, name: str) -> None:
        self.denoiser.module.set_adapter(name)
        self.denoiser.module.requires_grad_(False)
        for parameter in self._parameters:
            parameter.requires_grad_(True)

    def _check_shape(self, parent: Path, rank: int, alpha: int, targets: tuple[str, ...]) -> None:
        if self.config.r != rank:
            raise ModelMissing(
                f"The parent checkpoint {parent} is a LoRA of rank {self.config.r}; this round asks for rank {rank}. "
                f"Train with rank {self.config.r}, or from the base model."
            )
        here = self.config.lora_alpha, sorted(self.config.target_modules)
        if here != (alpha, sorted(targets)):
            raise ModelMissing(
                f"The parent checkpoint {parent} is a LoRA with alpha {here[0]} on {', '.join(here[1])}; "
                f"this round asks for alpha {alpha} on {', '.join(sorted(targets))}."
            )


class FullPolicy:
    """All weights of the denoiser's network, starting as `parent`, a checkpoint of full weights, or as the base model.

    keep_base: hold a copy of the base model's network for `as_base`, at the price of its memory. Raises BadParams unless the
    model is loaded in float32, and ModelMissing if the parent is a LoRA.
    """

    def __init__(self, denoiser: Denoiser, parent: Path | None, keep_base: bool = False) -> None:
        if denoiser.dtype != torch.float32:
            raise BadParams("Full weights are trained in float32; load the model so, and choose mixed_precision for speed.")
        self._base: nn.Module | None = None
        if keep_base:
            denoiser.use_adapter(None)
            self._base = copy.deepcopy(denoiser.module)
        denoiser.use_adapter(parent)
        if hasattr(denoiser.module, "peft_config"):
            raise ModelMissing(
                f"The parent checkpoint {parent} is a LoRA; full weights start from full weights or the base model."
            )
        self.denoiser, self.start = denoiser, denoiser.policy
        denoiser.policy = IN_TRAINING
        denoiser.weights_changed = True
        denoiser.module.requires_grad_(True)

    @property
    def parameters(self) -> list[nn.Parameter]:
        return list(self.denoiser.module.parameters())

    @contextmanager
    def as_base(self) -> Iterator[None]:
        assert self._base is not None, "made without keep_base"
        network, self.denoiser.network = self.denoiser.network, self._base
        try:
            yield
        finally:
            self.denoiser.network = network
