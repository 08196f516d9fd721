"""The benchmark of the voting page counts what it should; the page itself is timed by `python -m benchmarks.vote_page`."""

from __future__ import annotations

import re
from pathlib import Path

from benchmarks.vote_page import compare, summary


def test_percentiles_are_of_the_votes() -> None:
    assert summary([float(each) for each in range(1, 102)]) == {"p50_ms": 51.0, "p95_ms": 96.0, "max_ms": 101.0}


def test_a_ratio_above_one_is_time_that_preloading_saves() -> None:
    found = compare({"preloaded": [10.0] * 5, "not preloaded": [80.0] * 5})
    assert (found["votes"], found["ratio_p50"], found["ratio_p95"]) == (5, 8.0, 8.0)


def test_the_page_still_has_what_the_other_arm_switches_off() -> None:
    page = Path(__file__).parents[1] / "web" / "static" / "ahead.js"
    assert len(re.findall(r"const HELD = \d+;", page.read_text())) == 1
