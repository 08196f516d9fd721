"""Job names as strings and the one way to send them. Knows no worker: the broker only delivers, the database is the truth."""

from __future__ import annotations

from functools import lru_cache
from typing import Any

from celery import Celery
from kombu.exceptions import OperationalError
from redis.exceptions import RedisError

from server.settings import get_settings

QUEUE = "d3po"
TASKS = {
    "sample": "d3po.sample", "train": "d3po.train", "duel": "d3po.duel", "study": "d3po.study", "score": "d3po.score",
    "evaluate": "d3po.evaluate",
}  # fmt: skip
QUICK = {"socket_connect_timeout": 2, "socket_timeout": 5, "max_retries": 0}


class BrokerDown(Exception):
    """The broker did not take the message."""


def celery_config(broker_url: str) -> dict[str, Any]:
    """What producer and worker must agree on."""
    return {
        "broker_url": broker_url,
        "task_default_queue": QUEUE,
        "task_ignore_result": True,
        "task_serializer": "json",
        "accept_content": ["json"],
        "broker_connection_retry_on_startup": True,
    }


@lru_cache
def producer(broker_url: str) -> Celery:
    app = Celery("d3po", set_as_current=False)
    app.conf.update(celery_config(broker_url), broker_connection_timeout=2, broker_transport_options=QUICK)
    return app


def send(job_id: str, kind: str) -> None:
    """Hands one job id to the broker; BrokerDown where it cannot be reached."""
    try:
        producer(get_settings().broker_url).send_task(TASKS[kind], args=[job_id], queue=QUEUE, retry=False)
    except (OperationalError, OSError) as error:
        raise BrokerDown(str(error)) from error


def ping() -> None:
    """BrokerDown unless the broker answers within two seconds and takes a write: a full disk or a replica does not."""
    try:
        with producer(get_settings().broker_url).connection_for_write() as connection:
            connection.ensure_connection(max_retries=1, timeout=2)
            client = getattr(connection.default_channel, "client", None)
            if client is not None:  # Redis or Valkey; Celery's other transports have none
                client.set("d3po.ready", "1", ex=60)
    except (OperationalError, OSError, RedisError) as error:
        raise BrokerDown(str(error)) from error
