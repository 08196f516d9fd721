"""Which prompts a round draws: given by a person, or taken from a prompt set."""

from __future__ import annotations

import re
from collections.abc import Sequence

from d3po_core import prompts as sets
from d3po_core.params import MAX_PROMPT_CHARACTERS
from server.errors import Invalid, TooLarge

MAX_PROMPTS = 10_000
_SPACES = re.compile(r"[\t\n\v\f\r]+")
_UNPRINTABLE = re.compile(r"[\x00-\x1f\x7f-\x9f\ud800-\udfff]")  # Unicode's categories Cc and Cs


def check(prompts: Sequence[str]) -> list[str]:
    """The prompts, each on one line without surrounding space; Invalid where one is empty, too long or not text."""
    if not prompts:
        raise Invalid("A round needs at least one prompt.")
    if len(prompts) > MAX_PROMPTS:
        raise TooLarge(
            f"A round takes at most {MAX_PROMPTS:,} prompts, you sent {len(prompts):,}. Split them over several rounds."
        )
    return [_check(position, _SPACES.sub(" ", prompt).strip()) for position, prompt in enumerate(prompts, start=1)]


def _check(position: int, prompt: str) -> str:
    if not prompt:
        raise Invalid(f"Prompt {position} is empty. Write what the images should show.")
    if len(prompt) > MAX_PROMPT_CHARACTERS:
        raise Invalid(
            f"Prompt {position} is {len(prompt):,} characters long; at most {MAX_PROMPT_CHARACTERS:,} are taken. Shorten it."
        )
    if found := _UNPRINTABLE.search(prompt):
        raise Invalid(
            f"Prompt {position} has a character that is no text (U+{ord(found[0]):04X}) after {found.start()} others. "
            "Remove it; nothing was launched."
        )
    return prompt


def check_set(name: str) -> None:
    if name not in sets.names():
        raise Invalid(f"There is no prompt set called {name}. Known: {', '.join(sets.names())}.")


def draw(name: str, count: int, seed: int) -> list[str]:
    """`count` prompts to sample from."""
    _check_draw(name, count)
    return check(sets.prompt_set(name).draw(count, seed))


def held_out(name: str, count: int, seed: int) -> list[str]:
    """`count` prompts that no sample round draws, for duels."""
    _check_draw(name, count)
    return check(sets.prompt_set(name).held_out(count, seed))


def _check_draw(name: str, count: int) -> None:
    check_set(name)
    if not 1 <= count <= MAX_PROMPTS:
        raise Invalid(f"A round draws 1 to {MAX_PROMPTS:,} prompts from a prompt set, you sent {count:,}.")
