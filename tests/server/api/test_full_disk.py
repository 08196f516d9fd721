"""Votes while the database's disk is full: refused in a sentence, and stored once there is room."""

from __future__ import annotations

import shutil
import uuid
from collections.abc import Iterator
from pathlib import Path

import pytest
from fastapi.testclient import TestClient

from tests import factories
from tests.disks import Disk, small_disk


@pytest.fixture
def disk(tmp_path: Path) -> Iterator[Disk]:
    with small_disk(tmp_path / "disk", "8m") as disk:
        yield disk


@pytest.fixture
def database_url(disk: Disk, migrated_sqlite: Path) -> str:
    shutil.copyfile(migrated_sqlite, disk.folder / "d3po.db")
    return f"sqlite:///{disk.folder / 'd3po.db'}"


def test_a_vote_is_refused_until_there_is_room(disk: Disk, client: TestClient) -> None:
    project = factories.project()
    task = factories.task(project)
    path, headers = f"/api/v1/tasks/{task.id}/votes", factories.bearer(factories.annotator(project))
    ballot = {"vote_id": str(uuid.uuid4()), "outcome": "best", "best_image_id": task.group.images[0].id}
    disk.leave(0)
    refused = client.post(path, headers=headers, json=ballot)
    assert (refused.status_code, refused.json()) == (
        503,
        {
            "error": "unavailable",
            "detail": "The server's disk is full. Nothing was changed; try again once somebody has made room.",
        },
    )
    disk.free()
    assert client.post(path, headers=headers, json=ballot).json()["counted"]
