"""The real embedded stack in a folder of its own, and a small client of its HTTP API."""

from __future__ import annotations

import os
import re
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from io import BytesIO
from pathlib import Path
from typing import Any

import httpx
from PIL import Image

D3PO = [sys.executable, "-m", "server.cli"]


class Api:
    """`api.get(path)` and `api.post(path, **body)` under /api/v1; an error answer raises with its sentence."""

    def __init__(self, url: str, token: str) -> None:
        self.client = httpx.Client(base_url=url, headers={"Authorization": f"Bearer {token}"}, timeout=60)

    def get(self, path: str) -> Any:
        return self._checked(self.client.get(f"/api/v1{path}")).json()

    def post(self, path: str, **body: Any) -> Any:
        answer = self._checked(self.client.post(f"/api/v1{path}", json=body))
        return answer.json() if answer.content else None

    def image(self, url: str) -> Image.Image:
        """The lossless original behind an image's url."""
        return Image.open(BytesIO(self._checked(self.client.get(url)).content)).convert("RGB")

    def download(self, path: str) -> bytes:
        return self._checked(self.client.get(f"/api/v1{path}")).content

    def state(self, round_id: str) -> str:
        """The round's state. Raises RuntimeError with its message if it failed or was cancelled."""
        found = self.get(f"/rounds/{round_id}")
        if found["state"] in ("failed", "cancelled"):
            raise RuntimeError(f"Round {found['number']} {found['state']}: {found['message']}")
        return str(found["state"])

    def wait_for(self, round_id: str) -> dict[str, Any]:
        """The round, once it is done."""
        while self.state(round_id) != "done":
            time.sleep(0.5)
        return dict(self.get(f"/rounds/{round_id}"))

    def _checked(self, answer: httpx.Response) -> httpx.Response:
        if answer.is_error:
            raise RuntimeError(f"{answer.request.method} {answer.request.url.path}: {answer.status_code} {answer.text}")
        return answer


def free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


@contextmanager
def embedded_stack(data_dir: Path) -> Iterator[Api]:
    """`d3po up` in `data_dir`, ready, with an API client of its first admin; stopped cleanly afterwards."""
    port = free_port()
    command = [*D3PO, "up", "--data-dir", str(data_dir), "--port", str(port)]
    data_dir.mkdir(parents=True, exist_ok=True)
    with (data_dir / "up.log").open("w") as log:
        process = subprocess.Popen(command, stdout=subprocess.PIPE, stderr=log, text=True)
        try:
            assert process.stdout is not None
            line = process.stdout.readline()
            if not line.startswith("ready "):
                raise RuntimeError(f"d3po up did not start; {data_dir / 'up.log'} says why.")
            yield Api(line.split()[1], admin_token(data_dir))
        finally:
            process.send_signal(signal.SIGTERM)
            process.wait(timeout=60)


def admin_token(data_dir: Path) -> str:
    """A token of a new admin, by `d3po user add`."""
    environment = os.environ | {"D3PO_DATA_DIR": str(data_dir), "D3PO_DATABASE_URL": f"sqlite:///{data_dir / 'd3po.db'}"}
    command = [*D3PO, "user", "add", "loop", "--role", "admin"]
    printed = subprocess.run(command, env=environment, check=True, capture_output=True, text=True).stdout
    found = re.search(r"d3po_[\w-]+", printed)
    if found is None:
        raise RuntimeError(f"d3po user add printed no token: {printed!r}")
    return found.group()
