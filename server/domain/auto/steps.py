"""Which rounds an auto round launches, in which order. Pure: no database."""

from __future__ import annotations

from collections.abc import Iterator

LEARNING = ("sample", "reward", "training")
Step = tuple[str, int]
"""The kind of a round and its epoch. Epoch 0 is the policy that the auto round began with: evaluated, not trained."""
FIRST: Step = ("evaluation", 0)


def steps(epochs: int, evaluate_every: int) -> Iterator[Step]:
    """Every round of so many epochs. The last epoch is evaluated too, wherever it ends."""
    yield FIRST
    for epoch in range(1, epochs + 1):
        for kind in LEARNING:
            yield kind, epoch
        if epoch % evaluate_every == 0 or epoch == epochs:
            yield "evaluation", epoch
