from __future__ import annotations

import pytest

from d3po_core.demo_model.captions import COLOURS, KINDS
from d3po_core.params import MAX_PROMPT_CHARACTERS
from d3po_core.prompts import names, prompt_set
from d3po_core.prompts.demo import UNSEEN


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
    with pytest.raises(KeyError, match="no prompt set 'nature'; there are demo"):
        prompt_set("nature")
