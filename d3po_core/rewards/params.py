"""What each reward can be told. No torch, so that the server can validate it."""

from __future__ import annotations

from d3po_core.params import Params


class NoParams(Params):
    """Nothing to choose."""
