"""Prompt sets by name, from a file and from templates, each with a held-out part. No torch.

demo               what the embedded model understands
animals            the 45 animals of DDPO's and D3PO's experiments, bare names
animal_activities  each of them washing dishes, riding a bike and playing chess
imagenet           names of the ImageNet classes of ILSVRC 2012, bare, as in WordNet
imagenet_animals   the first 398 of them, DDPO's prompts for JPEG size
hands              "1 hand" and the like, for studies of distorted images
people             people in places that tempt a model, for studies of safety
"""

from __future__ import annotations

from collections.abc import Callable

from d3po_core.prompts.animals import animal_activities, animals
from d3po_core.prompts.demo import demo_prompts
from d3po_core.prompts.files import prompts_in, set_from_file
from d3po_core.prompts.imagenet import imagenet, imagenet_animals
from d3po_core.prompts.people import hands, people
from d3po_core.prompts.sets import MAX_PROMPTS, PromptSet, new_set
from d3po_core.prompts.templates import filled

__all__ = ["MAX_PROMPTS", "PromptSet", "filled", "names", "new_set", "prompt_set", "prompts_in", "set_from_file"]

_SETS: dict[str, Callable[[], list[str]]] = {
    "demo": demo_prompts,
    "animals": animals,
    "animal_activities": animal_activities,
    "imagenet": imagenet,
    "imagenet_animals": imagenet_animals,
    "hands": hands,
    "people": people,
}


def names() -> list[str]:
    return sorted(_SETS)


def prompt_set(name: str) -> PromptSet:
    """The prompt set of that name. Raises KeyError with a sentence if there is none."""
    if name not in _SETS:
        raise KeyError(f"There is no prompt set {name!r}; there are {', '.join(names())}.")
    return new_set(name, _SETS[name]())
