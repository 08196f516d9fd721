"""The trainable weights: a LoRA on the attention of the U-Net or transformer. Its reference is the adapter that sampled, known
from the stored log-probabilities, so no second model is held."""

from __future__ import annotations

from pathlib import Path

import torch
from peft import LoraConfig
from peft.utils import get_peft_model_state_dict
from torch import nn

from d3po_core.denoisers.base import ADAPTER, Denoiser
from d3po_core.errors import ModelMissing
from d3po_core.params import TrainingParams

TARGETS = ["to_q", "to_k", "to_v", "to_out.0"]
IN_TRAINING = "in training"


class LoraPolicy:
    """The adapter `policy` on the denoiser's network, trainable, starting as `parent` or as no change at all.

    `reference` is what it starts as: SHA-256 of the parent's weights, or "base".
    """

    def __init__(self, denoiser: Denoiser, params: TrainingParams, parent: Path | None) -> None:
        denoiser.use_adapter(parent)
        self.denoiser, self.reference = denoiser, denoiser.policy
        denoiser.policy = IN_TRAINING  # so that any later use_adapter takes this adapter off again
        if parent is None:
            torch.manual_seed(params.seed)
            denoiser.module.add_adapter(
                LoraConfig(r=params.lora_rank, lora_alpha=params.lora_rank, target_modules=TARGETS), ADAPTER
            )
        elif self.config.r != params.lora_rank:
            raise ModelMissing(
                f"The parent checkpoint {parent} is a LoRA of rank {self.config.r}; this round asks for rank {params.lora_rank}. "
                f"Train with rank {self.config.r}, or from the base model."
            )
        for name, parameter in denoiser.module.named_parameters():
            if "lora_" in name:
                parameter.data = parameter.data.float()
                parameter.requires_grad_(True)

    @property
    def config(self) -> LoraConfig:
        return self.denoiser.module.peft_config[ADAPTER]

    @property
    def parameters(self) -> list[nn.Parameter]:
        return [p for p in self.denoiser.module.parameters() if p.requires_grad]

    def state_dict(self) -> dict[str, torch.Tensor]:
        """The adapter's weights in peft's naming."""
        return get_peft_model_state_dict(self.denoiser.module, adapter_name=ADAPTER)
