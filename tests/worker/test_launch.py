"""The training child under accelerate, and what its parent makes of its lines and of its end."""

from __future__ import annotations

import io
import sys
import time
from pathlib import Path
from typing import Any

import pytest
from sqlalchemy import select

from d3po_core.preferences import Crowd
from server.db import read_scope, session_scope
from server.domain import jobs
from server.domain.jobs import Claim, LostClaim
from server.leash import leashed
from server.models import Checkpoint, Job, Metric, Round, State, User
from server.settings import get_settings
from tests.worker.conftest import ended, groups_of, jobs_of
from worker import launch, tasks
from worker.perform import Broken, Heartbeat
from worker.plan import storage
from worker.train import crowd_of


def rows(query: Any) -> list[Any]:
    with read_scope() as session:
        return list(session.scalars(query))


@pytest.fixture
def claim(training_round: Round) -> Claim:
    with session_scope() as session:
        claim = jobs.claim(session, jobs_of(training_round)[0].id, "here:1")
    assert claim is not None
    return claim


@pytest.fixture
def child_runs(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Any:
    """Puts a Python script in the training child's place; it finds the checkpoint's folder in sys.argv[1]."""

    def put(script: str) -> None:
        path = tmp_path / "child.py"
        path.write_text(script)
        monkeypatch.setattr(
            launch, "_command", lambda round_id, folder, parent: leashed([sys.executable, str(path), str(folder)])
        )

    return put


def test_a_training_round_end_to_end(training_round: Round) -> None:
    tasks.train(jobs_of(training_round)[0].id)
    assert ended(training_round) == (State.DONE, "")
    [made] = rows(select(Checkpoint).where(Checkpoint.round_id == training_round.id))
    assert sorted(path.name for path in storage().checkpoint(made.key).iterdir()) == [
        "manifest.json",
        "pytorch_lora_weights.safetensors",
    ]
    assert (made.number, made.parent_id, made.manifest["groups"], made.manifest["pairs"]) == (1, None, 3, 3)
    metrics = rows(select(Metric).where(Metric.round_id == training_round.id).order_by(Metric.step))
    assert [metric.step for metric in metrics] == list(range(1, made.manifest["updates"] + 1))
    assert {"loss", "pair_accuracy", "kl"} <= metrics[0].values.keys()
    assert len(groups_of(training_round)) == tasks.GALLERY_PROMPTS
    assert not any((storage().root / "scratch").iterdir())


@pytest.mark.heavy
def test_a_round_weighed_by_reliability_keeps_whom_it_took_for_how_reliable(
    training_round: Round, alice: User, monkeypatch: pytest.MonkeyPatch
) -> None:
    with session_scope() as session:
        row = session.get_one(Round, training_round.id)
        row.params = row.params | {"pair_weights": "reliability"}
    tasks.train(jobs_of(training_round)[0].id)
    assert ended(training_round) == (State.DONE, "")
    [row] = rows(select(Round).where(Round.id == training_round.id))
    kept = {"population": 0.75, "people": {alice.id: {"votes": 3, "shared": 0, "reliability": 0.75}}}
    assert row.params["reliability"] == kept

    told = io.StringIO()
    with session_scope() as session:
        changed = {**kept, "people": {alice.id: {"votes": 3, "shared": 0, "reliability": 0.9}}}
        session.get_one(Round, training_round.id).params = row.params | {"reliability": changed}
    assert crowd_of(training_round.id, told) == Crowd(0.75, {alice.id: 0.9}), "another attempt estimated anew"
    assert told.getvalue() == ""


def test_a_missing_model_is_told_by_the_child_in_a_sentence(
    training_round: Round, claim: Claim, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("D3PO_BASE_MODELS", '{"tiny": "/no/such/folder"}')
    get_settings.cache_clear()
    with Heartbeat(claim) as beat, pytest.raises(Broken, match="The base model /no/such/folder is not there") as broken:
        launch.train(claim, beat, None)
    assert not broken.value.retry


def test_a_child_that_dies_is_worth_another_attempt(claim: Claim, child_runs: Any) -> None:
    child_runs("import os; os.kill(os.getpid(), 9)")
    with Heartbeat(claim) as beat, pytest.raises(Broken, match="ended by itself with code -9") as broken:
        launch.train(claim, beat, None)
    assert broken.value.retry


def test_the_next_attempt_goes_on_from_what_the_last_one_saved(claim: Claim, child_runs: Any) -> None:
    child_runs("import pathlib, sys; pathlib.Path(sys.argv[1] + '.state').write_text('half way'); sys.exit(1)")
    with Heartbeat(claim) as beat, pytest.raises(Broken):
        launch.train(claim, beat, None)
    with session_scope() as session:
        jobs.fail(session, claim, "It broke.", retry=True)
    with session_scope() as session:
        second = jobs.claim(session, claim.job_id, "here:1")
    assert second is not None
    child_runs(
        "import pathlib, sys\n"
        "folder = pathlib.Path(sys.argv[1]); folder.mkdir()\n"
        "state = pathlib.Path(sys.argv[1] + '.state').read_text()\n"
        "(folder / 'manifest.json').write_text('{\"from\": \"%s\"}' % state)\n"
    )
    with Heartbeat(second) as beat:
        key, manifest = launch.train(second, beat, None)
    assert (key, manifest) == (f"{claim.round_id}-2", {"from": "half way"})
    assert storage().checkpoint(key).is_dir()
    assert list((storage().root / "scratch").iterdir()) == []


def test_an_attempt_takes_over_from_the_latest_that_left_something(claim: Claim) -> None:
    """The second attempt died before it had a folder, the third while it copied; the first one's is still there."""
    first, third = (storage().scratch(claim.job_id, attempt) for attempt in (1, 3))
    first.mkdir(parents=True)
    (first / "checkpoint.state").write_text("half way")
    third.with_suffix(".copy").mkdir()
    folder = launch._scratch(Claim(claim.job_id, claim.round_id, 4))
    assert (folder / "checkpoint.state").read_text() == "half way"
    assert storage().attempts(claim.job_id) == [folder]
    assert launch._scratch(Claim(claim.job_id, claim.round_id, 2)) != folder
    assert (folder / "checkpoint.state").exists(), "a worker that slept past its lease took another's folder away"


def test_a_cancelled_round_ends_its_child_even_if_it_ignores_sigterm(
    claim: Claim, child_runs: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(launch, "GRACE_SECONDS", 0.2)
    child_runs(
        "import json, os, signal, time\n"
        "signal.signal(signal.SIGTERM, signal.SIG_IGN)\n"
        "print(json.dumps({'step': os.getpid(), 'total': 9, 'values': {'loss': float('nan')}}), flush=True)\n"
        "time.sleep(60)\n"
    )
    beat = Heartbeat(claim)
    monkeypatch.setattr(beat, "observe", lambda done, total: _cancel(claim))
    with beat, pytest.raises(LostClaim):
        launch.train(claim, beat, None)
    assert not [path for path in Path("/proc").glob("[0-9]*/cmdline") if b"child.py" in _read(path)]


def _cancel(claim: Claim) -> None:
    with session_scope() as session:
        session.get_one(Job, claim.job_id).state = State.CANCELLED


def _read(path: Path) -> bytes:
    try:
        return path.read_bytes()
    except (FileNotFoundError, ProcessLookupError):  # the process ended while the folder was listed
        return b""


def test_a_number_that_is_no_number_becomes_a_gap_in_the_plot(claim: Claim, child_runs: Any) -> None:
    child_runs(
        "import json, pathlib, sys\n"
        "print(json.dumps({'step': 1, 'total': 1, 'values': {'loss': float('nan'), 'kl': 0.5}, 'memory_bytes': 7}))\n"
        "folder = pathlib.Path(sys.argv[1]); folder.mkdir(); (folder / 'manifest.json').write_text('{}')\n"
    )
    with Heartbeat(claim) as beat:
        launch.train(claim, beat, None)
    assert beat.memory_bytes == 7
    [values] = rows(select(Metric.values))
    assert values == {"loss": None, "kl": 0.5, "at": pytest.approx(time.time(), abs=60)}
