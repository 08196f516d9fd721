"""The documentation is complete: settings, commands, words, and links that lead somewhere."""

from __future__ import annotations

import re
from collections.abc import Iterator
from enum import StrEnum
from pathlib import Path
from typing import Any

import pytest
import typer

from d3po_core.prompts import names as prompt_sets
from d3po_core.rewards import KNOWN
from server.cli import app
from server.models import Outcome, State
from server.settings import Settings

ROOT = Path(__file__).parents[1]
DOCS = sorted([*ROOT.glob("*.md"), *(ROOT / "docs").rglob("*.md")])


def documented(page: str) -> str:
    return (ROOT / "docs" / page).read_text(encoding="utf-8")


def commands(command: Any, name: str) -> Iterator[str]:
    children = getattr(command, "commands", {})
    for child, nested in children.items():
        yield from commands(nested, f"{name} {child}")
    if not children:
        yield name


def test_every_setting_is_documented_with_its_default_and_no_other_is() -> None:
    rows = dict(re.findall(r"^\| `(D3PO_\w+)` \| (.*?) \|", documented("settings.md"), re.MULTILINE))
    defaults = {f"D3PO_{name.upper()}": field.default for name, field in Settings.model_fields.items()}
    expected = {name: f"`{value}`" if value not in ("", {}) else "empty" for name, value in defaults.items()}
    assert rows == expected


@pytest.mark.parametrize("command", list(commands(typer.main.get_command(app), "d3po")))
def test_every_command_is_documented(command: str) -> None:
    assert f"`{command}" in documented("commands.md")


def test_every_reward_is_documented_with_its_parameters_and_no_other_is() -> None:
    rows = re.findall(r"^\| `(\w+)` \| .*? \| (.*?) ?\|$", documented("rewards.md"), re.MULTILINE)
    expected = {name: ", ".join(f"`{field}`" for field in known.params.model_fields) for name, known in KNOWN.items()}
    assert dict(rows) == expected


def test_every_prompt_set_is_documented_and_no_other_is() -> None:
    assert sorted(re.findall(r"^\| `(\w+)` \|", documented("prompts.md"), re.MULTILINE)) == prompt_sets()


@pytest.mark.parametrize("enum", [State, Outcome])
def test_every_state_and_outcome_is_in_the_glossary(enum: type[StrEnum]) -> None:
    missing = [member.value for member in enum if f"| {member.value} |" not in documented("glossary.md")]
    assert missing == []


def test_decisions_are_numbered_without_gaps_and_fit_a_page() -> None:
    decisions = sorted((ROOT / "docs" / "adr").glob("*.md"))
    assert [path.name[:5] for path in decisions] == [f"{number:04d}-" for number in range(1, len(decisions) + 1)]
    assert all(len(path.read_text(encoding="utf-8").splitlines()) <= 60 for path in decisions)


@pytest.mark.parametrize("page", DOCS, ids=lambda page: str(page.relative_to(ROOT)))
def test_links_lead_somewhere(page: Path) -> None:
    targets = re.findall(r"\]\(([^)#]+)", page.read_text(encoding="utf-8"))
    local = [target for target in targets if "://" not in target]
    assert [target for target in local if not (page.parent / target).exists()] == []
