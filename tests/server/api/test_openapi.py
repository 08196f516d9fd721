"""The OpenAPI document: complete, with examples and error shapes."""

from __future__ import annotations

from typing import Any

import pytest
from fastapi.testclient import TestClient

CONTRACT = {
    ("post", "/projects"), ("get", "/projects/{project_id}"), ("post", "/projects/{project_id}/sample-rounds"),
    ("post", "/projects/{project_id}/training-rounds"), ("post", "/projects/{project_id}/duel-rounds"),
    ("get", "/projects/{project_id}/rounds"), ("get", "/projects/{project_id}/checkpoints"), ("get", "/rounds/{round_id}"),
    ("post", "/rounds/{round_id}/cancel"), ("post", "/rounds/{round_id}/retry"), ("get", "/rounds/{round_id}/events"),
    ("post", "/projects/{project_id}/tasks/next"), ("post", "/tasks/{task_id}/votes"), ("post", "/votes/{vote_id}/retract"),
    ("post", "/tasks/{task_id}/release"), ("get", "/projects/{project_id}/stats"), ("get", "/checkpoints/{checkpoint_id}"),
    ("get", "/checkpoints/{checkpoint_id}/download"), ("post", "/checkpoints/{checkpoint_id}/promote"),
    ("get", "/images/{image_id}.webp"),
}  # fmt: skip


@pytest.fixture
def document(client: TestClient) -> dict[str, Any]:
    return client.get("/openapi.json").json()


def operations(document: dict[str, Any]) -> list[tuple[str, str, dict[str, Any]]]:
    return [(verb, path, operation) for path, verbs in document["paths"].items() for verb, operation in verbs.items()]


def test_every_path_of_the_contract_is_there(document: dict[str, Any]) -> None:
    described = {(verb, path.removeprefix("/api/v1")) for verb, path, _ in operations(document)}
    assert described >= CONTRACT | {("get", "/healthz"), ("get", "/readyz"), ("get", "/metrics")}


def test_pages_are_not_part_of_it(document: dict[str, Any]) -> None:
    assert {path for path in document["paths"] if not path.startswith("/api/v1/")} == {"/healthz", "/readyz", "/metrics"}


def test_every_error_has_the_one_shape_and_an_example(document: dict[str, Any]) -> None:
    for verb, path, operation in operations(document):
        if path.startswith("/api/"):
            errors = {status: answer for status, answer in operation["responses"].items() if status >= "400"}
            assert errors.keys() >= {"401", "403", "404", "422"}, (verb, path)
            for answer in errors.values():
                content = answer["content"]["application/json"]
                assert content["schema"] == {"$ref": "#/components/schemas/Problem"}, (verb, path)
                assert set(content["example"]) == {"error", "detail"}


def test_every_body_has_an_example(document: dict[str, Any]) -> None:
    schemas = document["components"]["schemas"]
    for verb, path, operation in operations(document):
        if "requestBody" in operation:
            name = operation["requestBody"]["content"]["application/json"]["schema"]["$ref"].rsplit("/", 1)[1]
            assert schemas[name].get("examples"), (verb, path)


def test_every_operation_says_how_to_sign_in(document: dict[str, Any]) -> None:
    for _, path, operation in operations(document):
        assert bool(operation.get("security")) == path.startswith("/api/")


@pytest.mark.parametrize("path", ["/docs", "/redoc"])
def test_no_page_of_the_framework_loads_scripts_from_elsewhere(client: TestClient, path: str) -> None:
    assert client.get(path).status_code == 404


@pytest.mark.parametrize("path", ["/openapi.json", "/api/v1/nothing", "/sign-in", "/healthz"])
def test_no_answer_is_guessed_to_be_something_else(client: TestClient, path: str) -> None:
    assert client.get(path).headers["x-content-type-options"] == "nosniff"


def test_a_huge_body_is_refused_in_the_same_shape(client: TestClient) -> None:
    part, headers = b" " * 2**20, {"Content-Type": "application/json"}
    refused = client.post("/api/v1/projects", content=part * 33, headers=headers)
    assert (refused.status_code, refused.json()["error"]) == (413, "too_large")
    assert client.post("/api/v1/projects", content=(part for _ in range(33)), headers=headers).status_code == 413


def test_what_is_nowhere_is_told_in_the_same_shape(client: TestClient) -> None:
    assert client.get("/api/v1/nothing").json() == {"error": "not_found", "detail": "There is nothing at this address."}
    refused = client.delete("/api/v1/projects")
    assert (refused.status_code, refused.json()["error"]) == (405, "method_not_allowed")
