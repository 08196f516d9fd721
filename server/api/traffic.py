"""Numbers for Prometheus: requests as they pass, rounds, jobs and votes as the database has them."""

from __future__ import annotations

import time
from collections.abc import Iterator

from prometheus_client import CollectorRegistry, Histogram, generate_latest
from prometheus_client.core import GaugeMetricFamily
from prometheus_client.registry import Collector
from sqlalchemy import func, select
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from server.db import read_scope
from server.models import Job, Round, Task, Vote

registry = CollectorRegistry()
requests = Histogram("d3po_request_seconds", "Requests by route and status.", ["method", "route", "status"], registry=registry)


class Traffic:
    """Times every request until its response starts, under the name of its route."""

    def __init__(self, app: ASGIApp) -> None:
        self.app = app

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        started = time.perf_counter()

        async def observed(message: Message) -> None:
            if message["type"] == "http.response.start":
                requests.labels(scope["method"], _route(scope), message["status"]).observe(time.perf_counter() - started)
            await send(message)

        await self.app(scope, receive, observed if scope["type"] == "http" else send)


def _route(scope: Scope) -> str:
    """The path with the names of its parameters in place of their values; "none" for what no route answers."""
    path: str = scope["path"] if "route" in scope else "none"
    for name, value in scope.get("path_params", {}).items():
        path = path.replace(f"/{value}", f"/{{{name}}}")
    return path


class Rows(Collector):
    """Counted at each scrape, so that every server process tells the same."""

    def collect(self) -> Iterator[GaugeMetricFamily]:
        with read_scope() as session:
            for table, kinds in ((Round, "rounds"), (Job, "jobs")):
                gauge = GaugeMetricFamily(f"d3po_{kinds}", f"{kinds.capitalize()} by kind and state.", labels=["kind", "state"])
                for kind, state, count in session.execute(
                    select(table.kind, table.state, func.count()).group_by(table.kind, table.state)
                ):
                    gauge.add_metric([kind, str(state)], count)
                yield gauge
            for name, rows in (("tasks", select(func.count(Task.id))), ("votes", select(func.count(Vote.id)))):
                yield GaugeMetricFamily(f"d3po_{name}", f"All {name}.", value=session.scalar(rows) or 0)

    def describe(self) -> Iterator[GaugeMetricFamily]:
        return iter(())  # registering must not ask the database


registry.register(Rows())


def exposition() -> bytes:
    return generate_latest(registry)
