"""What a prompt tells a model, whatever its family: tensors under diffusers' own names, stored once a group."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Sequence

import torch
from torch import Tensor

from d3po_core.errors import BadParams
from d3po_core.transfer import to_device


@dataclasses.dataclass(frozen=True)
class Conditioning:
    """Embeddings of one prompt, or of a batch with a leading dimension B; None where a family has no such tensor.

    prompt_embeds, negative_prompt_embeds [L,D]: the text encoders' states of the prompt and of the empty prompt (no negative
    for FLUX). pooled_prompt_embeds, negative_pooled_prompt_embeds [P]: SDXL, SD3 and FLUX. time_ids [6]: SDXL's original
    height and width, crop top and left, target height and width. All in the text encoder's dtype.
    """

    prompt_embeds: Tensor
    negative_prompt_embeds: Tensor | None = None
    pooled_prompt_embeds: Tensor | None = None
    negative_pooled_prompt_embeds: Tensor | None = None
    time_ids: Tensor | None = None

    def tensors(self) -> dict[str, Tensor]:
        """Those that are there, by name."""
        return {name: tensor for name, tensor in vars(self).items() if tensor is not None}

    def expand(self, count: int) -> Conditioning:
        """One prompt's tensors as a batch of `count` equal rows, without copying them."""
        return self._map(lambda tensor: tensor.expand(count, *tensor.shape))

    def to(self, device: torch.device) -> Conditioning:
        return self._map(lambda tensor: to_device(tensor, device))

    def with_negative(self) -> Conditioning:
        """The batch of classifier-free guidance, [2B,...]: the negative block, then the positive block, for every tensor.

        Raises BadParams where there is no negative prompt.
        """
        if self.negative_prompt_embeds is None:
            raise BadParams("Guidance above 1 needs negative_prompt_embeds, and this conditioning has none.")
        tensors = self.tensors()
        negative = {name: tensors.get(f"negative_{name}", tensor) for name, tensor in tensors.items()}
        positive = [name for name in tensors if not name.startswith("negative_")]
        return Conditioning(**{name: torch.cat([negative[name], tensors[name]]) for name in positive})

    def _map(self, change: Callable[[Tensor], Tensor]) -> Conditioning:
        return Conditioning(**{name: change(tensor) for name, tensor in self.tensors().items()})


def stack(parts: Sequence[Conditioning]) -> Conditioning:
    """A batch of the single prompts `parts`, all of one family."""
    names = parts[0].tensors()
    return Conditioning(**{name: torch.stack([part.tensors()[name] for part in parts]) for name in names})
