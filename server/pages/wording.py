"""Settings of rounds and facts of a manifest as people read them: a name in words, a value without brackets and noise."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

LABELS = {
    "num_inference_steps": "Denoising steps",
    "guidance_scale": "Guidance scale",
    "eta": "Eta",
    "height": "Height in pixels",
    "width": "Width in pixels",
    "images_per_prompt": "Images each",
    "seed": "Seed",
    "seeds": "Seeds a prompt",
    "count": "Prompts",
    "prompts": "Prompts",
    "items": "Comparisons",
    "votes_per_item": "Votes an item",
    "votes": "Votes",
    "groups": "Groups",
    "pairs": "Pairs",
    "updates": "Updates",
    "algorithm": "Method",
    "pair_weights": "Weights of pairs",
    "beta": "Beta",
    "clip": "Clip",
    "ratio_clip": "Clip of the ratio",
    "max_advantage": "Largest advantage",
    "kl_weight": "Weight of the KL",
    "reward_beta": "Beta of the scores",
    "learning_rate": "Learning rate",
    "adam_epsilon": "Adam’s epsilon",
    "epochs": "Epochs",
    "epoch": "Epoch",
    "evaluate_every": "Epochs between evaluations",
    "evaluation_prompts": "Held-out prompts",
    "stop_on_regression": "Stops when the held-out reward falls",
    "stop_kl": "Stops at a KL of",
    "prompt_set": "Prompt set",
    "weights": "Trains",
    "lora_rank": "LoRA rank",
    "lora_alpha": "LoRA alpha",
    "lora_targets": "LoRA layers",
    "reference": "Compared with",
    "one_sided_clip": "Clips on one side only",
    "groups_per_update": "Groups an update",
    "timesteps_per_update": "Timesteps an update",
    "timestep_fraction": "Share of timesteps trained",
    "max_kl": "Stops at a KL of",
    "step_weighting": "Weights of timesteps",
    "lr_schedule": "Learning rate’s schedule",
    "warmup_updates": "Warm-up updates",
    "optimizer": "Optimizer",
    "max_grad_norm": "Longest gradient",
    "weight_decay": "Weight decay",
    "ema_decay": "Decay of the moving average",
    "images_per_backward": "Images a backward pass",
    "gradient_checkpointing": "Gradient checkpointing",
    "mixed_precision": "Mixed precision",
}
LISTED = 4


def facts(values: Mapping[str, Any], prefix: str = "") -> dict[str, str]:
    """Nested values as {"Learning rate": "0.001"}; what was left to its default of nothing is left out."""
    told: dict[str, str] = {}
    for name, value in values.items():
        label = prefix + LABELS.get(name, name.replace("_", " "))
        if isinstance(value, Mapping) and (rounds := value.get("round_ids")):
            told[label] = f"of {len(rounds)} round{'' if len(rounds) == 1 else 's'}"
        elif isinstance(value, Mapping):
            told |= facts(value, "" if name == "params" else f"{name}: ")
        elif value is not None:
            told[label] = _value(value)
    return told


def _value(value: Any) -> str:
    """No digits that mean nothing; of a long list its length and where it begins."""
    if isinstance(value, bool):
        return "yes" if value else "no"
    if isinstance(value, float):
        return f"{value:.4g}"
    if isinstance(value, (list, tuple)):
        listed = ", ".join(map(_value, value[:LISTED]))
        return listed if len(value) <= LISTED else f"{listed} and {len(value) - LISTED} more"
    return str(value)
