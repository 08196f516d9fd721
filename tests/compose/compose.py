"""docker-compose.yml as Docker Compose would read it: merged, with the environment's values filled in."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any

import yaml

ROOT = Path(__file__).parents[2]
VARIABLE = re.compile(r"\$\{(\w+)(?:(:[-?])([^}]*))?\}")


def load(environment: dict[str, str]) -> dict[str, Any]:
    """The file with ${NAME}, ${NAME:-default} and ${NAME:?complaint} replaced. Raises ValueError with the complaint."""

    def fill(match: re.Match[str]) -> str:
        name, rule, text = match.groups()
        if value := environment.get(name):
            return value
        if rule == ":?":
            raise ValueError(text)
        return text or ""

    text = "".join(line for line in source().splitlines(keepends=True) if not line.lstrip().startswith("#"))
    return dict(yaml.safe_load(VARIABLE.sub(fill, text)))


def source() -> str:
    return (ROOT / "docker-compose.yml").read_text()


def example_environment() -> dict[str, str]:
    """What .env.example sets, with its empty secrets filled in."""
    lines = [line for line in (ROOT / ".env.example").read_text().splitlines() if line and not line.startswith("#")]
    return {name: value or "secret" for name, _, value in (line.partition("=") for line in lines)}
