"""Copies between host and accelerator for which neither waits. On the CPU they are no copies at all."""

from __future__ import annotations

import torch
from torch import Tensor


def to_device(tensor: Tensor, device: torch.device) -> Tensor:
    """`tensor` on `device`; to CUDA through pinned memory, queued behind what the device already has to do."""
    if device.type == "cuda" and not tensor.is_cuda:
        return tensor.pin_memory().to(device, non_blocking=True)
    return tensor.to(device)


class Reading:
    """A tensor on its way to the host. `get()` waits until the tensor was computed, not for what was queued after it."""

    def __init__(self, tensor: Tensor) -> None:
        self._copy = tensor.to("cpu", non_blocking=tensor.is_cuda)
        self._arrived = torch.cuda.current_stream(tensor.device).record_event() if tensor.is_cuda else None

    def get(self) -> Tensor:
        if self._arrived is not None:
            self._arrived.synchronize()
        return self._copy
