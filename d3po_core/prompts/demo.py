"""Prompts that the embedded model understands: kinds, families and well-known names, with and without a background."""

from __future__ import annotations

from d3po_core.demo_model.captions import COLOURS, KINDS, caption

UNSEEN = ("a drink", "an asian meal", "a furry animal")
"""Kinds that no nameable picture has."""

# fmt: off
NAMES = [
    "a dog face", "a cat face", "a cow face", "a pig face", "a mouse face", "a tiger face", "a lion face", "a fox face",
    "a panda face", "a bear face", "a frog face", "a rabbit face", "a penguin", "a bird", "an owl", "a duck", "a butterfly",
    "a honeybee", "a lady beetle", "a fish", "a tropical fish", "a whale", "octopus", "a crab", "a turtle", "a snail",
    "a red apple", "a green apple", "a tangerine", "a lemon", "a banana", "a watermelon", "grapes",
    "a strawberry", "cherries", "a peach", "a pear", "a tomato", "a carrot", "an avocado", "a pineapple", "a doughnut",
    "a cookie", "a cupcake", "a birthday cake", "a hamburger", "a slice of pizza", "a sunflower", "a tulip", "a rose",
    "cactus", "a blue heart", "a green heart", "a purple heart", "a ghost", "an extraterrestrial alien", "a robot face",
    "a clown face", "a grinning face", "a winking face", "a sleeping face", "a crying face",
    "a face with party horn and party hat", "smiling face with sunglasses",
]
# fmt: on


def demo_prompts() -> list[str]:
    """Every phrase on every background and on none, kinds first."""
    kinds = [phrase for pair in KINDS.values() for phrase in pair if phrase not in UNSEEN]
    phrases = list(dict.fromkeys([*kinds, "an animal face", *NAMES]))
    return [caption(phrase, colour) for colour in (None, *COLOURS) for phrase in phrases]
