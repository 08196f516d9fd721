"""The notebook example of docs/library.md, executed as it stands there."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any

import pytest
import torch

from d3po_core.checkpoint import read_manifest
from d3po_core.denoisers.base import WEIGHTS

PAGE = Path(__file__).parents[2] / "docs" / "library.md"


def test_the_example_trains_a_lora(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (example,) = re.findall(r"```python\n(.*?)```", PAGE.read_text(encoding="utf-8"), re.DOTALL)
    assert len([line for line in example.splitlines() if line.strip()]) <= 20
    monkeypatch.chdir(tmp_path)
    names: dict[str, Any] = {}
    exec(compile(example, str(PAGE), "exec"), names)
    assert (tmp_path / "checkpoint" / WEIGHTS).is_file()
    assert names["manifest"] == read_manifest(tmp_path / "checkpoint")
    assert names["manifest"].pairs == 3 + 6
    before, after = names["groups"][0].trajectory, names["better"].trajectory
    assert before.header.policy == "base"
    assert after.header.policy == names["manifest"].weights
    assert not torch.equal(before.latents, after.latents)
