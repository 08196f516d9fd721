"""The one pipeline that this process holds: loaded once per base model, adapters switched in place."""

from __future__ import annotations

import os
import resource
import sys
from contextlib import suppress
from importlib import import_module
from pathlib import Path
from typing import TYPE_CHECKING

from server.errors import Invalid
from server.settings import get_settings

if TYPE_CHECKING:
    from d3po_core.denoisers import Denoiser

STATUS, CLEAR_REFS = Path("/proc/self/status"), Path("/proc/self/clear_refs")
_loaded: dict[str, Denoiser] = {}


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


def release() -> None:
    """Give the memory back, before another model or a training process needs it."""
    if _loaded:
        import torch

        _loaded.clear()
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
    """Forbid every download where all base models are local folders; to be called before the first heavy import."""
    if all(Path(source).is_absolute() for source in get_settings().base_models.values()):
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
