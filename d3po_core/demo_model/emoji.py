"""The pictures and the words the embedded model learns from: Noto Emoji at 64 pixels, and captions that leave room.

A caption names one emoji ("a red apple"), its kind ("a fruit") or its family ("some food"), and every second caption
says nothing about the background. Position, size, rotation, mirroring and background pattern are never named. So one
prompt stands for many pictures, and the images of a group differ.
"""

from __future__ import annotations

import hashlib
import json
import random
import subprocess
import tarfile
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
from PIL import Image

from d3po_core.demo_model.captions import KINDS, caption

PACKAGE = "emoji-datasource-google@16.0.0"
SIZE = 64

HELD_OUT_SHARE = 0.1

# fmt: off
NAMEABLE = {
    "face-neutral-skeptical": ["neutral face", "expressionless face", "unamused face", "grimacing face", "smirking face"],
    "face-concerned": ["crying face", "loudly crying face", "slightly frowning face", "worried face", "flushed face",
                       "face screaming in fear", "astonished face", "weary face"],
    "face-unwell": ["face with medical mask", "face with thermometer", "nauseated face", "dizzy face"],
    "face-negative": ["imp", "smiling face with horns", "angry face", "pouting face"],
    "face-costume": ["ghost", "extraterrestrial alien", "robot face", "clown face", "pile of poo", "alien monster"],
    "face-hand": ["thinking face", "hugging face"],
    "animal-mammal": ["mouse face", "cow face", "tiger face", "rabbit face", "cat face", "horse face", "monkey face", "dog face",
                      "pig face", "hamster face", "wolf face", "bear face", "panda face", "lion face", "unicorn face",
                      "fox face"],
    "animal-bird": ["chicken", "hatching chick", "front-facing baby chick", "penguin", "bird", "owl", "duck", "parrot"],
    "animal-marine": ["fish", "tropical fish", "blowfish", "whale", "spouting whale", "octopus", "crab"],
    "animal-bug": ["lady beetle", "honeybee", "butterfly", "snail"],
    "plant-flower": ["tulip", "rose", "hibiscus", "sunflower", "blossom", "cherry blossom"],
    "plant-other": ["cactus", "four leaf clover", "maple leaf", "palm tree", "evergreen tree"],
    "food-fruit": ["tomato", "grapes", "watermelon", "tangerine", "lime", "lemon", "banana", "pineapple", "red apple",
                   "green apple", "pear", "peach", "cherries", "strawberry", "kiwifruit", "mango"],
    "food-vegetable": ["carrot", "aubergine", "avocado", "ear of maize", "broccoli"],
    "food-prepared": ["hamburger", "slice of pizza", "hot dog", "french fries", "cooking", "pancakes"],
    "food-sweet": ["doughnut", "cookie", "cupcake", "birthday cake", "ice cream", "soft ice cream", "shortcake", "lollipop"],
    "heart": ["broken heart", "two hearts", "heart with arrow", "blue heart", "green heart", "yellow heart", "purple heart",
              "heart with ribbon", "black heart", "brown heart", "orange heart", "light blue heart", "grey heart", "pink heart",
              "heavy black heart"],
    "animal-reptile": ["turtle", "dragon face"],
    "food-asian": [], "drink": [],
}
# fmt: on
"""What the U-Net learns: pictures that a person can name at 64 pixels. Kinds not listed stay whole."""


@dataclass(frozen=True)
class Emoji:
    """One picture and the three phrases that may name it."""

    code: str
    subcategory: str
    title: str
    name: str
    kind: str
    family: str

    def phrases(self) -> tuple[str, str, str]:
        return self.name, self.kind, self.family


def fetch(folder: Path) -> Path:
    """Download the emoji package with npm into `folder` once; return the unpacked package folder."""
    package = folder / "package"
    if not (package / "emoji.json").exists():
        folder.mkdir(parents=True, exist_ok=True)
        subprocess.run(["npm", "pack", "--silent", PACKAGE], cwd=folder, check=True, stdout=subprocess.DEVNULL)
        with tarfile.open(next(folder.glob("emoji-datasource-google-*.tgz"))) as archive:
            wanted = [m for m in archive.getmembers() if m.name.startswith(("package/emoji.json", "package/img/google/64/"))]
            archive.extractall(folder, members=wanted, filter="data")
    return package


def nameable(emoji: list[Emoji], rgba: torch.Tensor) -> tuple[list[Emoji], torch.Tensor]:
    """The emoji in NAMEABLE and their pixels."""
    kept = [i for i, e in enumerate(emoji) if e.title in NAMEABLE.get(e.subcategory, [e.title])]
    return [emoji[i] for i in kept], rgba[kept]


def read(package: Path) -> tuple[list[Emoji], torch.Tensor]:
    """Read the emoji that have a kind, and their pixels.

    Returns the list and premultiplied RGBA pixels, float32 [count, 4, 64, 64] in 0..1.
    """
    rows = json.loads((package / "emoji.json").read_text(encoding="utf-8"))
    emoji, pixels = [], []
    for row in sorted(rows, key=lambda r: r["sort_order"]):
        if row["has_img_google"] and row["subcategory"] in KINDS:
            emoji.append(_emoji(row))
            image = Image.open(package / "img/google/64" / row["image"]).convert("RGBA")
            pixels.append(np.asarray(image, dtype=np.float32).transpose(2, 0, 1) / 255)
    rgba = torch.from_numpy(np.stack(pixels))
    rgba[:, :3] *= rgba[:, 3:]
    return emoji, rgba


def _emoji(row: dict) -> Emoji:
    kind, family = KINDS[row["subcategory"]]
    name = row["name"].lower()
    if kind == "a furry animal" and name.endswith(" face"):
        kind = "an animal face"
    article = "" if name.endswith("s") else "an " if name[0] in "aeiou" else "a "
    return Emoji(row["unified"], row["subcategory"], name, article + name, kind, family)


def is_held_out(emoji: Emoji, colour: str) -> bool:
    """Whether this combination of picture and background colour is kept out of training (10 %, by hash)."""
    digest = hashlib.sha256(f"{emoji.code} {colour}".encode()).digest()
    return digest[0] < 256 * HELD_OUT_SHARE


def random_caption(emoji: Emoji, colour: str, rng: random.Random) -> str:
    """A caption of one composite: name 45 %, kind 40 %, family 15 %; the colour named in every second one."""
    phrase = rng.choices(emoji.phrases(), weights=(45, 40, 15))[0]
    return caption(phrase, colour if rng.random() < 0.5 else None)
