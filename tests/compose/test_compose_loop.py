"""The commands and environment of docker-compose.yml as processes on the real PostgreSQL and Redis, through one small loop."""

from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path
from typing import Any

import httpx
import pytest
import redis

from tests.compose.compose import example_environment, load
from tests.databases import missing, scratch_postgres
from tests.stack import QUICK, answer, eventually, free_port, round_ended, vote_on_everything

pytestmark = [
    pytest.mark.stack,
    pytest.mark.postgres,
    pytest.mark.redis,
    pytest.mark.xdist_group("compose"),
    pytest.mark.timeout(600),
]
REDIS = os.environ.get("D3PO_TEST_REDIS", "redis://127.0.0.1:6379/13")


@pytest.fixture(scope="module")
def redis_url() -> Iterator[str]:
    """A Redis database of its own, empty before and after."""
    with redis.Redis.from_url(REDIS, socket_connect_timeout=2) as client:
        try:
            client.flushdb()
        except redis.ConnectionError as error:
            missing(f"Redis is not reachable at {REDIS}: {error}")
        yield REDIS
        client.flushdb()


class Containers:
    """The services as processes: only hosts, port and data folder differ from what the file says."""

    def __init__(self, folder: Path, model: Path, database_url: str, redis_url: str) -> None:
        self.folder, self.port = folder, free_port()
        self.services = load(example_environment() | {"D3PO_BASE_MODEL": str(model)})["services"]
        self.here = {
            "D3PO_DATABASE_URL": database_url, "D3PO_BROKER_URL": redis_url, "D3PO_DATA_DIR": str(folder / "data"),
            "TMPDIR": str(folder),
        }  # fmt: skip

    def environment(self, service: str) -> dict[str, str]:
        own = self.services[service]["environment"]
        replaced = {name: self.here.get(name, value) for name, value in own.items()}
        path = f"{Path(sys.executable).parent}{os.pathsep}{os.environ['PATH']}"
        return {**os.environ, **QUICK, **replaced, "PATH": path, "TMPDIR": self.here["TMPDIR"]}

    def adapted(self, command: list[str]) -> list[str]:
        return [part.replace("8000", str(self.port)).replace("/tmp/", f"{self.folder}/") for part in command]

    def run(self, service: str, *command: str) -> str:
        """Runs to its end, as `docker compose run` would; returns what it printed."""
        argv = self.adapted(list(command) or self.services[service]["command"])
        done = subprocess.run(argv, env=self.environment(service), capture_output=True, text=True, timeout=180)
        assert done.returncode == 0, done.stderr
        return done.stdout.strip()

    @contextmanager
    def up(self, service: str) -> Iterator[subprocess.Popen[bytes]]:
        log = (self.folder / f"{service}.log").open("wb")
        with log, subprocess.Popen(
            self.adapted(self.services[service]["command"]), env=self.environment(service), stdout=log, stderr=log
        ) as process:  # fmt: skip
            try:
                yield process
            finally:
                process.terminate()
                process.wait(40)

    def healthy(self, service: str) -> bool:
        kind, *command = self.services[service]["healthcheck"]["test"]
        argv = self.adapted(command if kind == "CMD" else ["sh", "-c", *command])
        return subprocess.run(argv, env=self.environment(service), capture_output=True, timeout=30).returncode == 0


@pytest.fixture(scope="module")
def containers(tmp_path_factory: pytest.TempPathFactory, tiny_model: Path, redis_url: str) -> Iterator[Containers]:
    with scratch_postgres() as database_url:
        made = Containers(tmp_path_factory.mktemp("compose"), tiny_model, database_url, redis_url)
        made.run("migrate")
        with ExitStack() as stack:
            for service in ("server", "worker-cpu"):
                stack.enter_context(made.up(service))
            eventually(lambda: made.healthy("server"), every=0.5)
            yield made


@pytest.fixture(scope="module")
def api(containers: Containers) -> Iterator[httpx.Client]:
    token = containers.run("server", "d3po", "user", "add", "root", "--role", "admin")
    base, headers = f"http://127.0.0.1:{containers.port}/api/v1", {"Authorization": f"Bearer {token}"}
    with httpx.Client(base_url=base, headers=headers, timeout=30) as client:
        yield client


def finished(api: httpx.Client, launched: dict[str, Any]) -> None:
    ended = round_ended(api, launched["id"])
    assert ended["state"] == "done", ended["message"]


def test_one_small_loop(containers: Containers, api: httpx.Client) -> None:
    project = f"/projects/{answer(api.post('/projects', json={'name': 'compose', 'mode': 'pairwise'}))['id']}"
    body = {"prompts": ["a fish", "a cat"], "num_inference_steps": 4, "guidance_scale": 2}
    finished(api, answer(api.post(f"{project}/sample-rounds", json=body)))
    assert vote_on_everything(api, project.removeprefix("/projects/")) == 2
    finished(api, answer(api.post(f"{project}/training-rounds", json={"lora_rank": 2})))
    [checkpoint] = answer(api.get(f"{project}/checkpoints"))["items"]
    assert (checkpoint["number"], checkpoint["current"], checkpoint["manifest"]["pairs"]) == (1, True, 2)
    finished(api, answer(api.post(f"{project}/sample-rounds", json=body | {"prompts": ["a bird"]})))
    [task] = answer(api.post(f"{project}/tasks/next"))
    picture = api.get(httpx.URL(str(api.base_url)).join(task["images"][0]["url"]))
    assert (picture.status_code, picture.headers["content-type"]) == (200, "image/webp")
    eventually(lambda: containers.healthy("worker-cpu"))  # after its first sweep
