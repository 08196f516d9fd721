"""The command d3po, as people type it."""

from __future__ import annotations

import shutil
import signal
import socket
import subprocess
import sys
import threading
import time
import urllib.request
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
from sqlalchemy import Engine, select
from sqlalchemy.orm import Session

from server import cli, cli_rounds, db
from server.db import read_scope, session_scope
from server.domain import people, rounds
from server.models import Job, Membership, Project, Round, State, User
from server.settings import get_settings
from server.storage import Storage
from tests import factories
from tests.databases import empty_postgres

D3po = Callable[..., tuple[int, str, str]]


@pytest.fixture
def d3po(engine: Engine, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> D3po:
    """Runs the command in this process; gives its exit status, standard output and standard error."""

    def run(*words: str) -> tuple[int, str, str]:
        monkeypatch.setattr(sys, "argv", ["d3po", *words])
        with pytest.raises(SystemExit) as ended:
            cli.main()
        told = capsys.readouterr()
        return int(ended.value.code or 0), told.out, " ".join(told.err.split())

    return run


@pytest.fixture
def project(session: Session) -> Project:
    project = factories.project(name="Emoji")
    factories.admin(name="root")
    factories.commit()
    return project


def test_a_first_admin_and_a_first_project(d3po: D3po) -> None:
    assert d3po("project", "create", "Emoji") == (1, "", "There is no admin yet. Run `d3po user add NAME --role admin` first.")
    status, token, told = d3po("user", "add", "root", "--role", "admin")
    assert (status, "root is admin" in told, "/sign-in/" in told) == (0, True, True)
    with read_scope() as session:
        assert people.user_of_token(session, token.strip()).is_admin
    status, project_id, _ = d3po("project", "create", "Emoji", "--mode", "pairwise", "--flag", "extra fingers", "--flag", "dark")
    with read_scope() as session:
        made = session.get_one(Project, project_id.strip())
        assert (made.mode, made.flags) == ("pairwise", ["extra fingers", "dark"])
    assert d3po("project", "create", "Emoji")[::2] == (1, "There is already a project called Emoji. Choose another name.")


def test_a_project_with_prompts_of_its_own(d3po: D3po, tmp_path: Path) -> None:
    d3po("user", "add", "root", "--role", "admin")
    file, other = tmp_path / "towns.txt", tmp_path / "latin.txt"
    file.write_text("a town\na lake\t3\n", encoding="utf-8")
    other.write_bytes("ein Kätzchen".encode("latin-1"))
    status, project_id, _ = d3po("project", "create", "Maps", "--prompts-file", str(file))
    assert status == 0
    with read_scope() as session:
        assert session.get_one(Project, project_id.strip()).prompts == {"a town": 1, "a lake": 3}
    file.write_text("a road\na path\n")
    assert d3po("project", "prompts", str(file), "Maps")[:2] == (0, "Maps draws from 2 prompts of its own.\n")
    for command in (("project", "prompts", str(other), "Maps"), ("sample", "Maps", "--prompts-file", str(other))):
        status, _, told = d3po(*command)
        assert (status, told) == (
            1, "latin.txt is not UTF-8: line 1 has the byte 0xE4. Save it as UTF-8 and send it again."
        )  # fmt: skip


def test_a_project_with_settings_of_its_own(d3po: D3po, tmp_path: Path) -> None:
    d3po("user", "add", "root", "--role", "admin")
    sampling, training = tmp_path / "sampling.json", tmp_path / "training.json"
    sampling.write_text('{"num_inference_steps": 7}')
    training.write_text('{"beta": 0.5}')
    status, project_id, _ = d3po("project", "create", "Own", "--sampling", str(sampling), "--training", str(training))
    assert status == 0
    with read_scope() as session:
        made = session.get_one(Project, project_id.strip())
        assert (made.sampling["num_inference_steps"], made.training["beta"], made.training["lora_rank"]) == (7, 0.5, 64)
    training.write_text('{"beta": -1}')
    status, _, told = d3po("project", "create", "Other", "--training", str(training))
    assert (status, told) == (
        1,
        f"{training} cannot be used. beta must be greater than 0, you sent -1. No project was created.",
    )


def test_an_experiment_of_the_paper_is_one_command(d3po: D3po) -> None:
    d3po("user", "add", "root", "--role", "admin")
    status, project_id, _ = d3po("project", "create", "Safe", "--preset", "safety", "--prompt-set", "demo", "--no-blur")
    assert status == 0
    with read_scope() as session:
        made = session.get_one(Project, project_id.strip())
        assert (made.mode, made.prompt_set, made.blur, made.flags[0]) == ("good_bad", "demo", False, "unsafe")
    assert d3po("project", "create", "Other", "--preset", "beauty")[::2] == (
        1,
        "There is no preset called beauty. Known: distortion, safety, alignment.",
    )


def test_members_join_the_only_project_or_the_named_one(d3po: D3po, project: Project) -> None:
    assert d3po("user", "add", "Bob", "--role", "operator")[0] == 0
    with read_scope() as session:
        bob = session.scalars(select(User).where(User.name == "Bob")).one()
        assert session.get_one(Membership, (project.id, bob.id)).role == "operator"
    assert d3po("user", "add", "Eve", "--role", "boss")[::2] == (
        1,
        "The role must be admin, operator or annotator, you wrote boss.",
    )
    assert d3po("user", "add", "Eve", "--project", "Other")[0] == 1


def test_somebody_who_is_known_joins_another_project(d3po: D3po, session: Session, project: Project) -> None:
    bob, other = factories.annotator(project, name="Bob"), factories.project(name="Other")
    factories.commit()
    assert d3po("user", "add", "bob", "--project", "Other", "--role", "operator")[0] == 0
    with read_scope() as reading:
        assert people.role_in(reading, bob, other) == "operator"
        assert people.role_in(reading, bob, project) == "annotator"


def test_ways_back_in(d3po: D3po, session: Session, project: Project) -> None:
    bob = factories.annotator(project, name="Bob")
    factories.commit()
    status, path, _ = d3po("user", "link", "Bob")
    with session_scope() as writing:
        assert (status, people.use_sign_in_link(writing, path.strip().removeprefix("/sign-in/")).id) == (0, bob.id)
    status, token, _ = d3po("user", "token", "Bob", "--label", "laptop")
    with read_scope() as reading:
        assert (status, people.user_of_token(reading, token.strip()).id) == (0, bob.id)
    assert d3po("user", "link", "Eve")[::2] == (1, "There is nobody called Eve. `d3po user add Eve` adds them.")
    assert d3po("user", "revoke", "Bob")[0] == 0
    assert d3po("user", "token", "Bob")[::2] == (1, "The access of Bob was taken away for good. Choose another name.")


def test_invitations_are_made_listed_and_withdrawn(d3po: D3po, project: Project) -> None:
    assert d3po("user", "invite", "--role", "operator")[1].startswith("/join/")
    ident, role, by, _ = d3po("user", "invitations")[1].strip().split("\t")
    assert (role, by) == ("operator", "root")
    assert d3po("user", "withdraw", ident)[0] == 0
    assert d3po("user", "invitations") == (0, "", "")


def test_sample_enqueues_and_says_which_round(d3po: D3po, project: Project) -> None:
    status, round_id, told = d3po(
        "sample", "Emoji", "--prompt", "a cat", "--prompt", "a dog", "--images-per-prompt", "4", "--no-watch"
    )
    assert (status, told) == (0, "Round 1 is queued.")
    with read_scope() as session:
        assert session.get_one(Round, round_id.strip()).params["images_per_prompt"] == 4
        assert len(session.scalars(select(Job)).all()) == 2


def test_prompts_come_from_a_file_too(d3po: D3po, project: Project, tmp_path: Path) -> None:
    (tmp_path / "prompts.txt").write_text("a cat\n\na dog\n")
    assert d3po("sample", "--prompts-file", str(tmp_path / "prompts.txt"), "--no-watch")[0] == 0
    (tmp_path / "empty.txt").touch()
    assert d3po("sample", "--prompts-file", str(tmp_path / "empty.txt"))[::2] == (1, "A round needs at least one prompt.")


def test_bad_values_are_the_same_sentences_as_everywhere(d3po: D3po, project: Project) -> None:
    assert d3po("sample", "--steps", "0")[2].startswith("num_inference_steps must be at least 1, you sent 0.")
    assert d3po("sample", "--eta", "2")[2].startswith("eta must be at most 1, you sent 2.")
    assert d3po("train", "--algorithm", "ppo")[2].startswith("algorithm must be 'd3po', 'ddpo', 'dpok', 'rwr' or 'sft'")
    assert d3po("train")[2].startswith("There are 0 usable pairs to train on")
    assert d3po("duel")[2].startswith("A duel needs two different checkpoints")
    assert d3po("sample", "Other")[2].startswith("There is no project called Other.")


def test_train_and_duel_enqueue(d3po: D3po, session: Session, project: Project) -> None:
    factories.vote(factories.task(project), factories.annotator(project))
    factories.commit()
    assert d3po("train", "--algorithm", "dpok", "--beta", "0.5", "--pair-weights", "sign", "--no-watch")[0] == 0
    factories.checkpoint(project)
    factories.commit()
    assert d3po("duel", "--prompt", "a cat", "--seed", "1", "--seed", "2", "--no-watch")[0] == 0
    launched = {job.kind: session.get_one(Round, job.round_id).params for job in session.scalars(select(Job))}
    assert [launched["train"][name] for name in ("algorithm", "beta", "pair_weights")] == ["dpok", 0.5, "sign"]
    assert (launched["duel"]["seeds"], launched["duel"]["items"]) == ([1, 2], 2)


@pytest.mark.parametrize(("state", "status", "told"), [("done", 0, ""), ("failed", 1, "The model folder is missing.")])
def test_watching_ends_with_the_round(d3po: D3po, project: Project, state: str, status: int, told: str) -> None:
    def finish() -> None:
        with session_scope() as session:
            for job in session.scalars(select(Job)):
                job.state, job.error = State(state), "The model folder is missing." if state == "failed" else ""
                rounds.settle(session, session.get_one(Round, job.round_id))

    ended = _when(lambda: _exists(Job), finish)
    answer = d3po("sample", "--prompt", "a cat")
    ended.join()
    assert (answer[0], told in answer[2]) == (status, True)


@pytest.mark.parametrize(
    ("state", "silent", "waited", "told"),
    [
        ("queued", False, 5.0, "queued"),
        ("queued", False, 25.0, "queued, and no worker has taken it yet: is one running?"),
        ("running", False, 25.0, "running"),
        ("running", True, 25.0, "running, but nothing was heard of its worker for a while"),
    ],
)
def test_watching_says_when_no_worker_is_heard_of(state: str, silent: bool, waited: float, told: str) -> None:
    progress = rounds.Progress(0, 4, "groups", None, State(state), "", silent=silent)
    assert cli_rounds.heard(progress, waited) == told


def _exists(table: type) -> bool:
    with read_scope() as session:
        return session.scalar(select(table).limit(1)) is not None


def _when(ready: Callable[[], bool], act: Callable[[], None]) -> threading.Thread:
    def wait() -> None:
        while not ready():
            time.sleep(0.05)
        act()

    thread = threading.Thread(target=wait)
    thread.start()
    return thread


def test_a_study_is_launched_and_told(d3po: D3po, session: Session, project: Project) -> None:
    made = factories.checkpoint(project)
    factories.commit()
    words = ["--checkpoint", "base", "--checkpoint", str(made.number), "--raters", "3", "--count", "4", "--no-watch"]
    status, round_id, _ = d3po("study", "Emoji", *words)
    row = session.get_one(Round, round_id.strip())
    assert (status, row.params["checkpoints"], row.params["votes_per_item"], row.params["items"]) == (0, ["base", made.id], 3, 4)
    group = factories.group(project, round_id=row.id, drawn_by=[None, made.id], trajectory_key=None)
    task = factories.task(project, group, mode="pairwise", votes_wanted=3)
    for _ in range(3):
        factories.vote(task, factories.annotator(project), 1)
    factories.commit()
    status, shown, _ = d3po("study", "--result", str(row.number))
    told = " ".join(shown.split())
    assert (status, f"checkpoint {made.number}" in told, "100.0 %" in told, "1 of 1 items have all votes" in told) == (
        0,
        *[True] * 3,
    )
    assert d3po("study", "--result", "99")[::2] == (1, "Emoji has no study 99. `d3po status` lists its rounds.")


def test_status_shows_rounds_and_pairs(d3po: D3po, project: Project) -> None:
    factories.vote(factories.task(project), factories.annotator(project))
    factories.commit()
    status, shown, _ = d3po("status")
    assert (status, "Emoji: base model, 2 usable pairs, 0 tasks wait for votes" in shown, "sample" in shown) == (0, True, True)


def test_doctor_names_what_is_wrong(d3po: D3po, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("D3PO_BASE_MODEL", "/nowhere/model")
    get_settings.cache_clear()
    status, shown, _ = d3po("doctor")
    assert status == 1
    assert [line.split(":")[0] for line in shown.splitlines()] == [
        "ok    database", "ok    broker", "ok    disk", "FAIL  model", "ok    device",
        "ok    versions",
    ]  # fmt: skip


@pytest.mark.parametrize(
    ("name", "value", "sentence"),
    [
        ("D3PO_LEASE_SECONDS", "x", "D3PO_LEASE_SECONDS should be a valid integer"),
        ("D3PO_LEASE_SECONDS", "1", "D3PO_LEASE_SECONDS must be at least 5, you sent 1."),
        ("D3PO_BASE_MODELS", "notjson", "base_models"),
    ],
)
def test_a_setting_that_makes_no_sense_is_told(
    d3po: D3po, monkeypatch: pytest.MonkeyPatch, name: str, value: str, sentence: str
) -> None:
    monkeypatch.setenv(name, value)
    get_settings.cache_clear()
    db.forget_engine()
    status, _, told = d3po("status")
    assert (status, told.startswith("The settings cannot be read."), sentence in told) == (1, True, True)


def test_up_without_its_model_starts_nothing(d3po: D3po, monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setenv("D3PO_BASE_MODEL", "/nowhere/model")
    get_settings.cache_clear()
    status, shown, told = d3po("up", "--data-dir", str(tmp_path / "up"))
    assert (status, shown, told.endswith("Correct D3PO_BASE_MODEL. Nothing was started.")) == (1, "", True)
    assert not (tmp_path / "up").exists()


def test_looking_makes_no_database(d3po: D3po, monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setenv("D3PO_DATABASE_URL", f"sqlite:///{tmp_path / 'wrong' / 'd3po.db'}")
    get_settings.cache_clear()
    db.forget_engine()
    status, _, told = d3po("status")
    assert (status, f"there is no {tmp_path / 'wrong' / 'd3po.db'}" in told, "Run `d3po migrate`" in told) == (1, True, True)
    assert not (tmp_path / "wrong").exists()


def test_an_empty_database_is_explained(tmp_path: Path) -> None:
    environment = {"D3PO_DATA_DIR": str(tmp_path), "D3PO_DATABASE_URL": f"sqlite:///{tmp_path / 'd3po.db'}", "PATH": ""}
    command = [sys.executable, "-m", "server.cli"]
    ended = subprocess.run([*command, "status"], env=environment, capture_output=True, text=True, check=False)
    assert (ended.returncode, "Run `d3po migrate`" in ended.stderr, "Traceback" in ended.stderr) == (1, True, False)
    assert subprocess.run([*command, "migrate"], env=environment, capture_output=True, check=False).returncode == 0
    ended = subprocess.run([*command, "status"], env=environment, capture_output=True, text=True, check=False)
    assert (ended.returncode, "There is no project yet." in ended.stderr) == (0, True)


class TestServe:
    @pytest.fixture
    def address(self, settings: object) -> Iterator[tuple[subprocess.Popen[bytes], str]]:
        with socket.socket() as free:
            free.bind(("127.0.0.1", 0))
            port = free.getsockname()[1]
        command = [sys.executable, "-m", "server.cli", "serve", "--port", str(port)]
        process = subprocess.Popen(command, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
        yield process, f"http://127.0.0.1:{port}"
        process.kill()
        process.wait()

    def test_open_event_streams_do_not_hold_up_the_end(
        self, session: Session, project: Project, address: tuple[subprocess.Popen[bytes], str]
    ) -> None:
        process, url = address
        round_ = factories.round_(project, state=State.RUNNING)
        headers = factories.bearer(factories.operator(project))
        deadline = time.monotonic() + 60
        while True:
            try:
                urllib.request.urlopen(f"{url}/healthz", timeout=5).close()
                break
            except OSError:
                assert time.monotonic() < deadline
                time.sleep(0.2)
        with urllib.request.urlopen(urllib.request.Request(f"{url}/api/v1/rounds/{round_.id}/events", headers=headers)) as stream:
            assert stream.readline() == b"event: progress\n"
            process.send_signal(signal.SIGTERM)
            asked = time.monotonic()
            stream.read()
        assert process.wait(timeout=30) in (0, -signal.SIGTERM)
        assert time.monotonic() - asked < 5


def test_a_project_goes_out_and_comes_back(
    d3po: D3po, session: Session, storage: Storage, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Without an admin: whoever runs the command may write the database anyway."""
    project = factories.project(name="Emoji", base_model="elsewhere")
    group = factories.group(project, trajectory_key=None)
    group.images[0].sha256 = factories.stored_image(storage)
    factories.vote(factories.task(project, group), factories.annotator(project, name="Bob"))
    factories.commit()
    monkeypatch.chdir(tmp_path)
    file = tmp_path / "emoji-everything.zip"
    assert d3po("export")[:2] == (0, f"{file}\n")
    assert d3po("export")[::2] == (1, f"There is already a file {file}. Nothing was written; name another with --out.")
    assert d3po("export", "--format", "votes", "--out", "votes.jsonl")[:2] == (0, f"{tmp_path / 'votes.jsonl'}\n")
    assert d3po("import", str(file))[::2] == (1, "The project Emoji is here already. Nothing was imported.")
    assert "is not an export of everything" in d3po("import", "votes.jsonl")[2]
    with session_scope() as wiping:
        empty_postgres(wiping.connection())
    shutil.rmtree(storage.root)
    status, project_id, told = d3po("import", str(file))
    assert (status, project_id.strip()) == (0, project.id)
    assert "Emoji is here, with 1 new files." in told
    assert "Its base model elsewhere is not in D3PO_BASE_MODELS here" in told
    assert d3po("export", "--out", "again.zip")[0] == 0
    assert (tmp_path / "again.zip").read_bytes() == file.read_bytes()


def test_rewards_score_and_vote(d3po: D3po, session: Session, project: Project) -> None:
    task = factories.task(project)
    factories.commit()
    status, round_id, told = d3po("reward", "--reward", "compressibility", "--reward", "colourfulness", "--no-watch")
    assert (status, told.endswith("is queued.")) == (0, True)
    with read_scope() as reading:
        params = reading.get_one(Round, round_id.strip()).params
    assert ([one["name"] for one in params["rewards"]], params["combine"]) == (["compressibility", "colourfulness"], "pareto")
    _, round_id, _ = d3po("reward", "--reward", "colourfulness", "--weight", "2", "--round", task.group.round_id, "--no-watch")
    with read_scope() as reading:
        params = reading.get_one(Round, round_id.strip()).params
    assert (params["rewards"][0]["weight"], params["combine"]) == (2.0, "weighted")
    assert d3po("reward", "--no-watch")[::2] == (1, "rewards needs at least 1, you sent 0.")
    told = "Give one --weight for each --reward; there are 2 for 1."
    assert d3po("reward", "--reward", "colourfulness", "--weight", "2", "--weight", "1")[::2] == (1, told)


@pytest.mark.parametrize("words", [("add", "--role", "admin"), ("add",), ("link",), ("token",)])
def test_nothing_lets_a_machine_in(d3po: D3po, session: Session, project: Project, words: tuple[str, ...]) -> None:
    factories.task(project)
    factories.commit()
    d3po("reward", "--reward", "colourfulness", "--no-watch")
    verb, *options = words
    status, shown, told = d3po("user", verb, "Colourfulness", *options)
    assert (status, shown) == (1, "")
    assert told == "colourfulness is a machine annotator: it votes by what it scores, and nothing lets it sign in."
    with read_scope() as reading:
        assert [user.is_admin for user in reading.scalars(select(User).where(User.name == "colourfulness"))] == [False]
