"""Which prompts a round draws: given by a person, or taken from a prompt set, the project's own or one by name."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence

from d3po_core import prompts as sets
from d3po_core.errors import BadPrompts
from d3po_core.params import MAX_PROMPT_CHARACTERS
from server.errors import Invalid, TooLarge
from server.models import OWN_PROMPTS, Project

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
    """Invalid unless a prompt set of that name comes with the library."""
    if name not in sets.names():
        raise Invalid(f"There is no prompt set called {name}. Known: {', '.join(sets.names())}.")


def check_own(prompts: Mapping[str, float]) -> dict[str, float]:
    """A project's own prompt set: every prompt on one line, of two that are the same the sum of the weights."""
    weights: dict[str, float] = {}
    for prompt, weight in zip(check(list(prompts)), prompts.values(), strict=True):
        weights[prompt] = weights.get(prompt, 0.0) + weight
    try:
        sets.new_set(OWN_PROMPTS, weights)
    except BadPrompts as error:
        raise Invalid(str(error)) from error
    return weights


def in_text(content: bytes, source: str) -> dict[str, float]:
    """Prompt -> weight of a text in UTF-8, one prompt a line, a weight after a tab. Invalid names the line of `source`."""
    try:
        return sets.prompts_in(content, source)
    except BadPrompts as error:
        raise Invalid(str(error)) from error


def to_text(prompts: Mapping[str, float]) -> str:
    """What `in_text` reads."""
    return "\n".join(prompt if weight == 1 else f"{prompt}\t{_shortest(weight)}" for prompt, weight in prompts.items())


def _shortest(weight: float) -> str:
    """3 and not 3.0, and every digit where there are many."""
    return f"{weight:g}" if float(f"{weight:g}") == weight else repr(weight)


def set_of(project: Project, name: str | None = None) -> sets.PromptSet:
    """The prompt set of that name; None: the project's."""
    name = name or project.prompt_set
    if name == OWN_PROMPTS and project.prompts:
        return sets.new_set(name, project.prompts)
    check_set(name)
    return sets.prompt_set(name)


def draw(project: Project, count: int, seed: int, name: str | None = None) -> list[str]:
    """`count` prompts to sample from, of the project's set unless another is named."""
    _check_count(count)
    return check(set_of(project, name).draw(count, seed))


def held_out(project: Project, count: int, seed: int, name: str | None = None) -> list[str]:
    """`count` prompts that no sample round draws, for duels."""
    _check_count(count)
    return check(set_of(project, name).held_out(count, seed))


def _check_count(count: int) -> None:
    if not 1 <= count <= MAX_PROMPTS:
        raise Invalid(f"A round draws 1 to {MAX_PROMPTS:,} prompts from a prompt set, you sent {count:,}.")
