from __future__ import annotations

import hashlib
import json
import re
from pathlib import Path
from typing import Any

import pytest

from d3po_core.demo_model.captions import COLOURS, KINDS
from d3po_core.errors import BadPrompts
from d3po_core.params import MAX_PROMPT_CHARACTERS
from d3po_core.prompts import MAX_PROMPTS, filled, names, new_set, prompt_set, prompts_in, set_from_file
from d3po_core.prompts.animals import ACTIVITIES, ANIMALS
from d3po_core.prompts.demo import UNSEEN

DEMO = "1fa2244b56072c2ce4bad1f2948dc77a252c85eb6a30673eb9f11fc6df4bcbc6"
"""SHA-256 of the demo set's two parts and of a draw from each: recorded rounds and benchmarks rest on them."""


@pytest.mark.parametrize("name", names())
def test_drawn_and_held_out_prompts_share_nothing(name: str) -> None:
    prompts = prompt_set(name)
    assert not set(prompts.prompts) & set(prompts.reserved)
    assert set(prompts.draw(500, 0)) <= set(prompts.prompts)
    assert set(prompts.held_out(500, 0)) <= set(prompts.reserved)


@pytest.mark.parametrize("name", names())
def test_the_same_seed_draws_the_same_prompts_and_another_does_not(name: str) -> None:
    prompts = prompt_set(name)
    assert prompts.draw(8, 1) == prompt_set(name).draw(8, 1)
    assert prompts.draw(8, 1) != prompts.draw(8, 2)
    assert prompts.held_out(8, 1) == prompts.held_out(8, 1)


def test_prompts_repeat_only_when_the_set_is_used_up() -> None:
    prompts = prompt_set("demo")
    count = len(prompts.prompts)
    drawn = prompts.draw(count + 3, 0)
    assert sorted(drawn[:count]) == sorted(prompts.prompts)
    assert len(drawn) == count + 3


def test_a_fifth_of_the_demo_prompts_is_held_out() -> None:
    prompts = prompt_set("demo")
    assert 0.15 < len(prompts.reserved) / (len(prompts.prompts) + len(prompts.reserved)) < 0.25


def test_demo_prompts_cover_every_kind_and_colour() -> None:
    prompts = prompt_set("demo")
    everything = [*prompts.prompts, *prompts.reserved]
    assert len(everything) == len(set(everything))
    assert {kind for pair in KINDS.values() for kind in pair} - set(UNSEEN) <= set(everything)
    assert not set(UNSEEN) & set(everything)
    assert all(any(prompt.endswith(f" {colour} background") for prompt in everything) for colour in COLOURS)
    assert max(map(len, everything)) < MAX_PROMPT_CHARACTERS


def test_an_unknown_set_is_named() -> None:
    with pytest.raises(KeyError, match="no prompt set 'nature'; there are animal_activities, animals, demo"):
        prompt_set("nature")


def test_the_demo_set_is_what_it_always_was() -> None:
    demo = prompt_set("demo")
    parts = [demo.prompts, demo.reserved, demo.draw(40, 3), demo.held_out(40, 3)]
    assert hashlib.sha256(json.dumps(parts).encode()).hexdigest() == DEMO


def everything(name: str) -> list[str]:
    prompts = prompt_set(name)
    return [*prompts.prompts, *prompts.reserved]


def test_the_published_animals_are_45_with_three_activities_each() -> None:
    assert len(set(ANIMALS)) == 45
    assert sorted(everything("animals")) == sorted(ANIMALS)
    prompts = everything("animal_activities")
    assert len(set(prompts)) == 45 * len(ACTIVITIES)
    assert {"an ant riding a bike", "a cat washing dishes", "a kangaroo playing chess"} <= set(prompts)


def test_imagenet_names_are_those_of_ilsvrc_2012_each_once() -> None:
    prompts = everything("imagenet")
    assert len(prompts) == len(set(prompts)) == 998
    assert {"tench", "crane", "maillot", "toilet tissue"} <= set(prompts)
    animals = set(everything("imagenet_animals"))
    assert len(animals) == 398
    assert {"tench", "puffer"} <= animals <= set(prompts)
    assert "abacus" not in animals


def test_what_is_held_out_depends_on_the_prompt_alone() -> None:
    words = [f"prompt {number}" for number in range(200)]
    some, all_of_them = new_set("some", words[50:150]), new_set("all", reversed(words))
    assert set(some.reserved) == set(all_of_them.reserved) & set(words[50:150])
    assert 0.1 < len(all_of_them.reserved) / 200 < 0.3
    assert set(new_set("half", words, 0.5).reserved) > set(all_of_them.reserved)


@pytest.mark.parametrize("share", [0.001, 0.2, 0.999])
@pytest.mark.parametrize("count", [2, 3, 10])
def test_of_two_prompts_or_more_each_part_has_one(count: int, share: float) -> None:
    small = new_set("small", [f"prompt {number}" for number in range(count)], share)
    assert small.prompts
    assert small.reserved
    assert len(small.prompts) + len(small.reserved) == count


def test_a_set_of_one_prompt_draws_it_for_everything() -> None:
    hand = new_set("hand", ["1 hand"])
    assert hand.draw(3, 0) == hand.held_out(3, 1) == ["1 hand"] * 3


def test_a_weight_is_how_often_a_prompt_is_drawn() -> None:
    weights = {"rare": 0.5, "usual": 1.0, "often": 6.0, "held out": 2.0}
    weighted = new_set("weighted", weights)
    drawn = weighted.draw(7000, 0)
    kept = {prompt: weights[prompt] for prompt in weighted.prompts}
    assert len(kept) > 1
    for prompt, weight in kept.items():
        assert drawn.count(prompt) / 7000 == pytest.approx(weight / sum(kept.values()), abs=0.02)
    assert weighted.draw(5, 1) == weighted.draw(5, 1) != weighted.draw(5, 2)


@pytest.mark.parametrize(
    ("prompts", "says"),
    [
        ([], "has no prompts"),
        (["a cat", "  "], "has an empty prompt"),
        (["x" * (MAX_PROMPT_CHARACTERS + 1)], "has a prompt of 2,001 characters"),
        ([str(number) for number in range(MAX_PROMPTS + 1)], "has 10,001 prompts; at most 10,000"),
        ({"a cat": 0.0}, "weight of the prompt 'a cat' is 0.0"),
        ({"a cat": float("nan")}, "weight of the prompt 'a cat' is nan"),
        ({"a cat": 1e308, "a dog": 1e308}, "it must be above 0, and at most 1e9"),
        ({"a cat": float("inf")}, "is inf; it must be above 0"),
    ],
)
def test_prompts_that_make_no_set_are_refused(prompts: list[str] | dict[str, float], says: str) -> None:
    with pytest.raises(BadPrompts, match=says):
        new_set("mine", prompts)


@pytest.mark.parametrize("share", [0.0, 1.0, -0.1, float("nan")])
def test_the_held_out_share_lies_between_none_and_all(share: float) -> None:
    with pytest.raises(BadPrompts, match="must lie between 0 and 1"):
        new_set("mine", ["a cat"], share)


def test_a_file_is_a_set_under_its_name(tmp_path: Path) -> None:
    path = tmp_path / "hands.txt"
    path.write_bytes("\ufeff1 hand\r\n\r\n   \n  zwölf Hände \n1 hand\n".encode())
    hands = set_from_file(path)
    assert hands.name == "hands"
    assert {*hands.prompts, *hands.reserved} == {"1 hand", "zwölf Hände"}
    assert hands.weights == {"1 hand": 2.0}


def test_a_line_may_end_in_a_tab_and_a_weight() -> None:
    content = b"a cat\t2\na dog\nan owl\t0.5\na cat\t1\nwith\ttab\t3\n\tindented\n"
    assert prompts_in(content, "a.txt") == {"a cat": 3.0, "a dog": 1.0, "an owl": 0.5, "with tab": 3.0, "indented": 1.0}


@pytest.mark.parametrize(
    ("content", "says"),
    [
        ("a cat\ncafé".encode("latin-1"), r"a\.txt is not UTF-8: line 2 has the byte 0xE9. Save it as UTF-8"),
        ("a cat".encode("utf-16"), r"a\.txt is UTF-16, not UTF-8"),
        (b"\xfe\xff\x00a", r"a\.txt is UTF-16, not UTF-8"),
        (b"a cat\n\x89PNG\r\n\x1a\n", r"a\.txt is not UTF-8: line 2 has the byte 0x89"),
        (b"a cat\na\x00dog", r"a\.txt, line 2, has a character that is no text \(U\+0000\)"),
        (b"a cat\theavy", r"a\.txt, line 1, has 'heavy' after a tab"),
        (b"\n \n", "The prompt set a has no prompts"),
        (b"", "The prompt set a has no prompts"),
        (b"x" * 10_000_001, r"a\.txt has 10,000,001 bytes; at most 10,000,000"),
    ],
)
def test_a_file_that_holds_no_prompts_is_refused_with_its_line(content: bytes, says: str, tmp_path: Path) -> None:
    path = tmp_path / "a.txt"
    path.write_bytes(content)
    with pytest.raises(BadPrompts, match=says):
        set_from_file(path)


def test_a_file_that_is_not_there_is_named(tmp_path: Path) -> None:
    with pytest.raises(BadPrompts, match=r"none\.txt cannot be read: No such file"):
        set_from_file(tmp_path / "none.txt")


def test_templates_take_every_combination_with_the_right_article() -> None:
    words = {"animal": ["cat", "Owl"], "thing": ["red ant", "orange"]}
    assert filled(["a {animal} and a {thing}", "A {animal}", "2 {animal}s", "snow"], words) == [
        "a cat and a red ant", "a cat and an orange", "an Owl and a red ant", "an Owl and an orange",
        "A cat", "An Owl", "2 cats", "2 Owls", "snow",
    ]  # fmt: skip
    assert filled(["{animal} sees {animal}"], words) == ["cat sees cat", "Owl sees Owl"]
    assert filled(["{animal}", "{animal}"], {"animal": ["{thing}", "cat", "cat"]}) == ["{thing}", "cat"]


@pytest.mark.parametrize(
    ("template", "words", "says"),
    [
        ("a {animal}", {}, r"has a field \{animal\} for which there are no words"),
        ("a {animal}", {"animal": []}, "no words"),
        ("a {animal", {"animal": ["cat"]}, "has a brace that belongs to no field"),
        ("a {two words}", {"two words": ["cat"]}, "has a brace that belongs to no field"),
        ("{a} {b} {c}", {name: [str(number) for number in range(22)] for name in "abc"}, "makes 10,648 prompts; at most 10,000"),
    ],
)
def test_a_template_that_cannot_be_filled_is_refused(template: str, words: dict[str, list[str]], says: str) -> None:
    with pytest.raises(BadPrompts, match=says):
        filled([template], words)


def test_the_example_of_the_guide_runs() -> None:
    page = (Path(__file__).parents[2] / "docs" / "prompts.md").read_text(encoding="utf-8")
    (example,) = re.findall(r"```python\n(.*?)```", page, re.DOTALL)
    made: dict[str, Any] = {}
    exec(example, made)
    assert {*made["prompts"].prompts, *made["prompts"].reserved} >= {"a cat playing chess", "an ant riding a bike"}
