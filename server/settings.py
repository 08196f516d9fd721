"""The only settings class. Every field is an environment variable with the prefix D3PO_ (docs/settings.md lists them)."""

from __future__ import annotations

import os
import re
import secrets
from functools import cached_property, lru_cache
from pathlib import Path
from typing import Any

from pydantic import Field, field_validator, model_validator
from pydantic_settings import BaseSettings, SettingsConfigDict

import d3po_core
from d3po_core.errors import BadParams
from d3po_core.rewards import KNOWN, validated
from server import broker_socket

REWARD_NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9 _.-]{0,39}")
DEMO_WEIGHTS = Path(d3po_core.__file__).parent / "demo_model" / "weights"


class Settings(BaseSettings):
    model_config = SettingsConfigDict(env_prefix="D3PO_", extra="ignore", env_ignore_empty=True)

    data_dir: Path = Field(
        default=Path("data"), description="Folder of images, trajectories, checkpoints and the SQLite database."
    )
    database_url: str = Field(
        default="", description="SQLAlchemy URL, sqlite:/// or postgresql+psycopg://. Empty: d3po.db in the data folder."
    )
    broker_url: str = Field(
        default="",
        description="Celery broker, redis:// or redis+socket://. Empty: that of `d3po up` on this data folder while it runs, "
        "else redis://127.0.0.1:6379/0.",
    )
    secret_key: str = Field(default="", description="Signs the sign-in form. Empty: made once and kept in the data folder.")
    base_model: str = Field(
        default="demo", description="What a new project starts from: a name of base_models, a diffusers folder or a hub id."
    )
    base_models: dict[str, str] = Field(
        default={},
        description="JSON: names that projects may use, each with a diffusers folder or a hub id. `demo` is always there.",
    )
    rewards: dict[str, dict[str, Any]] = Field(
        default={},
        description="JSON: names that operators may score by, each with a `reward` of docs/rewards.md or a plug-in and its "
        "parameters. Those that have no parameters are always there.",
    )
    lease_seconds: int = Field(default=120, ge=5, description="How long an annotator holds a task without a sign of life.")
    job_lease_seconds: int = Field(default=20, ge=1, description="How long a worker holds a job without a heartbeat.")
    sweep_seconds: float = Field(
        default=3, gt=0, description="How often workers look for jobs that went silent or were never sent."
    )
    device: str = Field(default="auto", description="Where models run: auto, cpu, cuda, cuda:1, mps.")
    torch_threads: int = Field(default=0, ge=0, description="CPU threads of a model, sampling and training. 0: every core.")

    @field_validator("rewards")
    @classmethod
    def _registered(cls, rewards: dict[str, dict[str, Any]]) -> dict[str, dict[str, Any]]:
        return {name: _registered(name, definition) for name, definition in rewards.items()}

    @model_validator(mode="after")
    def _complete(self) -> Settings:
        self.data_dir = self.data_dir.expanduser().absolute()
        self.database_url = self.database_url or f"sqlite:///{self.data_dir / 'd3po.db'}"
        self.broker_url = self.broker_url or self._broker_at_hand()
        self.base_models = {"demo": str(DEMO_WEIGHTS), **self.base_models}
        if self.base_model not in self.base_models:
            name = Path(self.base_model).name
            self.base_models[name] = self.base_model
            self.base_model = name
        return self

    def _broker_at_hand(self) -> str:
        return broker_socket.url(self.data_dir) if broker_socket.answers(self.data_dir) else "redis://127.0.0.1:6379/0"

    @cached_property
    def signing_key(self) -> bytes:
        """`secret_key`, or one made at first use and kept beside the data, readable by its owner only."""
        if self.secret_key:
            return self.secret_key.encode()
        path = self.data_dir / "secret_key"
        self.data_dir.mkdir(parents=True, exist_ok=True)
        try:
            with os.fdopen(os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600), "w") as file:
                file.write(secrets.token_hex(32))
        except FileExistsError:
            pass  # another process was first; its key is the key
        return path.read_bytes()


def _registered(name: str, definition: dict[str, Any]) -> dict[str, Any]:
    """The definition with the defaults of its parameters. A name means the same everywhere, so those of the library are taken."""
    kind = definition.get("reward")
    if not REWARD_NAME.fullmatch(name) or name in KNOWN:
        raise ValueError(f"takes names of up to 40 letters, digits, spaces and . _ -, not the library's own; {name!r} is none")
    if not isinstance(kind, str) or not kind:
        raise ValueError(f'says no reward for {name}; it is written {{"{name}": {{"reward": "clip_score", "model": "FOLDER"}}}}')
    try:
        return {"reward": kind} | validated(kind, {key: value for key, value in definition.items() if key != "reward"})
    except BadParams as error:
        raise ValueError(f"{name}: {error}") from error


@lru_cache
def get_settings() -> Settings:
    return Settings()
