"""Prompts from templates: every combination of words, with the article that the word wants. No torch."""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping, Sequence
from itertools import product
from math import prod

from d3po_core.errors import BadPrompts
from d3po_core.prompts.sets import MAX_PROMPTS

FIELD = re.compile(r"\{(\w+)\}")
ARTICLE = re.compile(r"\b([Aa]) \{(\w+)\}")


def filled(templates: Iterable[str], words: Mapping[str, Sequence[str]]) -> list[str]:
    """Each template with every combination of the words for its fields, in the words' order, each prompt once.

    `a {animal} {activity}` -> `a cat playing chess`, `an ant playing chess`: an `a` right before a field turns into `an`
    where the word begins with the letter of a vowel. Raises BadPrompts for a field without words, a brace that is no
    field, and more than 10,000 prompts.
    """
    prompts: dict[str, None] = {}
    for template in templates:
        names = list(dict.fromkeys(FIELD.findall(template)))
        _check(template, names, words, len(prompts))
        for combination in product(*(words[name] for name in names)):
            prompts[_fill(template, dict(zip(names, combination, strict=True)))] = None
    return list(prompts)


def _fill(template: str, word: Mapping[str, str]) -> str:
    def article(found: re.Match[str]) -> str:
        vowel = word[found[2]][:1].lower() in tuple("aeiou")
        return f"{found[1]}{'n' if vowel else ''} {{{found[2]}}}"

    return FIELD.sub(lambda found: word[found[1]], ARTICLE.sub(article, template))


def _check(template: str, names: Sequence[str], words: Mapping[str, Sequence[str]], already: int) -> None:
    if without := [name for name in names if not words.get(name)]:
        raise BadPrompts(f"The template {template!r} has a field {{{without[0]}}} for which there are no words.")
    if re.search(r"[{}]", FIELD.sub("", template)):
        raise BadPrompts(f"The template {template!r} has a brace that belongs to no field; a field is a word in braces.")
    count = already + prod(len(words[name]) for name in names)
    if count > MAX_PROMPTS:
        raise BadPrompts(
            f"The template {template!r} makes {count:,} prompts; at most {MAX_PROMPTS:,} are taken. Give fewer words."
        )
