"""Rounds in real processes: killed and continued, and shared by two."""

from __future__ import annotations

import os
import signal
import socket
import subprocess
import sys
from dataclasses import replace
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file

from d3po_core import training
from d3po_core.checkpoint import MANIFEST, STATISTICS
from d3po_core.denoisers import Denoiser
from d3po_core.denoisers.base import WEIGHTS
from d3po_core.plan import TrainingGroup
from d3po_core.preferences import Pair
from d3po_core.training import train_round
from tests.core.conftest import TRAINING, Sampled
from tests.core.train_child import Recorder, write_job

CHILD = ["-m", "tests.core.train_child"]
LAUNCH = ["-m", "accelerate.commands.launch", "--multi_gpu", "--num_processes", "2", "--num_machines", "1"]
LAUNCH += ["--mixed_precision", "no", "--dynamo_backend", "no"]
"""What `accelerate launch` calls multi-GPU is any several processes; models on the CPU make them use gloo."""


def run(*arguments: str | Path) -> subprocess.CompletedProcess[str]:
    environment = os.environ | {"OMP_NUM_THREADS": "1", "HF_HUB_OFFLINE": "1"}
    command = [sys.executable, *map(str, arguments)]
    return subprocess.run(command, capture_output=True, text=True, timeout=120, env=environment)


def free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


SCORES = [[3.0, 8.0, -1.0], [5.0, 2.0, 4.5]]


HEAVY = pytest.mark.heavy
MORE_KILLS = [pytest.param(*case, marks=HEAVY) for case in (("d3po", 1), ("d3po", 8), ("ddpo", 5), ("dpok", 5))]


@pytest.mark.parametrize(("algorithm", "after"), [("d3po", 5), *MORE_KILLS])
def test_a_killed_process_is_continued_to_the_weights_of_an_undisturbed_one(
    denoiser: Denoiser, tiny_model: Path, sampled: Sampled, tmp_path: Path, algorithm: str, after: int
) -> None:
    params = TRAINING.model_copy(update={"ema_decay": 0.9, "timesteps_per_update": 1, "algorithm": algorithm, "kl_weight": 5.0})
    groups = [replace(group, scores=scores) for group, scores in zip(sampled.stored, SCORES, strict=True)]
    out = tmp_path / "killed"
    killed = run(*CHILD, write_job(tmp_path / "job.json", tiny_model, groups, params, out=out, kill_after=after))
    assert killed.returncode == -signal.SIGKILL, killed.stderr
    assert killed.stdout.split() == [str(update) for update in range(1, after + 1)]
    seen: list[int] = []
    train_round(denoiser, groups, params, out, observe=lambda update, total, values: seen.append(update))
    assert seen == list(range(after + 1, 9))
    train_round(denoiser, groups, params, tmp_path / "whole")
    for name in (WEIGHTS, MANIFEST, *([STATISTICS] if algorithm != "d3po" else [])):
        assert (out / name).read_bytes() == (tmp_path / "whole" / name).read_bytes()


TWO_GPUS = pytest.mark.skipif(torch.cuda.device_count() < 2, reason="NCCL needs two CUDA devices, and they are not here")


@pytest.mark.parametrize(
    ("algorithm", "device"),
    [
        ("d3po", "cpu"),
        pytest.param("d3po", "cuda", marks=TWO_GPUS),
        pytest.param("ddpo", "cpu", marks=HEAVY),
        pytest.param("dpok", "cpu", marks=HEAVY),
    ],
)
def test_two_processes_have_the_gradient_of_one_and_end_bit_equal(
    denoiser: Denoiser,
    tiny_model: Path,
    sampled: Sampled,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    algorithm: str,
    device: str,
) -> None:
    """Three groups, two at a time, three of four timesteps at a time: shares of 3+3, 1+1, 1+2 and 0+1 items. Models on the CPU
    make it gloo, on CUDA NCCL."""
    third = TrainingGroup(sampled.stored[0].path, sampled.stored[0].sha256, [Pair(2, 0), Pair(2, 1, 0.25)])
    groups = [replace(g, scores=s) for g, s in zip([*sampled.stored, third], [*SCORES, [-2.0, 0.5, 6.0]], strict=True)]
    options = {"groups_per_update": 2, "timesteps_per_update": 3, "algorithm": algorithm, "ratio_clip": 0.1, "kl_weight": 5.0}
    params = TRAINING.model_copy(update=options)
    out = tmp_path / "shared" / "checkpoint"
    job = write_job(tmp_path / "job.json", tiny_model, groups, params, out=out, record=tmp_path, device=device)
    shared = run(*LAUNCH, "--main_process_port", str(free_port()), *CHILD, job)
    assert shared.returncode == 0, shared.stderr
    assert shared.stdout.split() == ["1", "2", "3", "4"]
    weights, gradients = ([load_file(tmp_path / f"{what}-{rank}") for rank in range(2)] for what in ("weights", "gradients"))
    assert any("lora_B" in name and value.any() for name, value in weights[0].items())
    assert all(torch.equal(weights[0][name], weights[1][name]) for name in weights[0])
    assert all(torch.equal(gradients[0][name], gradients[1][name]) for name in gradients[0])

    monkeypatch.setattr(training, "Learner", Recorder)
    monkeypatch.setattr(Recorder, "gradients", {})
    train_round(denoiser, groups, params, tmp_path / "alone")
    assert Recorder.gradients.keys() == gradients[0].keys()
    for update in range(4):
        alone = torch.cat([Recorder.gradients[name].flatten() for name in gradients[0] if name.startswith(f"{update}.")])
        joint = torch.cat([gradients[0][name].flatten() for name in gradients[0] if name.startswith(f"{update}.")])
        assert alone.norm() > 0
        assert (alone - joint).norm() < 1e-3 * alone.norm(), f"update {update}"
