"""Images and checkpoints over HTTP."""

from __future__ import annotations

import io

import pytest
from fastapi.testclient import TestClient
from PIL import Image as Picture
from sqlalchemy.orm import Session

from server.models import Group, Image, Project
from server.storage import Storage
from tests import factories


@pytest.fixture
def project(session: Session) -> Project:
    return factories.project()


@pytest.fixture
def annotator(project: Project) -> dict[str, str]:
    return factories.bearer(factories.annotator(project))


@pytest.fixture
def operator(project: Project) -> dict[str, str]:
    return factories.bearer(factories.operator(project))


def drawn(project: Project, sha256: str) -> Image:
    group: Group = factories.group(project)
    group.images[0].sha256 = sha256
    factories.commit()
    return group.images[0]


class TestImages:
    def test_members_see_the_lossless_original_for_ever(
        self, client: TestClient, storage: Storage, project: Project, annotator: dict[str, str]
    ) -> None:
        picture = factories.picture("teal")
        picture.putpixel((3, 4), (1, 2, 3))
        image = drawn(project, storage.put_image(picture))
        answer = client.get(f"/api/v1/images/{image.id}.webp", headers=annotator)
        assert (answer.status_code, answer.headers["content-type"]) == (200, "image/webp")
        assert answer.headers["cache-control"] == "private, max-age=31536000, immutable"
        assert answer.headers["x-content-type-options"] == "nosniff"
        assert Picture.open(io.BytesIO(answer.content)).convert("RGB").tobytes() == picture.tobytes()
        again = client.get(f"/api/v1/images/{image.id}.webp", headers=annotator | {"If-None-Match": answer.headers["etag"]})
        assert (again.status_code, again.content) == (304, b"")

    @pytest.mark.parametrize(("size", "width"), [("thumb", 256), ("view", 1024), ("full", 1200)])
    def test_sizes(
        self, client: TestClient, storage: Storage, project: Project, annotator: dict[str, str], size: str, width: int
    ) -> None:
        image = drawn(project, factories.stored_image(storage, width=1200, height=600))
        answer = client.get(f"/api/v1/images/{image.id}.webp?size={size}", headers=annotator)
        assert Picture.open(io.BytesIO(answer.content)).size == (width, width // 2)

    def test_others_see_nothing(self, client: TestClient, storage: Storage, project: Project, annotator: dict[str, str]) -> None:
        image = drawn(project, factories.stored_image(storage))
        path = f"/api/v1/images/{image.id}.webp"
        assert client.get(path).status_code == 401
        assert client.get(path, headers=factories.bearer(factories.annotator(factories.project()))).status_code == 403
        assert client.get(f"/api/v1/images/{'0' * 32}.webp", headers=annotator).status_code == 404
        assert client.get("/api/v1/images/..%2F..%2Fd3po.db.webp", headers=annotator).status_code == 404
        refused = client.get(f"{path}?size=huge", headers=annotator)
        assert (refused.status_code, refused.json()["detail"]) == (422, "size must be 'thumb', 'view' or 'full', you sent huge.")

    def test_a_lost_file_is_gone(self, client: TestClient, project: Project, annotator: dict[str, str]) -> None:
        image = drawn(project, "0" * 64)
        gone = client.get(f"/api/v1/images/{image.id}.webp", headers=annotator)
        assert (gone.status_code, "its votes are kept" in gone.json()["detail"]) == (410, True)


class TestCheckpoints:
    def test_list_read_and_promote(self, client: TestClient, project: Project, operator: dict[str, str]) -> None:
        first = factories.checkpoint(project)
        second = factories.checkpoint(project, parent_id=first.id, manifest={"votes_hash": "abc"})
        factories.commit()
        listed = client.get(f"/api/v1/projects/{project.id}/checkpoints", headers=operator).json()
        assert [(item["id"], item["parent_id"], item["current"]) for item in listed["items"]] == [
            (second.id, first.id, True),
            (first.id, "base", False),
        ]
        read = client.get(f"/api/v1/checkpoints/{second.id}", headers=operator).json()
        assert (read["manifest"], read["ancestors"], read["votes_by_person"]) == ({"votes_hash": "abc"}, [first.id], {})
        assert client.post(f"/api/v1/checkpoints/{first.id}/promote", headers=operator).json()["current"] is True
        assert client.get(f"/api/v1/projects/{project.id}", headers=operator).json()["checkpoint_id"] == first.id
        rolled_back = client.post(f"/api/v1/projects/{project.id}/checkpoints/base/promote", headers=operator).json()
        assert rolled_back["checkpoint_id"] == "base"

    def test_download_is_the_lora_file(
        self, client: TestClient, storage: Storage, project: Project, operator: dict[str, str]
    ) -> None:
        made = factories.checkpoint(project)
        factories.commit()
        path = f"/api/v1/checkpoints/{made.id}/download"
        assert client.get(path, headers=operator).json()["error"] == "gone"
        folder = storage.checkpoint(made.key)
        folder.mkdir(parents=True)
        (folder / "pytorch_lora_weights.safetensors").write_bytes(b"weights")
        answer = client.get(path, headers=operator)
        assert answer.content == b"weights"
        assert f"checkpoint-{made.number}-pytorch_lora_weights.safetensors" in answer.headers["content-disposition"]

    def test_annotators_stay_blind(self, client: TestClient, project: Project, annotator: dict[str, str]) -> None:
        made = factories.checkpoint(project)
        factories.commit()
        paths = [f"/projects/{project.id}/checkpoints", f"/projects/{project.id}/stats", f"/projects/{project.id}/rounds"]
        paths += [f"/checkpoints/{made.id}", f"/checkpoints/{made.id}/download"]
        assert {client.get(f"/api/v1{path}", headers=annotator).status_code for path in paths} == {403}
        assert client.get(f"/api/v1/checkpoints/{'0' * 32}", headers=annotator).status_code == 404


def test_stats(client: TestClient, project: Project, operator: dict[str, str]) -> None:
    factories.vote(factories.task(project), factories.annotator(project, name="Alice"))
    factories.commit()
    found = client.get(f"/api/v1/projects/{project.id}/stats", headers=operator).json()
    assert (found["usable"]["pairs"], found["annotators"]) == (
        2,
        [{"name": "Alice", "votes": 1, "median_seconds": None, "machine": False}],
    )
