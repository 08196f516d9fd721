"""What the cost benchmarks compare is what they say: the published loop's passes, ours, and the bare floor's, by count."""

from __future__ import annotations

from collections.abc import Callable
from itertools import combinations
from pathlib import Path
from typing import Any

import pytest
import torch

from benchmarks.train_cost import Bench
from d3po_core.denoisers import load_denoiser
from d3po_core.preferences import Pair

pytestmark = pytest.mark.heavy
STEPS = 6
MODES = {
    "full ranking": (7, [Pair(*pair) for pair in combinations(range(7), 2)], 9.0),
    "best": (7, [Pair(0, other) for other in range(1, 7)], 2.6),
    "pairwise": (2, [Pair(0, 1)], 1.5),
}


class Counting(torch.nn.Module):
    """The network, counting the samples that it evaluates with and without a gradient to follow."""

    def __init__(self, network: Any) -> None:
        super().__init__()
        self.network = network
        self.batches = {True: list[int](), False: list[int]()}

    def forward(self, latents: torch.Tensor, *given: Any, **named: Any) -> Any:
        self.batches[torch.is_grad_enabled()].append(len(latents))
        return self.network(latents, *given, **named)

    def __deepcopy__(self, memo: dict[int, Any]) -> Counting:
        return self


@pytest.mark.parametrize("mode", MODES)
def test_passes_of_the_published_loop_of_ours_and_of_the_floor(tiny_model: Path, tmp_path: Path, mode: str) -> None:
    images, pairs, cheaper = MODES[mode]
    denoiser = load_denoiser(tiny_model)
    network = Counting(denoiser.network)
    bench = Bench(denoiser, tmp_path, images, pairs, STEPS, "lora")
    denoiser.network = bench.loop.policy = bench.loop.reference = network

    def counted(work: Callable[[], object]) -> tuple[list[int], list[int]]:
        network.batches = {True: [], False: []}
        work()
        return network.batches[True], network.batches[False]

    with_gradient, without = counted(lambda: [bench.published(pair) for pair in pairs])
    assert with_gradient == without == [2] * (len(pairs) * STEPS * 2)  # policy and reference of either image, both CFG branches
    floor, none = counted(bench.floor)
    assert (floor, none) == ([2 * images] * STEPS, [])
    ours, exact = counted(bench.ours)
    assert sorted(ours) == sorted([2] + [2 * images] * (STEPS - 1))
    assert len(exact) == 1  # the exact KL of one item of the first of three updates
    work = (sum(without) + 2 * sum(with_gradient)) / (2 * sum(floor))  # a backward pass of a LoRA costs a forward pass
    assert work == pytest.approx(cheaper, abs=0.05)
