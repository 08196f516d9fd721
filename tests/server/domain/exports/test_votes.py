"""Votes, one a line."""

from __future__ import annotations

import json

from sqlalchemy.orm import Session

from server.models import Project
from server.storage import Storage
from tests.databases import on_both_databases
from tests.server.domain.exports.conftest import exported

pytestmark = on_both_databases


def test_every_stored_vote_with_what_it_was_about(session: Session, storage: Storage, project: Project) -> None:
    votes = [json.loads(line) for line in exported(session, storage, project, "votes").splitlines()]
    assert sorted((vote["prompt"], vote["annotator"], vote["outcome"], vote["counted"]) for vote in votes) == [
        (prompt, *rest)
        for prompt in ("a cat", "a dog")
        for rest in (("Bob", "retracted", False), ("Bob", "tie", False), ("Ålice", "best", True))
    ]
    assert [vote["received_at"] for vote in votes] == sorted(vote["received_at"] for vote in votes)
    best = next(vote for vote in votes if vote["outcome"] == "best")
    assert best["best_image_id"] == best["image_ids"][0]
    assert best["flags"] == {best["image_ids"][0]: ["zu dunkel"]}
    retracted = next(vote for vote in votes if vote["outcome"] == "retracted")
    assert retracted["supersedes"] in {vote["vote_id"] for vote in votes}
    assert set(best) == {
        "annotator", "best_image_id", "counted", "criterion", "decided_at", "flags", "group", "image_ids", "is_gold", "outcome",
        "project", "prompt", "ranking", "ratings", "received_at", "round", "shown_at", "shown_order", "supersedes",
        "task", "vote_id",
    }  # fmt: skip
