"""Measured settings of a sample and a training round of the embedded model (docs/log.md). Other models: the defaults.

Ten steps carry the same signal an image as twenty, at half the cost. Only the upper attention block is trained: that is where
groups agree, and back-propagation ends there, which makes an update cheaper. Its rank is as large as the layers are wide, since a
narrow random projection of the gradient loses signal. The epsilon, far above a gradient's entries, makes AdamW a gradient
descent with momentum, because the signal lies in the large ones. Imports no torch.
"""

from d3po_core.params import SamplingParams, TrainingParams

SAMPLING = SamplingParams(num_inference_steps=10)

TRAINING = TrainingParams(
    lora_targets=tuple(
        f"up_blocks.1.attentions.{i}.transformer_blocks.0.attn{a}.{projection}"
        for i in (0, 1)
        for a in (1, 2)
        for projection in ("to_q", "to_k", "to_v", "to_out.0")
    ),
    lora_rank=64,
    adam_epsilon=1e-4,
    learning_rate=1e-3,
    timestep_fraction=0.7,
    step_weighting="uniform",
    timesteps_per_update=2,
    max_kl=4e-3,
)
