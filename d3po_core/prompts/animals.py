"""The prompts of DDPO's and D3PO's experiments: 45 animals, and what they do (arXiv 2305.13301). No torch."""

from __future__ import annotations

from d3po_core.prompts.templates import filled

# fmt: off
ANIMALS = (
    "cat", "dog", "horse", "monkey", "rabbit", "zebra", "spider", "bird", "sheep", "deer", "cow", "goat", "lion", "tiger", "bear",
    "raccoon", "fox", "wolf", "lizard", "beetle", "ant", "butterfly", "fish", "shark", "whale", "dolphin", "squirrel", "mouse",
    "rat", "snake", "turtle", "frog", "chicken", "duck", "goose", "bee", "pig", "turkey", "fly", "llama", "camel", "bat",
    "gorilla", "hedgehog", "kangaroo",
)
# fmt: on
ACTIVITIES = ("washing dishes", "riding a bike", "playing chess")


def animals() -> list[str]:
    """Bare names, as published."""
    return list(ANIMALS)


def animal_activities() -> list[str]:
    """`an ant riding a bike`: every animal with every activity."""
    return filled(["a {animal} {activity}"], {"animal": ANIMALS, "activity": ACTIVITIES})
