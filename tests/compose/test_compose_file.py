"""docker-compose.yml and Dockerfile, checked without a Docker engine."""

from __future__ import annotations

import json
import re
from pathlib import Path
from typing import Any

import jsonschema
import pytest

from server.settings import Settings
from tests.compose.compose import ROOT, VARIABLE, example_environment, load, source

SCHEMA = json.loads((Path(__file__).parent / "compose-spec.json").read_text())


@pytest.fixture
def compose() -> dict[str, Any]:
    return load(example_environment())


def test_it_follows_the_compose_specification(compose: dict[str, Any]) -> None:
    jsonschema.Draft202012Validator(SCHEMA).validate(compose)


def test_the_schema_does_find_mistakes(compose: dict[str, Any]) -> None:
    compose["services"]["server"]["restarts"] = "always"
    assert not jsonschema.Draft202012Validator(SCHEMA).is_valid(compose)


def test_every_part_is_there_with_its_profile(compose: dict[str, Any]) -> None:
    profiles = {name: service.get("profiles", []) for name, service in compose["services"].items()}
    always: list[str] = []
    assert profiles == {
        "postgres": always, "redis": always, "migrate": always, "server": always, "worker": ["gpu"], "worker-cpu": ["cpu"],
    }  # fmt: skip
    assert example_environment()["COMPOSE_PROFILES"] in ("gpu", "cpu")
    [device] = compose["services"]["worker"]["deploy"]["resources"]["reservations"]["devices"]
    assert (device["driver"], device["capabilities"]) == ("nvidia", ["gpu"])


def test_what_runs_on_restarts_and_says_how_it_is(compose: dict[str, Any]) -> None:
    for name in ("postgres", "redis", "server", "worker", "worker-cpu"):
        assert compose["services"][name]["restart"] == "unless-stopped", name
        assert compose["services"][name]["healthcheck"]["test"], name


def test_nothing_starts_before_what_it_needs(compose: dict[str, Any]) -> None:
    needs = {
        name: {on: how["condition"] for on, how in service.get("depends_on", {}).items()}
        for name, service in compose["services"].items()
    }
    ready = {"migrate": "service_completed_successfully", "redis": "service_healthy"}
    assert needs["migrate"] == {"postgres": "service_healthy"}
    assert needs["server"] == needs["worker"] == needs["worker-cpu"] == ready


def test_named_volumes_are_declared_and_data_is_shared(compose: dict[str, Any]) -> None:
    mounts = {name: [mount.split(":") for mount in service.get("volumes", [])] for name, service in compose["services"].items()}
    named = {volume for mounted in mounts.values() for volume, *_ in mounted if not volume.startswith((".", "/"))}
    assert named == set(compose["volumes"])
    for name in ("migrate", "server", "worker", "worker-cpu"):
        assert ["data", compose["services"][name]["environment"]["D3PO_DATA_DIR"]] in mounts[name]


def test_a_model_folder_of_the_host_is_where_the_readme_says(compose: dict[str, Any]) -> None:
    [folder] = set(re.findall(r"D3PO_BASE_MODEL=(/\w+)/", (ROOT / "README.md").read_text()))
    for name in ("server", "worker", "worker-cpu"):
        assert f"{example_environment()['D3PO_MODELS_DIR']}:{folder}:ro" in compose["services"][name]["volumes"]


@pytest.mark.parametrize("secret", ["POSTGRES_PASSWORD", "D3PO_SECRET_KEY"])
def test_secrets_come_from_the_environment_and_have_no_default(secret: str) -> None:
    with pytest.raises(ValueError, match=f"Set {secret} in .env"):
        load({name: value for name, value in example_environment().items() if name != secret})


def test_the_example_names_every_variable_and_no_other() -> None:
    asked = {name for name, _, _ in VARIABLE.findall(source())}
    assert asked | {"COMPOSE_PROFILES"} == set(example_environment())


def test_settings_given_to_containers_exist(compose: dict[str, Any]) -> None:
    known = {f"D3PO_{name.upper()}" for name in Settings.model_fields}
    for service in compose["services"].values():
        assert {name for name in service.get("environment", {}) if name.startswith("D3PO_")} <= known


def test_images_are_targets_of_the_dockerfile(compose: dict[str, Any]) -> None:
    dockerfile = (ROOT / "Dockerfile").read_text()
    targets = set(re.findall(r"^FROM \S+ AS (\w+)$", dockerfile, re.MULTILINE))
    assert {service["build"]["target"] for service in compose["services"].values() if "build" in service} == targets - {"base"}
    for source_path in re.findall(r"^COPY (.+) \S+$", dockerfile, re.MULTILINE):
        for path in source_path.split():
            assert (ROOT / path).exists(), path
            assert f"!{path}" in (ROOT / ".dockerignore").read_text().splitlines()


def test_only_the_worker_image_has_torch() -> None:
    stages = dict(
        re.findall(r"^FROM \S+ AS (\w+)\n(.*?)(?=^FROM|\Z)", (ROOT / "Dockerfile").read_text(), re.MULTILINE | re.DOTALL)
    )
    assert "[worker]" in stages["worker"]
    assert "[worker]" not in stages["server"] + stages["base"]
