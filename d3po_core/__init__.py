"""D3PO: train diffusion models directly on preferences. Arguments in, files out; no database, no HTTP, no queue.

Names are imported on first use, so that torch-free modules (params, preferences, prompts, errors) stay torch-free.
"""

import os
from importlib import import_module
from typing import Any

# Nothing is told to anybody: ONNX Runtime, which diffusers imports wherever it is installed, reports to its maker otherwise.
os.environ.setdefault("ORT_DISABLE_TELEMETRY", "1")

_EXPORTS = {
    "SamplingParams": "params",
    "TrainingParams": "params",
    "DuelParams": "params",
    "Pair": "preferences",
    "Preference": "preferences",
    "pairs_from": "preferences",
    "load_denoiser": "denoisers",
    "sample_groups": "sampling",
    "sample_duel": "sampling",
    "verify": "sampling",
    "Trajectory": "trajectory",
    "TrainingGroup": "plan",
    "train_round": "training",
}

__all__ = list(_EXPORTS)


def __getattr__(name: str) -> Any:
    if name not in _EXPORTS:
        raise AttributeError(f"module 'd3po_core' has no attribute {name!r}")
    return getattr(import_module(f"d3po_core.{_EXPORTS[name]}"), name)
