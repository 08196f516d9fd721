"""What a ballot takes, before any task is asked."""

from __future__ import annotations

import math
import uuid

import pytest
from pydantic import ValidationError

from server.domain.ballots import Ballot


@pytest.mark.parametrize("number", [math.nan, math.inf, 1e101, -1e308])
def test_a_rating_is_a_number_that_can_be_added_up(number: float) -> None:
    with pytest.raises(ValidationError):
        Ballot(vote_id=str(uuid.uuid4()), outcome="rated", ratings={"x": [number]})
