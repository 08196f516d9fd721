"""The OpenAPI document: complete, with examples and error shapes."""

from __future__ import annotations

import re
from typing import Any

import pytest
from fastapi.testclient import TestClient

from tests import factories

CONTRACT = {
    ("post", "/projects"), ("get", "/projects/{project_id}"), ("post", "/projects/{project_id}/sample-rounds"),
    ("post", "/projects/{project_id}/training-rounds"), ("post", "/projects/{project_id}/duel-rounds"),
    ("get", "/projects/{project_id}/rounds"), ("get", "/projects/{project_id}/checkpoints"), ("get", "/rounds/{round_id}"),
    ("post", "/rounds/{round_id}/cancel"), ("post", "/rounds/{round_id}/retry"), ("get", "/rounds/{round_id}/events"),
    ("post", "/projects/{project_id}/tasks/next"), ("post", "/tasks/{task_id}/votes"), ("post", "/votes/{vote_id}/retract"),
    ("post", "/tasks/{task_id}/release"), ("get", "/projects/{project_id}/stats"), ("get", "/checkpoints/{checkpoint_id}"),
    ("get", "/checkpoints/{checkpoint_id}/download"), ("post", "/checkpoints/{checkpoint_id}/promote"),
    ("get", "/images/{image_id}.webp"), ("get", "/projects/{project_id}/export"),
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


def test_every_answer_has_an_example(document: dict[str, Any]) -> None:
    """Its own, or that of the thing it is, or of the things it lists."""
    schemas = document["components"]["schemas"]

    def named(schema: dict[str, Any]) -> dict[str, Any]:
        return schemas[schema["$ref"].rsplit("/", 1)[1]] if "$ref" in schema else schema

    def is_shown(schema: dict[str, Any]) -> bool:
        one = named(schema)
        listed = one.get("items") or one.get("properties", {}).get("items", {}).get("items")
        return bool(one.get("examples")) or (listed is not None and is_shown(listed))

    for verb, path, operation in operations(document):
        for status, answer in operation["responses"].items():
            content = answer.get("content", {}).get("application/json")
            if status < "300" and content is not None:
                assert "example" in content or is_shown(content["schema"]), (verb, path)


def test_an_id_that_nothing_has_is_not_found(client: TestClient, document: dict[str, Any]) -> None:
    """Every path with the body of its own example, asked by somebody who may do everything."""
    root, schemas = factories.bearer(factories.admin()), document["components"]["schemas"]
    for verb, path, operation in operations(document):
        if "{" not in path:
            continue
        body, query = None, {"format": "votes"} if path.endswith("/export") else {}
        if "requestBody" in operation:
            name = operation["requestBody"]["content"]["application/json"]["schema"]["$ref"].rsplit("/", 1)[1]
            body = schemas[name]["examples"][0]
        for unknown in ("0" * 32, "1", "ÿ", "a" * 4000):
            url = re.sub(r"\{kind\}", "sample", path)
            answer = client.request(verb, re.sub(r"\{\w+\}", unknown, url), json=body, params=query, headers=root)
            assert (answer.status_code, answer.json()["error"]) == (404, "not_found"), (verb, path, answer.text)


def test_every_operation_says_how_to_sign_in(document: dict[str, Any]) -> None:
    for _, path, operation in operations(document):
        assert bool(operation.get("security")) == path.startswith("/api/")


@pytest.mark.parametrize("path", ["/docs", "/redoc"])
def test_no_page_of_the_framework_loads_scripts_from_elsewhere(client: TestClient, path: str) -> None:
    assert client.get(path).status_code == 404


@pytest.mark.parametrize("path", ["/openapi.json", "/api/v1/nothing", "/sign-in", "/healthz"])
def test_no_answer_is_guessed_to_be_something_else(client: TestClient, path: str) -> None:
    assert client.get(path).headers["x-content-type-options"] == "nosniff"


@pytest.mark.parametrize(
    ("path", "headers", "most"),
    [
        ("/projects", {}, "64 KiB"),
        ("/projects/x/sample-rounds", {}, "64 KiB"),
        ("/tasks/x/votes", {"Authorization": "Bearer x"}, "1 MiB"),
        ("/tasks/x/votes", {"Cookie": "d3po_session=x"}, "1 MiB"),
        ("/projects", {"Authorization": "Bearer x"}, "32 MiB"),
        ("/projects/x/sample-rounds", {"Authorization": "Bearer x"}, "32 MiB"),
    ],
)
def test_a_huge_body_is_refused_in_the_same_shape(client: TestClient, path: str, headers: dict[str, str], most: str) -> None:
    number, unit = most.split()
    part = b" " * (2**10 if unit == "KiB" else 2**20)
    detail = f"This request takes at most {most}; what was sent is larger. Nothing was changed; send it in parts."
    for content in (part * (int(number) + 1), (part for _ in range(int(number) + 1))):
        refused = client.post(f"/api/v1{path}", content=content, headers=headers | {"Content-Type": "application/json"})
        assert (refused.status_code, refused.json()) == (413, {"error": "too_large", "detail": detail})


def test_what_is_nowhere_is_told_in_the_same_shape(client: TestClient) -> None:
    assert client.get("/api/v1/nothing").json() == {"error": "not_found", "detail": "There is nothing at this address."}
    refused = client.delete("/api/v1/projects")
    assert (refused.status_code, refused.json()["error"]) == (405, "method_not_allowed")
