"""What a request for a round refuses before it does any work."""

from __future__ import annotations

import pytest
from sqlalchemy.orm import Session

from d3po_core.params import DuelParams
from server.domain import launching, rounds
from server.errors import TooLarge
from tests import factories


def test_a_duel_that_is_too_large_is_counted_and_not_built(session: Session, monkeypatch: pytest.MonkeyPatch) -> None:
    project = factories.project()
    boss, made = factories.operator(project), factories.checkpoint(project)
    monkeypatch.setattr(launching, "product", lambda *_: pytest.fail("The comparisons were built before they were counted."))
    prompts, seeds = [f"cat {number}" for number in range(11)], list(range(1_000))
    with pytest.raises(TooLarge, match="at most 10,000 comparisons, this is 11,000"):
        rounds.request_duel_round(session, boss, project, DuelParams(seeds=seeds), made.id, "base", prompts)
