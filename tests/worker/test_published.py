"""The published code's files by command: there, voted on, trained from, and back value for value."""

from __future__ import annotations

import json
import pickle
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from PIL import Image as Pictures
from sqlalchemy import func, select
from sqlalchemy.orm import Session

from d3po_core.denoisers import load_denoiser
from d3po_core.params import TrainingParams
from d3po_core.plan import TrainingGroup
from d3po_core.ratios import FLOAT32_TOLERANCE, check_ratio_is_one
from server import cli, cli_published
from server.db import read_scope
from server.domain import people, rounds
from server.models import Base, Group, Membership, Project, Round, State, User, Vote
from server.settings import Settings
from server.storage import Storage
from tests import factories
from tests.factories.published import PROMPTS, VOTES, sample_folder
from tests.worker.conftest import ended, jobs_of
from worker import tasks

D3po = Callable[..., tuple[int, str, str]]
pytestmark = pytest.mark.timeout(600)  # each command starts PyTorch


@pytest.fixture
def d3po(session: Session, tiny_settings: Settings, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> D3po:
    factories.admin(name="root")
    factories.commit()

    def run(*words: str) -> tuple[int, str, str]:
        monkeypatch.setattr(sys, "argv", ["d3po", *words])
        with pytest.raises(SystemExit) as ended:
            cli.main()
        told = capsys.readouterr()
        return int(ended.value.code or 0), told.out.strip(), " ".join(told.err.split())

    return run


@pytest.fixture
def folder(tiny_model: Path, tmp_path: Path) -> Path:
    return sample_folder(tmp_path / "samples", tiny_model)


def import_(d3po: D3po, folder: Path, *more: str) -> tuple[int, str, str]:
    return d3po("import", str(folder), "--from", "d3po", "--base-model", "tiny", *more)


def pixels(path: Path) -> bytes:
    with Pictures.open(path) as picture:
        return picture.convert("RGB").tobytes()


def same_files(one: Path, other: Path) -> bool:
    a, b = (pickle.loads((path / "sample.pkl").read_bytes()) for path in (one, other))
    images = [sorted(path.name for path in (place / "images").iterdir()) for place in (one, other)]
    return (
        a.keys() == b.keys()
        and all(torch.equal(a[name], b[name]) and a[name].dtype == b[name].dtype for name in a)
        and images[0] == images[1]
        and all(pixels(one / "images" / name) == pixels(other / "images" / name) for name in images[0])
        and json.loads((one / "prompt.json").read_text()) == json.loads((other / "prompt.json").read_text())
    )


def names() -> set[str]:
    with read_scope() as session:
        return set(session.scalars(select(User.name)))


def rows(table: type[Base]) -> int:
    with read_scope() as session:
        return session.scalar(select(func.count()).select_from(table)) or 0


def votes_in(folder: Path) -> dict[str, Any]:
    return {path.stem: json.loads(path.read_text()) for path in (folder / "json").iterdir()}


@pytest.mark.heavy
def test_there_and_back_value_for_value(d3po: D3po, folder: Path, tmp_path: Path) -> None:
    factories.user(name="Bob")
    factories.commit()
    status, _, told = import_(d3po, folder, "--name", "Moved")
    assert (status, "people can vote on it" in told) == (0, True), told
    assert names() == {"root", "Alice", "Bob", "Bob 2"}
    assert d3po("export", "Moved", "--format", "d3po", "--out", str(tmp_path / "back"))[:2] == (0, str(tmp_path / "back"))
    assert same_files(folder, tmp_path / "back")
    assert votes_in(tmp_path / "back") == {"Alice": VOTES["Alice"], "Bob 2": VOTES["Bob"]}
    status, _, told = d3po("export", "Moved", "--format", "d3po", "--out", str(tmp_path / "back"))
    assert (status, told.startswith(f"There is already {tmp_path / 'back'}.")) == (1, True)


@pytest.mark.heavy
def test_d3po_trains_from_what_was_imported(d3po: D3po, folder: Path, session: Session, tiny_model: Path) -> None:
    status, project_id, told = import_(d3po, folder)
    assert status == 0, told
    project, root = session.get_one(Project, project_id), people.find(session, "root")
    assert (project.name, project.mode, project.sampling["num_inference_steps"]) == ("samples", "best", 4)
    groups = list(session.scalars(select(Group).where(Group.project_id == project_id).order_by(Group.position)))
    assert [group.prompt for group in groups] == PROMPTS
    stored = cli_published.Storage(cli_published.get_settings().data_dir)
    paths = [TrainingGroup(stored.trajectory(group.trajectory_key or ""), group.trajectory_sha256) for group in groups]
    denoiser = load_denoiser(tiny_model)
    assert max(check_ratio_is_one(denoiser, path, 0.1) for path in paths) < FLOAT32_TOLERANCE
    round_ = rounds.request_training_round(session, root, project, TrainingParams(lora_rank=2, learning_rate=1e-2))
    session.commit()
    assert (round_.params["groups"], round_.params["pairs"]) == (1, 2)  # the two people disagree on the rest
    tasks.train(jobs_of(round_)[0].id)
    assert ended(round_) == (State.DONE, "")
    values = rounds.metrics(session, round_)[0].values
    assert abs(values["log_ratio_mean"]) < FLOAT32_TOLERANCE


@pytest.mark.heavy
def test_a_killed_import_goes_on_and_left_no_row(
    d3po: D3po, folder: Path, storage: Storage, monkeypatch: pytest.MonkeyPatch
) -> None:
    whole = cli_published._lines

    def killed(verb: str, job: dict[str, Any], kept: str) -> Any:
        lines = whole(verb, job, kept)
        yield next(lines)
        lines.close()
        raise KeyboardInterrupt

    monkeypatch.setattr(cli_published, "_lines", killed)
    assert import_(d3po, folder)[0] != 0
    assert (rows(Project), names()) == (0, {"root"})
    first, *_ = sorted((storage.root / "trajectories").rglob("*.safetensors"))
    made = first.stat().st_mtime_ns
    monkeypatch.setattr(cli_published, "_lines", whole)
    assert import_(d3po, folder)[0] == 0
    assert first.stat().st_mtime_ns == made
    status, _, told = import_(d3po, folder)
    assert (status, told) == (1, "There is already a project called samples. Choose another name.")


def test_samples_with_code_import_nothing(d3po: D3po, folder: Path, tmp_path: Path) -> None:
    class Evil:
        def __reduce__(self) -> tuple[Any, ...]:
            return exec, (f"open({str(tmp_path / 'ran')!r}, 'w').close()",)

    (folder / "sample.pkl").write_bytes(pickle.dumps({"latents": Evil()}))
    status, _, told = import_(d3po, folder)
    assert (status, "sample.pkl is no pickle of tensors alone" in told, told.endswith("Nothing was imported.")) == (1, True, True)
    assert not (tmp_path / "ran").exists()
    assert [rows(table) for table in (Project, Round, Vote, Membership)] == [0] * 4
    assert names() == {"root"}
