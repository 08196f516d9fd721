"""Ids sort as they were made: jobs are sent, and lists are read, in that order."""

from __future__ import annotations

from server.models import new_id


def test_ids_of_one_moment_keep_their_order() -> None:
    made = [new_id() for _ in range(2_000)]
    assert made == sorted(set(made))
    assert {len(ident) for ident in made} == {32}
