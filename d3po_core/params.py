"""Validated, serialisable parameters of sampling and training. Imports no torch, so the server can use it too."""

from __future__ import annotations

from typing import Literal, Self

from pydantic import BaseModel, ConfigDict, Field, model_validator

from d3po_core.preferences import Weighting

MAX_PROMPT_CHARACTERS = 2_000


class Params(BaseModel):
    """Frozen, refuses unknown keys, NaN and infinity; `model_dump_json()` is what files and rows hold."""

    model_config = ConfigDict(frozen=True, extra="forbid", allow_inf_nan=False)


class ChainParams(Params):
    """How a chain of denoising steps runs, and how large the image is that it ends in."""

    num_inference_steps: int = Field(default=20, ge=1, le=1000, description="T, the denoising steps.")
    guidance_scale: float = Field(
        default=5.0,
        ge=0.0,
        le=100.0,
        description="Classifier-free guidance, off at 1 or less; FLUX embeds it where it is distilled and has none else.",
    )
    eta: float = Field(
        default=1.0,
        gt=0.0,
        le=1.0,
        description="DDIM eta; for flow matching the share of the published noise, a = 0.7 eta. 0 has no density and above 1 "
        "is not a number: both refused.",
    )
    height: int | None = Field(default=None, ge=8, le=8192, multiple_of=8, description="Pixels; null: the model's own.")
    width: int | None = Field(default=None, ge=8, le=8192, multiple_of=8, description="Pixels; null: the model's own.")


class SamplingParams(ChainParams):
    """How a group of images is drawn: the stochastic chain of the D3PO paper."""

    images_per_prompt: int = Field(default=6, ge=2, le=64, description="N, the images of a group; all start from one x_T.")
    seed: int = Field(default=0, ge=0, lt=2**31, description="Round seed; image noise comes from (seed, group, index).")


class TrainingParams(Params):
    """One training round. Defaults are the published ones, for Stable Diffusion 1.5: of the D3PO paper (arXiv 2311.13231)
    and its code (yk7333/d3po), but for which timesteps count how much (docs/adr/0007). The embedded model has settings of its
    own, d3po_core.demo_model.recipe. What another algorithm than the chosen one takes has no effect."""

    algorithm: Literal["d3po", "ddpo", "dpok", "rwr", "sft"] = Field(
        default="d3po",
        description="d3po and sft, fine-tuning on the preferred, learn from pairs; ddpo, dpok and rwr, reward-weighted "
        "regression, from scores, which votes have too: the share of comparisons that an image won.",
    )
    pair_weights: Weighting = Field(
        default="margin",
        description="What the votes on two images weigh: margin, their margin over their number; sign, 1, as published; "
        "reliability, by how reliable each person is, estimated by crowd-kit from how they agree "
        "(preferences.pairs_from).",
    )
    beta: float = Field(
        default=0.1, gt=0.0, le=10_000.0, description="d3po: inverse temperature of the preference model; the published one."
    )
    clip: float = Field(
        default=0.1, gt=0.0, lt=1.0, description="d3po, eps: log-ratios are clamped to log(1-eps)..log(1+eps); the published one."
    )
    ratio_clip: float = Field(
        default=1e-4, gt=0.0, lt=1.0, description="ddpo, dpok: ratios of probabilities are clamped to 1 +- this; published."
    )
    max_advantage: float = Field(default=5.0, gt=0.0, description="ddpo: advantages are clamped to +- this; published.")
    kl_weight: float = Field(
        default=0.01, ge=0.0, le=10_000.0, description="dpok: weight of the KL to the base model; the published one."
    )
    reward_beta: float = Field(
        default=0.2,
        gt=0.0,
        le=10_000.0,
        description="rwr: an image weighs exp(this times its score), so it goes with their unit.",
    )
    learning_rate: float = Field(default=3e-5, gt=0.0, le=1.0, description="AdamW's step; the published one.")
    adam_epsilon: float = Field(
        default=1e-8,
        gt=0.0,
        le=1.0,
        description="The published one, and PyTorch's: every entry steps alike. Well above the gradient's size, AdamW is "
        "a gradient descent with momentum and needs a much larger learning_rate.",
    )
    epochs: int = Field(default=1, ge=1, le=100)
    weights: Literal["lora", "full"] = Field(default="lora", description="What is trained: a LoRA, or every weight in float32.")
    lora_rank: int = Field(default=4, ge=1, le=256, description="The published one.")
    lora_alpha: int | None = Field(default=None, ge=1, le=1024, description="Scale of the LoRA is alpha / rank; null: the rank.")
    lora_targets: tuple[str, ...] = Field(
        default=("to_q", "to_k", "to_v", "to_out.0"),
        min_length=1,
        description="Ends of the names of the layers that get a LoRA; published: every projection of the attention.",
    )
    reference: Literal["sampler", "base"] = Field(
        default="sampler",
        description="d3po: what log-ratios are taken against: the policy that sampled, at no cost, or the base model, evaluated "
        "once. The other algorithms know the first alone.",
    )
    one_sided_clip: bool = Field(
        default=False,
        description="d3po: clip only what already moved the right way far enough (PPO's form); false: both sides, as published.",
    )
    groups_per_update: int = Field(
        default=1, ge=1, le=10_000, description="Groups whose mean gradient makes an optimizer step, over all processes."
    )
    timesteps_per_update: int | None = Field(
        default=None,
        ge=1,
        le=1000,
        description="Optimizer step after this many timesteps of a group; null: after all of them, as published.",
    )
    timestep_fraction: float = Field(
        default=0.8,
        gt=0.0,
        le=1.0,
        description="Share of the timesteps that are trained, the noisiest first; published: 1, whose last ones drown the rest.",
    )
    max_kl: float | None = Field(
        default=None,
        gt=0.0,
        description="A round ends early when the policy is this far from the one that sampled, nats a latent dimension; null: "
        "never, as published.",
    )
    step_weighting: Literal["uniform", "sensitivity"] = Field(
        default="sensitivity",
        description="sensitivity: weight each timestep by sigma / |d mu / d output|, so that none dominates; published: uniform.",
    )
    lr_schedule: Literal["constant", "linear", "cosine"] = Field(default="constant", description="How the rate falls to zero.")
    warmup_updates: int = Field(default=0, ge=0, description="Updates in which the rate rises to its full value.")
    optimizer: Literal["adamw", "adamw_8bit"] = Field(default="adamw", description="adamw_8bit needs the package bitsandbytes.")
    max_grad_norm: float = Field(default=1.0, gt=0.0, description="A longer gradient is cut to this; the published one.")
    weight_decay: float = Field(default=1e-4, ge=0.0, description="AdamW's; the published one.")
    ema_decay: float = Field(
        default=0.0, ge=0.0, lt=1.0, description="The checkpoint is a moving average of the weights with this decay; 0: the last."
    )
    images_per_backward: int | None = Field(
        default=None, ge=1, description="Images whose activations are held at once, for groups that do not fit; null: all."
    )
    gradient_checkpointing: bool = Field(default=False, description="Recompute activations: less memory, a third more time.")
    mixed_precision: Literal["no", "bf16", "fp16"] = Field(
        default="no", description="Number format of the model's matrix products; log-ratios and weights are float32."
    )
    seed: int = Field(default=0, ge=0, lt=2**31)

    @model_validator(mode="after")
    def _check_reference(self) -> Self:
        if self.reference == "base" and self.algorithm != "d3po":
            raise ValueError(
                f"asks for reference base, which only d3po takes; {self.algorithm} compares with the policy that sampled, "
                "so set reference to sampler"
            )
        return self


class DuelParams(ChainParams):
    """Two policies draw one image each from the same prompt, x_T and noise."""

    seeds: list[int] = Field(default=[0], min_length=1, max_length=1000)
