"""Simulated people of known reliability are told apart by how they agree."""

from __future__ import annotations

import random
import re
import sys
from pathlib import Path
from typing import Any

import pytest

from d3po_core.errors import LibraryMissing
from d3po_core.preferences import Preference
from d3po_core.reliability import NOT_KNOWN, Estimate, estimate

N = 4
Group = tuple[list[Preference], int]


def groups_of(people: dict[str, float], votes: int, groups: int, outcome: str = "best", seed: int = 0) -> list[Group]:
    """Image 0 is the best one, then 1, ...; `people`: by how little a person errs, 0 for whoever clicks at random."""
    rng = random.Random(seed)

    def vote(name: str) -> Preference:
        seen = sorted(range(N), key=lambda i: i * people[name] + rng.gauss())
        return Preference(outcome, best=seen[0], ranking=seen, annotator=name)

    return [([vote(name) for name in rng.sample(sorted(people), votes)], N) for _ in range(groups)]


@pytest.mark.parametrize("outcome", ["best", "ranking"])
def test_who_clicks_at_random_is_told_from_who_looks(outcome: str) -> None:
    people = {"clicks": 0.0, "clicks too": 0.0, **{f"looks {k}": 0.7 + k / 5 for k in range(5)}}
    seen = estimate(groups_of(people, 3, 60, outcome)).people
    assert all(seen[name].reliability < 0.66 for name in ("clicks", "clicks too"))
    assert all(seen[name].reliability > 0.75 for name in people if name.startswith("looks"))


def test_who_saw_what_nobody_else_saw_has_the_mean_of_the_others() -> None:
    together = groups_of({"a": 1.0, "b": 1.5, "c": 0.0}, 3, 30)
    alone = groups_of({"d": 1.0}, 1, 30)
    seen = estimate(together + alone)
    assert seen.people["d"].reliability == seen.population
    assert (seen.people["d"].votes, seen.people["d"].shared, seen.people["a"].shared) == (30, 0, 30)
    assert 0.6 < seen.population < 0.95


def test_nobody_is_known_where_nobody_shares_a_comparison() -> None:
    alone = [group for name in "ab" for group in groups_of({name: 1.0}, 1, 3)]
    assert {person.reliability for person in estimate(alone).people.values()} == {NOT_KNOWN}
    assert estimate([]) == Estimate(NOT_KNOWN, {})
    assert estimate([([Preference("tie", annotator="a"), Preference("best", best=0)], 2)]).people == {}


def test_nobody_is_always_right_or_always_wrong() -> None:
    """However few votes there are, and if all agree or all disagree."""
    agree = [([Preference("best", best=0, annotator=name) for name in "abc"], 6)] * 50
    disagree = [([Preference("best", best=k, annotator=name) for k, name in enumerate("ab")], 2)] * 3
    for groups in (agree, agree[:1], disagree):
        assert all(0.5 < person.reliability < 1 for person in estimate(groups).people.values())


def test_a_machines_ratings_are_comparisons_like_any() -> None:
    groups = [
        ([*votes, Preference("rated", ratings=[[-k] for k in range(N)], annotator="machine")], n)
        for votes, n in groups_of({"looks": 1.0, "clicks": 0.0}, 2, 40)
    ]
    seen = estimate(groups).people
    assert min(seen["machine"].reliability, seen["looks"].reliability) > seen["clicks"].reliability + 0.1


def test_the_same_votes_give_the_same_numbers_whoever_came_first() -> None:
    groups = groups_of(dict.fromkeys("abcd", 0.7), 2, 20)
    assert estimate(groups) == estimate([(votes[::-1], n) for votes, n in groups])


def test_without_crowd_kit_a_sentence_says_what_to_install(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "crowdkit", None)
    with pytest.raises(LibraryMissing, match=r"needs the package crowd-kit, .* pip install 'd3po\[reliability\]'"):
        estimate(groups_of({"a": 1.0}, 1, 1))


def test_the_example_of_the_docs_runs() -> None:
    page = Path(__file__).parents[2] / "docs" / "reliability.md"
    (example,) = re.findall(r"```python\n(.*?)```", page.read_text(encoding="utf-8"), re.DOTALL)
    names: dict[str, Any] = {}
    exec(compile(example, str(page), "exec"), names)
    assert sum(names["weights"]) == pytest.approx(2)
