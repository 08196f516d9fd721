"""The settings of a training round as form fields, taken from TrainingParams so that the form never disagrees with it. The
values in them are the project's."""

from __future__ import annotations

from dataclasses import dataclass

from d3po_core.params import TrainingParams
from server.pages.wording import LABELS

SHOWN = ("beta", "clip", "learning_rate", "epochs", "lora_rank", "timesteps_per_update")
ALGORITHMS = {
    "d3po": "D3PO",
    "ddpo": "DDPO, on the share of comparisons won",
    "dpok": "DPOK, on the share of comparisons won",
    "rwr": "reward-weighted regression, on the share of comparisons won",
    "sft": "fine-tuning on the preferred",
}
PAIR_WEIGHTS = {
    "margin": "by the margin of the votes",
    "sign": "all alike, by the majority (as published)",
    "reliability": "by how reliable each person is",
}


@dataclass(frozen=True)
class NumberField:
    name: str
    label: str
    min: float | None
    max: float | None
    step: str


def _field(name: str) -> NumberField:
    field = TrainingParams.model_json_schema()["properties"][name]
    schema = next(kind for kind in field.get("anyOf", [field]) if kind["type"] != "null")
    low, high = schema.get("minimum", schema.get("exclusiveMinimum")), schema.get("maximum", schema.get("exclusiveMaximum"))
    return NumberField(name, LABELS[name], low, high, "1" if schema["type"] == "integer" else "any")


TRAINING_FIELDS = [_field(name) for name in SHOWN]
