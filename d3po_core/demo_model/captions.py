"""What the embedded model can be asked for: kinds of pictures, background colours, and how captions are worded. No torch."""

from __future__ import annotations

KINDS = {
    "cat-face": ("a cat face", "an animal"),
    "monkey-face": ("a monkey", "an animal"),
    "animal-bird": ("a bird", "an animal"),
    "animal-marine": ("a sea animal", "an animal"),
    "animal-reptile": ("a reptile", "an animal"),
    "animal-amphibian": ("a reptile", "an animal"),
    "animal-bug": ("an insect", "an animal"),
    "animal-mammal": ("a furry animal", "an animal"),
    "plant-flower": ("a flower", "a plant"),
    "plant-other": ("a green plant", "a plant"),
    "food-fruit": ("a fruit", "some food"),
    "food-vegetable": ("a vegetable", "some food"),
    "food-prepared": ("a meal", "some food"),
    "food-asian": ("an asian meal", "some food"),
    "food-sweet": ("a dessert", "some food"),
    "drink": ("a drink", "some food"),
    "face-smiling": ("a smiling face", "a face"),
    "face-affection": ("a loving face", "a face"),
    "face-tongue": ("a silly face", "a face"),
    "face-glasses": ("a smiling face", "a face"),
    "face-hat": ("a smiling face", "a face"),
    "face-neutral-skeptical": ("a neutral face", "a face"),
    "face-sleepy": ("a sleepy face", "a face"),
    "face-concerned": ("a sad face", "a face"),
    "face-unwell": ("a sick face", "a face"),
    "face-hand": ("a face with a hand", "a face"),
    "face-negative": ("an angry face", "a face"),
    "face-costume": ("a monster", "a face"),
    "heart": ("a heart", "a heart"),
}
"""Emoji subcategory -> (kind, family), as they stand in captions."""

COLOURS = {
    "red": (214, 70, 66),
    "orange": (238, 146, 54),
    "yellow": (248, 222, 104),
    "green": (104, 178, 96),
    "blue": (84, 148, 224),
    "purple": (148, 102, 200),
    "pink": (246, 170, 196),
    "grey": (138, 140, 146),
}
"""The eight background colours by name, RGB 0..255."""


def caption(phrase: str, colour: str | None) -> str:
    """`a fruit`, `blue` -> `a fruit on a blue background`; without a colour, the phrase alone."""
    if colour is None:
        return phrase
    article = "an" if colour[0] in "aeiou" else "a"
    return f"{phrase} on {article} {colour} background"
