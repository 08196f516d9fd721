"""The parent's side of training: starts the child under `accelerate launch`, relays its lines, stops it when told to."""

from __future__ import annotations

import json
import math
import os
import queue
import shutil
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import IO, Any

from d3po_core.files import sync_folder
from server.db import session_scope
from server.domain import reliability
from server.domain.jobs import Claim
from server.domain.recording import record_metrics
from server.leash import leashed
from worker import gpu
from worker.perform import Broken, Heartbeat
from worker.plan import storage

POLL_SECONDS = 0.5
FLUSH_SECONDS = 1.0
GRACE_SECONDS = 10.0
Line = dict[str, Any]


def train(claim: Claim, beat: Heartbeat, parent: Path | None) -> tuple[str, dict[str, Any]]:
    """Runs the round's training to its end; returns the new checkpoint's storage key and manifest."""
    scratch = _scratch(claim)
    made = scratch / "checkpoint"
    with child(_command(claim.round_id, made, parent)) as process:
        _relay(claim, beat, process)
    manifest = json.loads((made / "manifest.json").read_text())
    key = f"{claim.round_id}-{claim.attempt}"
    target = storage().checkpoint(key)
    target.parent.mkdir(parents=True, exist_ok=True)
    made.rename(target)
    sync_folder(target.parent)
    shutil.rmtree(scratch.parent)
    return key, manifest


def _scratch(claim: Claim) -> Path:
    """This attempt's own folder, begun with what the latest attempt before left, so that training goes on from there.

    A copy, because whoever slept past its lease may still write to the old folder, which goes once the new one is whole.
    """
    folder = storage().scratch(claim.job_id, claim.attempt)
    earlier = [path for path in storage().attempts(claim.job_id) if int(path.name) < claim.attempt]
    copy = folder.with_suffix(".copy")
    if earlier:
        shutil.copytree(earlier[-1], copy)
        copy.rename(folder)
    folder.mkdir(parents=True, exist_ok=True)
    for path in earlier:
        shutil.rmtree(path, ignore_errors=True)
    return folder


def _command(round_id: str, folder: Path, parent: Path | None) -> list[str]:
    flags = ["--num_processes", "1", "--num_machines", "1", "--mixed_precision", "no", "--dynamo_backend", "no"]
    flags += ["--num_cpu_threads_per_process", str(gpu.threads()), *(["--cpu"] if gpu.device() == "cpu" else [])]
    script = ["-m", "worker.train", round_id, str(folder), *([str(parent)] if parent else [])]
    return leashed([sys.executable, "-m", "accelerate.commands.launch", *flags, *script])


@contextmanager
def child(command: list[str]) -> Iterator[subprocess.Popen[str]]:
    """A process group of its own that is gone afterwards: SIGTERM, then SIGKILL."""
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True, start_new_session=True) as process:
        try:
            yield process
        finally:
            _end(process)


def _end(process: subprocess.Popen[str]) -> None:
    for number in (signal.SIGTERM, signal.SIGKILL):
        if process.poll() is not None:
            return
        os.killpg(process.pid, number)
        try:
            process.wait(GRACE_SECONDS)
        except subprocess.TimeoutExpired:
            continue


def _relay(claim: Claim, beat: Heartbeat, process: subprocess.Popen[str]) -> None:
    """Turns the child's lines into progress and metrics until it ends; raises Broken with its sentence."""
    rows: dict[int, dict[str, Any]] = {}
    flushed = time.monotonic()
    for line in _lines(process, beat):
        if "error" in line:
            raise Broken(line["error"], line["retry"], line.get("trace", ""))
        if "reliability" in line:
            with session_scope() as session:
                reliability.record(session, claim, line["reliability"])
            continue
        beat.observe(line["step"], line["total"])
        beat.memory_bytes = max(beat.memory_bytes, line.get("memory_bytes", 0))
        rows[line["step"]] = {name: _finite(value) for name, value in line["values"].items()} | {"at": round(time.time(), 3)}
        if time.monotonic() - flushed > FLUSH_SECONDS:
            _flush(claim, rows)
            flushed = time.monotonic()
    _flush(claim, rows)
    if code := process.wait():
        raise Broken(
            f"The training process ended by itself with code {code}; out of memory is the usual reason, the worker's log tells.",
            retry=True,
        )


def _lines(process: subprocess.Popen[str], beat: Heartbeat) -> Iterator[Line]:
    """The child's JSON lines as they come; in between, raises LostClaim once the work must stop."""
    lines: queue.Queue[str | None] = queue.Queue()
    threading.Thread(target=_pump, args=(process.stdout, lines), daemon=True).start()
    while True:
        beat.check()
        try:
            line = lines.get(timeout=POLL_SECONDS)
        except queue.Empty:
            continue
        if line is None:
            return
        yield json.loads(line)


def _pump(stdout: IO[str], lines: queue.Queue[str | None]) -> None:
    for line in stdout:
        lines.put(line)
    lines.put(None)


def _flush(claim: Claim, rows: dict[int, dict[str, Any]]) -> None:
    if rows:
        with session_scope() as session:
            record_metrics(session, claim, rows)
        rows.clear()


def _finite(value: Any) -> Any:
    """JSON has no NaN; a plot shows a gap instead."""
    return None if isinstance(value, float) and not math.isfinite(value) else value
