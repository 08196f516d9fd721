"""Settings come from the environment, and each is described."""

from __future__ import annotations

import re
import socket
import stat
import threading
from pathlib import Path

import pytest
from pydantic import ValidationError

from server.broker_socket import socket_path
from server.settings import Settings


@pytest.fixture(autouse=True)
def data_dir(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setenv("D3PO_DATA_DIR", str(tmp_path))
    return tmp_path


def test_the_database_lies_in_the_data_folder_unless_told_otherwise(data_dir: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    assert Settings().database_url == f"sqlite:///{data_dir}/d3po.db"
    monkeypatch.setenv("D3PO_DATABASE_URL", "postgresql+psycopg://d3po@db/d3po")
    assert Settings().database_url == "postgresql+psycopg://d3po@db/d3po"


@pytest.mark.parametrize(
    ("given", "name", "place"),
    [
        ("demo", "demo", None),
        ("/models/sd15", "sd15", "/models/sd15"),
        ("stable-diffusion-v1-5/stable-diffusion-v1-5", "stable-diffusion-v1-5", "stable-diffusion-v1-5/stable-diffusion-v1-5"),
    ],
)
def test_a_base_model_is_a_name_a_folder_or_a_hub_id(
    monkeypatch: pytest.MonkeyPatch, given: str, name: str, place: str | None
) -> None:
    monkeypatch.setenv("D3PO_BASE_MODEL", given)
    settings = Settings()
    assert settings.base_model == name
    assert settings.base_models[name] == (place or settings.base_models["demo"])
    assert "demo" in settings.base_models


def test_more_base_models_are_named_in_json(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("D3PO_BASE_MODELS", '{"sdxl": "/models/sdxl"}')
    assert Settings().base_models.keys() == {"demo", "sdxl"}


def test_rewards_are_registered_with_their_parameters(monkeypatch: pytest.MonkeyPatch) -> None:
    helpful, own = '{"reward": "http", "url": "http://scorer/"}', '{"reward": "mine", "x": 1}'
    monkeypatch.setenv("D3PO_REWARDS", f'{{"helpful": {helpful}, "own": {own}}}')
    told = {"reward": "http", "url": "http://scorer/", "timeout": 60.0, "attempts": 4, "pause": 1.0}
    assert Settings().rewards == {"helpful": told, "own": {"reward": "mine", "x": 1}}


@pytest.mark.parametrize(
    ("setting", "sentence"),
    [
        ('{"clip": {"reward": "clip_score"}}', "clip: The reward clip_score cannot be loaded with these parameters. model"),
        ('{"clip": {"model": "/models/clip"}}', "says no reward for clip"),
        ('{"colourfulness": {"reward": "http", "url": "http://scorer/"}}', "not the library's own; 'colourfulness' is none"),
        ('{"<b>": {"reward": "safety"}}', "takes names of up to 40 letters"),
    ],
)
def test_a_reward_that_cannot_be_registered_is_told(monkeypatch: pytest.MonkeyPatch, setting: str, sentence: str) -> None:
    monkeypatch.setenv("D3PO_REWARDS", setting)
    with pytest.raises(ValidationError, match=re.escape(sentence)):
        Settings()


def test_the_signing_key_is_made_once_and_for_its_owner_only(data_dir: Path) -> None:
    key = Settings().signing_key
    assert len(key) == 64
    assert Settings().signing_key == key
    assert stat.S_IMODE((data_dir / "secret_key").stat().st_mode) == 0o600


def test_a_given_key_is_not_written_down(data_dir: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("D3PO_SECRET_KEY", "given")
    assert Settings().signing_key == b"given"
    assert list(data_dir.iterdir()) == []


def test_every_setting_is_described() -> None:
    assert [name for name, field in Settings.model_fields.items() if not field.description] == []


def test_the_broker_of_a_running_stack_is_found(data_dir: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    assert Settings().broker_url == "redis://127.0.0.1:6379/0"
    path = socket_path(data_dir)
    path.parent.mkdir(parents=True, exist_ok=True)
    with socket.socket(socket.AF_UNIX) as broker:
        broker.bind(str(path))
        assert Settings().broker_url == "redis://127.0.0.1:6379/0"  # a socket that nobody answers at
        broker.listen()

        def pong() -> None:
            client, _ = broker.accept()
            with client:
                client.recv(100)
                client.sendall(b"+PONG\r\n")

        answering = threading.Thread(target=pong)
        answering.start()
        assert Settings().broker_url == f"redis+socket://{path}"
        answering.join()
    monkeypatch.setenv("D3PO_BROKER_URL", "redis://elsewhere:6379/0")
    assert Settings().broker_url == "redis://elsewhere:6379/0"
