"""`d3po up` from its first start to its end, however it ends."""

from __future__ import annotations

import os
import signal
import socket
from pathlib import Path

import psutil
import pytest

from tests.stack import Up, answer, eventually, free_port, running

pytestmark = [pytest.mark.stack, pytest.mark.xdist_group("up"), pytest.mark.timeout(600)]


def gone(processes: list[psutil.Process]) -> bool:
    _, alive = psutil.wait_procs(processes, timeout=0.1)
    return not alive


@pytest.mark.heavy
def test_from_the_first_start_to_the_second(tmp_path: Path, tiny_model: Path) -> None:
    data_dir = tmp_path / "a folder"
    with running(data_dir, tiny_model) as up:
        assert up.lines[0] == f"ready {up.url}"
        assert up.lines[1].startswith(f"sign in: {up.url}/sign-in/")
        with up.api() as api:
            [project] = answer(api.get("/projects"))["items"]
            tasks = f"/projects/{project['id']}/tasks/next"
            eventually(lambda: answer(api.post(tasks, params={"count": 1})))
            [first] = answer(api.get(f"/projects/{project['id']}/rounds"))["items"]
            assert first["state"] == "running"
        assert_refuses_a_second_one(up, tiny_model)
        family, link = up.family(), up.lines[1]
        assert up.stop(signal.SIGINT) == 0
        assert gone(family)
        assert len([line for line in up.lines if line.startswith("ready ")]) == 1
    assert not list(data_dir.rglob("*.tmp")) + list(data_dir.rglob("*.part"))
    with running(data_dir, tiny_model) as up:
        assert up.lines[1] != link
        with up.api() as api:
            assert [known["id"] for known in answer(api.get("/projects"))["items"]] == [project["id"]]
            seen = answer(api.get(f"/rounds/{first['id']}"))
            assert seen["progress"]["done"] > 0
            eventually(lambda: answer(api.get(f"/rounds/{first['id']}"))["progress"]["done"] > seen["progress"]["done"])
        family = up.family()
        assert len(family) >= 4
        up.process.kill()
        up.wait()
        eventually(lambda: gone(family))


def assert_refuses_a_second_one(up: Up, tiny_model: Path) -> None:
    second = Up(up.data_dir, tiny_model)
    assert second.wait() == 1
    assert second.lines == []
    assert f"d3po is already running on {up.data_dir} (process {up.process.pid})." in "\n".join(second.said)
    assert up.process.poll() is None


def test_a_port_in_use_is_told_in_a_sentence(tmp_path: Path, tiny_model: Path) -> None:
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", free_port()))
        taken.listen()
        port = taken.getsockname()[1]
        up = Up(tmp_path / "data", tiny_model, port=port)
        assert up.wait() == 1
    told = "\n".join(up.said)
    assert f"Cannot listen on 127.0.0.1:{port}: Address already in use. Nothing was started. Give another --port." in told
    assert not (tmp_path / "data" / "d3po.db").exists()


def test_a_stop_while_it_starts_leaves_nothing_running(tmp_path: Path, tiny_model: Path) -> None:
    up = Up(tmp_path / "data", tiny_model)
    eventually(lambda: up.find("valkey-server"))
    family = up.family()
    assert up.stop(signal.SIGTERM) == 0
    assert gone(family)
    assert up.lines == []
    assert os.listdir(tmp_path / "data")
