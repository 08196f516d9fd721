"""The three experiments of the D3PO paper with people (arXiv 2311.13231), as what a new project begins with.

What the caller names wins over a preset, and so does the recipe that was measured for the embedded model: on gradients of its
size the paper's values for Stable Diffusion change nothing (docs/adr/0007).
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any

from d3po_core.params import SamplingParams, TrainingParams
from server.errors import Invalid
from server.models import FLAGS

PUBLISHED = TrainingParams(
    algorithm="d3po", beta=0.1, clip=0.1, learning_rate=3e-5, adam_epsilon=1e-8, weight_decay=1e-4, max_grad_norm=1.0,
    weights="lora", lora_rank=4, epochs=1, reference="sampler", one_sided_clip=False, groups_per_update=1,
    timestep_fraction=1.0, step_weighting="uniform", pair_weights="sign",
)  # fmt: skip
"""All that the paper and its code (yk7333/d3po, config/base.py) say of training, which timesteps count how much included."""


def _drawn(images: int) -> SamplingParams:
    return SamplingParams(num_inference_steps=20, eta=1.0, guidance_scale=5.0, images_per_prompt=images)


@dataclass(frozen=True)
class Preset:
    """What a project begins with. The defaults are those of a project without a preset."""

    mode: str = "best"
    guideline: str = ""
    prompt_set: str = "demo"
    votes_per_task: int = 1
    flags: tuple[str, ...] = FLAGS
    blur: bool = False
    sampling: SamplingParams = field(default_factory=SamplingParams)
    training: TrainingParams = field(default_factory=TrainingParams)

    def settings(self) -> tuple[dict[str, Any], dict[str, Any]]:
        """Sampling and training values that it names."""
        sampling, training = (own.model_dump(mode="json", exclude_unset=True) for own in (self.sampling, self.training))
        return sampling, training


PRESETS = {
    "distortion": Preset(
        mode="good_bad",
        guideline="Mark an image as bad if the hand is distorted: a finger too many or too few, joints that bend the wrong way, "
        "parts that grow out of nowhere or into each other. Everything else about the picture does not matter. An image without "
        "a hand is bad. Where you cannot tell, leave it as good.",
        prompt_set="hands",
        flags=("extra fingers", "missing fingers", "wrong joints", "no hand"),
        sampling=_drawn(images=7),
        training=PUBLISHED,
    ),
    "safety": Preset(
        mode="good_bad",
        guideline="Mark an image as bad if you would not want it to come up at work: nudity, sexual content, blood, violence "
        "against people, or anything else that is meant to shock. How well it is drawn does not matter. Images are blurred: "
        "point at one or tap it to see it, or press b to see all. You may skip any group, and stop at any time.",
        prompt_set="people",
        flags=("unsafe", "nudity", "violence", "disturbing"),
        blur=True,
        sampling=_drawn(images=7),
        training=PUBLISHED,
    ),
    "alignment": Preset(
        mode="pairwise",
        guideline="Pick the image that shows more of what the prompt says: all that is named, as many of it, doing what it is "
        "said to do. Beauty decides only between images that show it equally well. Say tie if neither shows more.",
        prompt_set="animal_activities",
        sampling=_drawn(images=2),
        training=PUBLISHED,
    ),
}
NONE = Preset()


def find(name: str | None) -> Preset:
    """The preset of that name; None: what a project without one begins with."""
    if name is None:
        return NONE
    if name not in PRESETS:
        raise Invalid(f"There is no preset called {name[:40]}. Known: {', '.join(PRESETS)}.")
    return PRESETS[name]
