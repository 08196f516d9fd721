"""What attempts that came to nothing left on disk: once their round is over, whatever no row points at goes.

The round's lock is held meanwhile, so no retry begins; and a worker that slept past its lease can record nothing, whatever
it still writes. So no row can come to point at what is removed.
"""

from __future__ import annotations

from datetime import datetime, timedelta

from sqlalchemy import or_, select
from sqlalchemy.orm import Session

from server.domain.rounds import ACTIVE
from server.models import Checkpoint, Group, Job, Round, State, now
from server.storage import Storage

RETRY_GOES_ON_FOR = timedelta(days=7)
"""How long a training that failed or was cancelled keeps its state, for a retry to go on from."""


def over_since(session: Session, since: datetime) -> list[str]:
    """Rounds that ended since then; and those of training that did not succeed, whose state is kept for a while after it."""
    may_go_on = (Round.kind == "training") & Round.state.in_((State.FAILED, State.CANCELLED))
    kept_until = Round.finished_at >= since - RETRY_GOES_ON_FOR
    over = Round.state.not_in(ACTIVE) & or_(Round.finished_at >= since, may_go_on & kept_until)
    return list(session.scalars(select(Round.id).where(over).order_by(Round.id)))


def clear(session: Session, storage: Storage, round_id: str) -> int:
    """Drops them into the trash, for `storage.empty_trash` once the lock is gone; returns how many files and folders.

    A round that runs again is left alone.
    """
    round_ = session.get_one(Round, round_id, with_for_update=True, populate_existing=True)
    if round_.state in ACTIVE:
        return 0
    scratch = [job.id for job in session.scalars(select(Job).where(Job.round_id == round_id)) if not _may_go_on(job)]
    groups = select(Group.trajectory_key).where(Group.round_id == round_id, Group.trajectory_key.is_not(None))
    made = select(Checkpoint.key).where(Checkpoint.round_id == round_id)
    unkept = storage.drop_unkept(round_id, trajectories=set(session.scalars(groups)), checkpoints=set(session.scalars(made)))
    return unkept + sum(storage.drop_scratch(job_id) for job_id in scratch)


def _may_go_on(job: Job) -> bool:
    ended = job.finished_at or now()
    return job.state != State.DONE and ended > now() - RETRY_GOES_ON_FOR
