"""Scoring a chunk of groups: batches of stored images through the rewards, one transaction a group."""

from __future__ import annotations

from collections.abc import Iterator, Sequence

from d3po_core.rewards import Reward, stored_image
from server.db import session_scope
from server.domain import scoring
from server.domain.jobs import Claim
from server.domain.scoring import GroupToScore, Scores
from worker import gpu
from worker.perform import Heartbeat
from worker.plan import storage

BATCH = 16
"""Images at once, or one group where it has more."""


def score_groups(claim: Claim, beat: Heartbeat) -> None:
    with session_scope() as session:
        work = scoring.begin(session, claim)
    chosen, done = work.params.rewards, work.done
    rewards = gpu.rewards(chosen)
    for batch in batches(work.groups):
        beat.check()
        scores = scored(batch, dict(zip((one.key for one in chosen), rewards, strict=True)))
        for group in batch:
            done += len(group.images)
            with session_scope() as session:
                scoring.record(session, claim, group.group_id, scores, done)


def batches(groups: Sequence[GroupToScore]) -> Iterator[list[GroupToScore]]:
    batch: list[GroupToScore] = []
    for group in groups:
        if batch and sum(len(one.images) for one in [*batch, group]) > BATCH:
            yield batch
            batch = []
        batch.append(group)
    if batch:
        yield batch


def scored(groups: Sequence[GroupToScore], rewards: dict[str, Reward]) -> Scores:
    """The stored pixels of all images, scored by every reward that has not scored them yet."""
    scores: Scores = {image_id: {} for group in groups for image_id, _ in group.images}
    for key, reward in rewards.items():
        new = [(group, *image) for group in groups for image in group.images if key not in group.known[image[0]]]
        pictures = [stored_image(storage().image(sha256)) for _, _, sha256 in new]
        for (_, image_id, _), value in zip(new, reward.score(pictures, [group.prompt for group, _, _ in new]), strict=True):
            scores[image_id][key] = value
    return scores
