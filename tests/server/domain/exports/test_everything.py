"""Export, import into an empty system, export again, compare."""

from __future__ import annotations

import io
import json
import shutil
import tracemalloc
import zipfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from sqlalchemy import Engine, func, select
from sqlalchemy.orm import Session

from d3po_core.rewards import ChosenReward, RewardParams
from server import db
from server.db import make_engine
from server.domain import counting, jobs, people, projects, rounds, scoring
from server.domain.exports import everything, restore, rows
from server.errors import Conflict, Invalid
from server.models import Job, Project, Round, Score, State, User, Vote
from server.models.project import FLAGS
from server.storage import Storage, write_durably
from tests import factories
from tests.databases import empty_postgres, on_both_databases
from tests.server.domain.exports.conftest import exported, in_file


def empty(engine: Engine, storage: Storage) -> None:
    with engine.begin() as connection:
        empty_postgres(connection)  # its statements are plain SQL
    shutil.rmtree(storage.root)


def imported(session: Session, storage: Storage, path: Path, name: str | None = None) -> Project:
    with restore.opened(path) as archive:
        archive.project["name"] = name or archive.project["name"]
        restore.check(session, archive)
        restore.put_files(archive, storage)
        project = restore.put_rows(session, archive)
    session.commit()
    return project


def rezipped(data: bytes, changed: dict[str, bytes | None]) -> bytes:
    out = io.BytesIO()
    with zipfile.ZipFile(io.BytesIO(data)) as old, zipfile.ZipFile(out, "w") as new:
        for info in old.infolist():
            content = changed.get(info.filename, old.read(info))
            if content is not None:
                new.writestr(info, content)
    return out.getvalue()


def forged(data: bytes, table: str, change: Callable[[list[dict[str, Any]]], list[dict[str, Any]]]) -> bytes:
    """The export with other rows of a table, and sums that are right."""
    with zipfile.ZipFile(io.BytesIO(data)) as archive:
        found = [json.loads(line) for line in archive.read(f"rows/{table}.jsonl").splitlines()]
        manifest = json.loads(archive.read("manifest.json"))
    lines = b"".join(map(rows.to_line, change(found)))
    manifest["rows"][table] = everything._facts(io.BytesIO(lines))
    return rezipped(data, {f"rows/{table}.jsonl": lines, "manifest.json": json.dumps(manifest).encode()})


@on_both_databases
def test_a_project_comes_back_byte_for_byte(
    session: Session, storage: Storage, project: Project, engine: Engine, tmp_path: Path
) -> None:
    before = exported(session, storage, project)
    files = {path.relative_to(storage.root): path.read_bytes() for path in storage.root.rglob("*") if path.is_file()}
    counted = {vote.id for vote in counting.counted_votes(session, [task for (task,) in session.execute(select(Vote.task_id))])}
    session.rollback()
    session.expunge_all()
    empty(engine, storage)
    found = imported(session, storage, in_file(before, tmp_path))
    assert {path.relative_to(storage.root): path.read_bytes() for path in storage.root.rglob("*") if path.is_file()} == files
    again = counting.counted_votes(session, [task for (task,) in session.execute(select(Vote.task_id))])
    assert {vote.id for vote in again} == counted
    assert exported(session, storage, found) == before


@pytest.mark.postgres
def test_a_project_moves_from_sqlite_to_postgresql(
    session: Session, storage: Storage, project: Project, tmp_path: Path, migrated_postgres: str
) -> None:
    before = exported(session, storage, project)
    engine = make_engine(migrated_postgres)
    with Session(engine) as there:
        found = imported(there, Storage(tmp_path / "elsewhere"), in_file(before, tmp_path))
        assert exported(there, Storage(tmp_path / "elsewhere"), found) == before
    with engine.begin() as connection:
        empty_postgres(connection)
    engine.dispose()


def test_nothing_that_lets_anybody_in_leaves(session: Session, storage: Storage, project: Project, tmp_path: Path) -> None:
    admin = factories.admin(name="Root", password_hash="argon2")
    people.issue_token(session, admin, "test")
    project_round = session.scalars(select(Round).where(Round.project_id == project.id)).first()
    assert project_round is not None
    project_round.created_by = admin.id
    session.commit()
    data = exported(session, storage, project)
    with zipfile.ZipFile(io.BytesIO(data)) as archive:
        users = [json.loads(line) for line in archive.read("rows/users.jsonl").splitlines()]
    assert {user["name"] for user in users} == {"Ålice", "Bob", "Root"}
    assert {frozenset(user) for user in users} == {frozenset({"id", "created_at", "name", "revoked_at", "reward"})}
    assert b"argon2" not in data


def test_names_that_are_taken_get_a_number(
    session: Session, storage: Storage, project: Project, engine: Engine, tmp_path: Path
) -> None:
    path, project_id = in_file(exported(session, storage, project), tmp_path), project.id
    session.rollback()
    session.expunge_all()
    empty(engine, storage)
    factories.project(name="Emoji & Co")
    bob = factories.admin(name="bob")
    session.commit()
    with pytest.raises(Conflict, match="another project called Emoji & Co here"):
        imported(session, storage, path)
    session.rollback()
    found = imported(session, storage, path, name="Second")
    assert projects.find(session, "Second").id == found.id == project_id
    assert set(session.scalars(select(User.name))) == {"bob", "Bob 2", "Ålice"}
    assert not session.scalar(select(func.count()).select_from(Vote).where(Vote.user_id == bob.id))
    assert not session.scalar(select(func.count()).select_from(User).where(User.is_admin, User.id != bob.id))
    with pytest.raises(Conflict, match="is here already"):
        imported(session, storage, path, name="Third")
    with pytest.raises(Invalid, match="needs 1 to 80 characters"):
        imported(session, storage, path, name="x" * 81)


def test_two_people_never_get_the_same_number(
    session: Session, storage: Storage, project: Project, engine: Engine, tmp_path: Path
) -> None:
    factories.annotator(project, name="Bob 2")
    session.commit()
    path = in_file(exported(session, storage, project), tmp_path)
    session.rollback()
    session.expunge_all()
    empty(engine, storage)
    factories.user(name="Bob")
    session.commit()
    imported(session, storage, path)
    assert set(session.scalars(select(User.name))) == {"Bob", "Bob 2", "Bob 2 2", "Ålice"}


@pytest.mark.parametrize("folder", ["trajectories", "checkpoints"])
def test_no_file_that_is_here_is_written_over(
    session: Session, storage: Storage, project: Project, engine: Engine, tmp_path: Path, folder: str
) -> None:
    path = in_file(exported(session, storage, project), tmp_path)
    here, *_ = [file for file in sorted((storage.root / folder).rglob("*")) if file.is_file()]
    session.rollback()
    session.expunge_all()
    empty(engine, storage)
    write_durably(here, b"another project's")
    with pytest.raises(Conflict, match=f"another file {here} here already, and it stays"):
        imported(session, storage, path)
    session.rollback()
    assert here.read_bytes() == b"another project's"
    here.unlink()
    imported(session, storage, path)  # over the files that the first try left
    assert here.read_bytes() != b"another project's"


def test_a_running_round_is_exported_as_stopped(session: Session, storage: Storage, project: Project) -> None:
    running = factories.round_(project, state=State.RUNNING)
    factories.job(running, state=State.QUEUED)
    session.commit()
    with zipfile.ZipFile(io.BytesIO(exported(session, storage, project))) as archive:
        [found] = [row for row in map(json.loads, archive.read("rows/rounds.jsonl").splitlines()) if row["id"] == running.id]
        jobs = [json.loads(line) for line in archive.read("rows/jobs.jsonl").splitlines()]
    assert (found["state"], found["message"]) == ("cancelled", everything.STOPPED)
    assert {job["state"] for job in jobs} == {"done", "cancelled"}
    assert session.scalar(select(Job.state).where(Job.round_id == running.id)) == State.QUEUED


def test_a_lost_file_is_named_and_the_rest_comes_back(
    session: Session, storage: Storage, project: Project, engine: Engine, tmp_path: Path
) -> None:
    [lost, *_] = sorted((storage.root / "trajectories").rglob("*.safetensors"))
    lost.unlink()
    data = exported(session, storage, project)
    with zipfile.ZipFile(io.BytesIO(data)) as archive:
        assert json.loads(archive.read("manifest.json"))["missing"] == [lost.relative_to(storage.root).as_posix()]
    session.rollback()
    session.expunge_all()
    empty(engine, storage)
    assert exported(session, storage, imported(session, storage, in_file(data, tmp_path))) == data


@pytest.mark.parametrize("what", ["rows/votes.jsonl", "trajectory", "image", "manifest.json", "cut", "format", "dropped"])
def test_a_damaged_export_changes_nothing(
    session: Session, storage: Storage, project: Project, engine: Engine, tmp_path: Path, what: str
) -> None:
    data = exported(session, storage, project)
    names = zipfile.ZipFile(io.BytesIO(data)).namelist()
    trajectory = next(name for name in names if name.startswith("trajectories/"))
    image = next(name for name in names if name.count(".") == 1 and name.startswith("images/"))
    broken = {
        "rows/votes.jsonl": lambda: rezipped(data, {"rows/votes.jsonl": b'{"id":"x"}\n'}),
        "trajectory": lambda: rezipped(data, {trajectory: b"others"}),
        "image": lambda: rezipped(data, {image: b"others"}),
        "manifest.json": lambda: rezipped(data, {"manifest.json": None}),
        "cut": lambda: data[: len(data) // 2],
        "format": lambda: rezipped(data, {"manifest.json": b'{"format": "d3po-everything-9"}'}),
        "dropped": lambda: rezipped(data, {trajectory: None}),
    }[what]()
    session.rollback()
    session.expunge_all()
    empty(engine, storage)
    with pytest.raises(Invalid, match=r"is not an export of everything, or it is damaged .*\. Nothing was imported"):
        imported(session, storage, in_file(broken, tmp_path))
    session.rollback()
    assert session.scalar(select(func.count()).select_from(User)) == 0


def test_rows_of_another_project_are_refused(
    session: Session, storage: Storage, project: Project, engine: Engine, tmp_path: Path
) -> None:
    """A vote on a task that is here already, smuggled into an export whose sums are right."""
    data = exported(session, storage, project)
    session.rollback()
    session.expunge_all()
    empty(engine, storage)
    victim = factories.task(factories.project())
    session.commit()
    smuggled = {"id": "11111111-1111-4111-8111-111111111111", "task_id": victim.id, "supersedes": None}
    broken = forged(data, "votes", lambda votes: [*votes, votes[0] | smuggled])
    with pytest.raises(Invalid, match="Some rows of votes belong to another project"):
        imported(session, storage, in_file(broken, tmp_path))
    session.rollback()
    assert session.scalar(select(func.count()).select_from(Vote)) == 0


def test_keys_that_lead_out_of_the_data_folder_are_refused(
    session: Session, storage: Storage, project: Project, engine: Engine, tmp_path: Path
) -> None:
    data = exported(session, storage, project)
    session.rollback()
    session.expunge_all()
    empty(engine, storage)
    broken = forged(data, "groups", lambda groups: [group | {"trajectory_key": "../../escaped"} for group in groups])
    with pytest.raises(Invalid, match="is not a storage key"):
        imported(session, storage, in_file(broken, tmp_path))


def test_memory_stays_the_same_however_large_the_files(session: Session, storage: Storage, project: Project) -> None:
    write_durably(storage.trajectory("round/0.safetensors"), (bytes(2**20) for _ in range(64)))
    factories.group(project, trajectory_key="round/0.safetensors")
    session.commit()
    tracemalloc.start()
    size = sum(len(chunk) for chunk in everything.write(session, storage, project))
    _, peak = tracemalloc.get_traced_memory()
    tracemalloc.stop()
    assert size > 64 * 2**20
    assert peak < 16 * 2**20


@on_both_databases
def test_what_machines_scored_and_voted_comes_back_and_goes_on(
    session: Session, storage: Storage, project: Project, engine: Engine, tmp_path: Path
) -> None:
    boss = factories.operator(project, name="Boss")
    asked = RewardParams(rewards=[ChosenReward(name="colourfulness")])
    sampled = session.scalars(select(Round.id).where(Round.project_id == project.id, Round.kind == "sample")).one()
    round_ = rounds.request_reward_round(session, boss, project, asked, round_ids=[sampled])
    [job] = session.scalars(select(Job).where(Job.round_id == round_.id))
    session.commit()
    with db.session_scope() as other:
        claim = jobs.claim(other, job.id, "here:1")
        assert claim is not None
        for group in scoring.begin(other, claim).groups:
            found = {image_id: {"colourfulness": 0.1 + place} for place, (image_id, _) in enumerate(group.images)}
            scoring.record(other, claim, group.group_id, found, 4)
        jobs.finish(other, claim)
    session.expire_all()
    before, machine_id = exported(session, storage, project), round_.params["annotator_id"]
    session.rollback()
    session.expunge_all()
    empty(engine, storage)
    found = imported(session, storage, in_file(before, tmp_path))
    assert exported(session, storage, found) == before
    assert session.scalar(select(func.count()).select_from(Score)) == 4
    machine = session.get_one(User, machine_id)
    assert RewardParams.model_validate(machine.reward) == asked
    with pytest.raises(Conflict, match="nothing lets it sign in"):
        people.issue_token(session, machine, "x")
    with pytest.raises(Invalid, match="waits for the machine annotator colourfulness"):
        rounds.request_reward_round(session, factories.admin(), found, asked, round_ids=[sampled])


NEW_SINCE = {
    "users": ("reward",), "projects": ("training", "flags", "blur", "prompts"), "rounds": ("auto_id",), "votes": ("ratings",),
    "jobs": ("memory_bytes",),
}  # fmt: skip


@on_both_databases
def test_an_archive_from_before_some_columns_and_tables_comes_back(
    session: Session, storage: Storage, project: Project, engine: Engine, tmp_path: Path
) -> None:
    data = exported(session, storage, project)
    for table, names in NEW_SINCE.items():
        data = forged(data, table, lambda found, new=names: [{k: v for k, v in row.items() if k not in new} for row in found])  # type: ignore[misc]
    with zipfile.ZipFile(io.BytesIO(data)) as archive:
        manifest = json.loads(archive.read("manifest.json"))
    del manifest["rows"]["scores"]
    data = rezipped(data, {"rows/scores.jsonl": None, "manifest.json": json.dumps(manifest).encode()})
    session.rollback()
    session.expunge_all()
    empty(engine, storage)
    found = imported(session, storage, in_file(data, tmp_path))
    assert (found.prompts, found.blur, found.flags) == ({}, False, list(FLAGS))
    assert session.scalar(select(func.count()).select_from(Vote)) == 6
    parents = session.execute(select(Round.checkpoint_id, Round.opponent_id).where(Round.kind == "duel")).one()
    assert None not in parents
