"""`d3po serve`: the web application in uvicorn, with event streams that do not hold up the end."""

from __future__ import annotations

import threading
from types import FrameType

import uvicorn

from server.app import create_app

GRACE_SECONDS = 5


class Server(uvicorn.Server):
    """Tells event streams to end as soon as a signal comes; uvicorn itself would wait for them first."""

    def __init__(self, config: uvicorn.Config, stopping: threading.Event) -> None:
        super().__init__(config)
        self.stopping = stopping

    def handle_exit(self, sig: int, frame: FrameType | None) -> None:
        self.stopping.set()
        super().handle_exit(sig, frame)


def run(host: str, port: int) -> None:
    app = create_app()
    config = uvicorn.Config(app, host=host, port=port, access_log=False, timeout_graceful_shutdown=GRACE_SECONDS)
    Server(config, app.state.stopping).run()
