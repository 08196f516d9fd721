"""A real HTTP scorer on this machine that answers as a test tells it, and remembers what it was asked."""

from __future__ import annotations

import json
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from threading import Event, Thread
from typing import Any


@dataclass
class ScorerServer:
    """`answers`: (status, content, headers) of the next requests; after them every request gets one score an image, 0.5."""

    url: str = ""
    answers: list[tuple[int, bytes, dict[str, str]]] = field(default_factory=list)
    asked: list[Any] = field(default_factory=list)
    slow: bool = False
    released: Event = field(default_factory=Event)

    def answer(self, status: int = 200, content: Any = b"", **headers: str) -> None:
        encoded = content if isinstance(content, bytes) else json.dumps(content).encode()
        self.answers.append((status, encoded, headers))

    def _next(self, body: Any) -> tuple[int, bytes, dict[str, str]]:
        self.asked.append(body)
        if self.answers:
            return self.answers.pop(0)
        return 200, json.dumps({"scores": [0.5] * len(body["images"])}).encode(), {}


@contextmanager
def scorer_server() -> Iterator[ScorerServer]:
    scorer = ScorerServer()

    class Handler(BaseHTTPRequestHandler):
        def do_POST(self) -> None:
            body = json.loads(self.rfile.read(int(self.headers["content-length"])))
            status, content, headers = scorer._next(body)
            self.send_response(status)
            for name, value in headers.items():
                self.send_header(name, value)
            self.send_header("content-length", str(len(content)))
            self.end_headers()
            if not scorer.slow:
                self.wfile.write(content)
                return
            for byte in content:  # dripping: each byte in time, the whole never
                if scorer.released.wait(0.05):
                    return
                self.wfile.write(bytes([byte]))

        def log_message(self, format: str, *args: Any) -> None:
            pass

    server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    scorer.url = f"http://127.0.0.1:{server.server_port}/score"
    thread = Thread(target=server.serve_forever, kwargs={"poll_interval": 0.01})
    thread.start()
    try:
        yield scorer
    finally:
        scorer.released.set()
        server.shutdown()
        server.server_close()
        thread.join()
