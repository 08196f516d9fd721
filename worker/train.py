"""The training child, run under `accelerate launch`: `python -m worker.train ROUND_ID FOLDER [PARENT_FOLDER]`.

Reads the round's frozen votes from the database, trains into FOLDER and writes one JSON line a step on stdout. It changes
no row: its parent holds the claim, writes the metrics and cancels by signal.
"""

from __future__ import annotations

import json
import logging
import os
import sys
import traceback
from dataclasses import asdict
from pathlib import Path
from typing import IO, Any

from d3po_core.params import TrainingParams
from d3po_core.preferences import Crowd
from d3po_core.reliability import estimate
from server.db import read_scope
from server.domain import reliability
from server.domain.pairs import frozen_groups, training_groups
from server.leash import die_with_parent
from server.models import Project, Round
from worker import gpu
from worker.perform import explain
from worker.plan import picked, storage

log = logging.getLogger(__name__)


def main(round_id: str, folder: Path, parent: Path | None) -> int:
    die_with_parent(os.getppid())
    report = own_stdout()
    try:
        run(round_id, folder, parent, report)
    except Exception as error:
        log.exception("Training round %s broke.", round_id)
        sentence, retry = explain(error)
        write_line(report, error=sentence, retry=retry, trace=traceback.format_exc())
        return 1
    return 0


def run(round_id: str, folder: Path, parent: Path | None, report: IO[str]) -> None:
    gpu.stay_offline()
    from d3po_core.plan import TrainingGroup
    from d3po_core.training import train_round

    crowd = crowd_of(round_id, report)
    with read_scope() as session:
        round_ = session.get_one(Round, round_id)
        base_model = session.get_one(Project, round_.project_id).base_model
        rows = training_groups(session, round_, crowd)
    groups = [
        TrainingGroup(storage().trajectory(row.trajectory_key), row.trajectory_sha256, row.pairs, row.scores, row.weight)
        for row in rows
    ]

    def observe(step: int, total: int, values: dict[str, Any]) -> None:
        write_line(report, step=step, total=total, values=values, memory_bytes=gpu.peak_bytes())

    train_round(gpu.load(base_model), groups, picked(TrainingParams, round_.params), folder, parent=parent, observe=observe)


def crowd_of(round_id: str, report: IO[str]) -> Crowd | None:
    """How reliable the round's people are, if its pairs weigh by it: as recorded, else estimated now and reported."""
    with read_scope() as session:
        round_ = session.get_one(Round, round_id)
        if round_.params.get("pair_weights") != "reliability":
            return None
        if (crowd := reliability.known(round_)) is not None:
            return crowd
        said = [(preferences, len(group.images)) for group, preferences in frozen_groups(session, round_)]
    estimated = estimate(said)
    write_line(report, reliability=asdict(estimated))
    return estimated.crowd


def own_stdout() -> IO[str]:
    """The pipe to the parent, kept apart from whatever a library prints."""
    report = os.fdopen(os.dup(sys.stdout.fileno()), "w", buffering=1)
    os.dup2(sys.stderr.fileno(), sys.stdout.fileno())
    return report


def write_line(report: IO[str], **line: Any) -> None:
    report.write(json.dumps(line) + "\n")
    report.flush()


if __name__ == "__main__":
    sys.exit(main(sys.argv[1], Path(sys.argv[2]), Path(sys.argv[3]) if sys.argv[3:] else None))
