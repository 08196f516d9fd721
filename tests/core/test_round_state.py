from __future__ import annotations

import pytest
import torch
from torch import nn

from d3po_core.round_state import Ema


def test_the_average_follows_the_weights_slower_the_longer_it_runs() -> None:
    weight = nn.Parameter(torch.zeros(1))
    ema = Ema([weight], decay=0.5)
    expected = 0.0
    for updates in range(12):
        weight.data.fill_(updates + 1.0)
        ema.update(updates)
        decay = min(0.5, (1 + updates) / (10 + updates))
        expected = decay * expected + (1 - decay) * (updates + 1.0)
        assert ema.average[0].item() == pytest.approx(expected, rel=1e-5)
    ema.apply()
    assert weight.item() == pytest.approx(expected, rel=1e-5)


def test_without_a_decay_the_weights_stay_the_last_ones() -> None:
    weight = nn.Parameter(torch.ones(1))
    ema = Ema([weight], decay=0.0)
    weight.data.fill_(3.0)
    ema.update(0)
    ema.apply()
    assert weight.item() == 3.0
