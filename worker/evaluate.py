"""An evaluation: a chunk of held-out prompts drawn by one policy, a few at a time, and then scored."""

from __future__ import annotations

from d3po_core.params import DuelParams
from server.db import session_scope
from server.domain import measuring
from server.domain.jobs import Claim
from server.domain.recording import record_group
from worker import gpu
from worker.perform import Heartbeat
from worker.plan import adapter, fetch, stored
from worker.score import batches, scored

AT_ONCE = 8


def evaluate_policy(claim: Claim, beat: Heartbeat) -> None:
    """Draw first: a reward that has a model of its own takes the pipeline's place in memory, once."""
    draw(claim, beat)
    score(claim, beat)


def draw(claim: Claim, beat: Heartbeat) -> None:
    """One image an item, recorded without a trajectory and without a task."""
    from d3po_core.sampling import sample_duel

    plan = fetch(claim)
    first, items = plan.unrecorded([(prompt, seed) for prompt, seed in plan.payload["items"]])
    denoiser = gpu.policy(plan.base_model, adapter(plan.checkpoint_id))
    for start in range(0, len(items), AT_ONCE):
        batch = items[start : start + AT_ONCE]

        def observe(done: int, total: int, start: int = start, size: int = len(batch)) -> None:
            beat.observe(start * total + done * size, len(items) * total)

        images = sample_duel(denoiser, batch, plan.params(DuelParams), observe=observe)
        for place, ((prompt, seed), image) in enumerate(zip(batch, images, strict=True), start=first + start):
            drawn = stored(image, seed, plan.checkpoint_id)
            with session_scope() as session:
                record_group(
                    session, claim, position=place, prompt=prompt, trajectory_key=None, trajectory_sha256=None, images=[drawn],
                    task=False,
                )  # fmt: skip


def score(claim: Claim, beat: Heartbeat) -> None:
    with session_scope() as session:
        work = measuring.begin(session, claim)
    keys = [one.key for one in work.params.rewards]
    rewards = dict(zip(keys, gpu.rewards(work.params.rewards), strict=True))
    for batch in batches(work.groups):
        beat.check()
        scores = scored(batch, rewards)
        with session_scope() as session:
            measuring.record(session, claim, [group.group_id for group in batch], scores)
