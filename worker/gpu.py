"""The one pipeline that this process holds, loaded once per base model, adapters switched in place; or the rewards.

A reward that has a model of its own does not share the device's memory with a pipeline: whichever is loaded drops the other.
"""

from __future__ import annotations

import os
import resource
import sys
from collections.abc import Sequence
from contextlib import suppress
from dataclasses import replace
from importlib import import_module
from pathlib import Path
from typing import TYPE_CHECKING

from d3po_core.rewards import ChosenReward, Reward, is_light, load_reward
from server.domain.rewards import loadable
from server.errors import Invalid
from server.settings import get_settings

if TYPE_CHECKING:
    from d3po_core.denoisers import Denoiser

STATUS, CLEAR_REFS = Path("/proc/self/status"), Path("/proc/self/clear_refs")
HUB_FIELDS = ("model", "tokenizer")
_loaded: dict[str, Denoiser] = {}
_rewards: dict[str, Reward] = {}


def policy(base_model: str, adapter: Path | None) -> Denoiser:
    """The denoiser of a named base model with `adapter` (a checkpoint's folder) switched on; None: the base model."""
    if base_model not in _loaded:
        release()
        _loaded[base_model] = load(base_model)
    denoiser = _loaded[base_model]
    denoiser.use_adapter(adapter)
    return denoiser


def load(base_model: str) -> Denoiser:
    """Raises ModelMissing when the folder is not there, Invalid when the settings do not name the model."""
    source = _source(base_model)
    use_threads()
    from d3po_core.denoisers import load_denoiser

    return load_denoiser(source, device=device())


def rewards(chosen: Sequence[ChosenReward]) -> list[Reward]:
    """Loaded once a process, under the names that were chosen.

    Raises Invalid where the settings do not know one, and what load_reward raises.
    """
    missing = {one.key: (one, *loadable(one)) for one in chosen if one.key not in _rewards}
    if not all(is_light(kind) for _, kind, _ in missing.values()):
        release()
        missing |= {one.key: (one, *loadable(one)) for one in chosen}
    use_threads()
    for key, (one, kind, parameters) in missing.items():
        _rewards[key] = replace(load_reward(kind, device(), **parameters), name=one.name)
    return [_rewards[one.key] for one in chosen]


def release() -> None:
    """Give the memory back, before another model or a training process needs it."""
    if _loaded or _rewards:
        import torch

        _loaded.clear()
        _rewards.clear()
        torch.cuda.empty_cache()


def device() -> str:
    import torch

    wanted = get_settings().device
    return wanted if wanted != "auto" else "cuda" if torch.cuda.is_available() else "cpu"


def use_threads() -> None:
    import torch

    if wanted := get_settings().torch_threads:
        torch.set_num_threads(wanted)


def threads() -> int:
    """What the settings say, else OMP_NUM_THREADS, else every core."""
    import torch

    use_threads()
    return torch.get_num_threads()


def peak_bytes() -> int:
    """The most memory in use at once since `forget_peak`: of the CUDA device, else of this process."""
    import torch

    if device().startswith("cuda"):
        return torch.cuda.max_memory_reserved()
    unit = 1 if sys.platform == "darwin" else 1024
    return _highest_resident() or resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * unit


def forget_peak() -> None:
    """Start anew; where the system does not, or does not let us, the peak is that of the whole process so far."""
    import torch

    if device().startswith("cuda"):
        torch.cuda.reset_peak_memory_stats()
        return
    with suppress(OSError):
        CLEAR_REFS.write_text("5")  # proc(5): resets VmHWM


def _highest_resident() -> int:
    status = STATUS.read_text() if STATUS.exists() else ""
    return sum(int(line.split()[1]) * 1024 for line in status.splitlines() if line.startswith("VmHWM:"))


def stay_offline() -> None:
    """Forbid every download where all models are local folders; to be called before the first heavy import."""
    registered = [definition.get(field) for definition in get_settings().rewards.values() for field in HUB_FIELDS]
    sources = [*get_settings().base_models.values(), *filter(None, registered)]
    if all(Path(source).is_absolute() for source in sources):
        os.environ["HF_HUB_OFFLINE"] = "1"


def warm_up() -> None:
    """Import what the first job needs, so that it starts at once; a log wants no progress bars."""
    stay_offline()
    use_threads()
    for library in ("diffusers", "transformers"):
        import_module(f"{library}.utils.logging").disable_progress_bar()
    from diffusers import StableDiffusionPipeline  # noqa: F401

    import d3po_core.sampling  # noqa: F401


def _source(base_model: str) -> str:
    sources = get_settings().base_models
    if base_model not in sources:
        raise Invalid(
            f"The base model {base_model!r} is not registered on this worker. "
            "Let D3PO_BASE_MODELS name a folder or hub id for it and restart the worker."
        )
    return str(sources[base_model])
