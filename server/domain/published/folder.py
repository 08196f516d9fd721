"""A folder that the published sampling script wrote, and the votes that its training script reads, checked before anything is
imported: every fault is named by its file and place."""

from __future__ import annotations

import json
import math
import re
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from PIL import Image

from server.domain import prompts as prompt_rules
from server.errors import Invalid

PROMPTS, SAMPLES, IMAGES, VOTES = "prompt.json", "sample.pkl", "images", "json"
NUMBERED = re.compile(r"(\d{5,})\.png")
NOTHING = "Nothing was imported."
Numbers = list[list[float]]


@dataclass(frozen=True)
class SampleFolder:
    """G prompts, N images of each, all of one width and height in pixels; by annotator, a number for each image, [G][N]."""

    path: Path
    prompts: list[str]
    images: int
    width: int
    height: int
    votes: dict[str, Numbers]

    def image(self, group: int, position: int) -> Path:
        return _image(self.path, self.images * group + position)


def read_folder(path: Path, votes: Path | None = None) -> SampleFolder:
    """`votes`: the folder with a JSON file an annotator; None: `json` in the folder, or the folder itself. Raises Invalid."""
    if not path.is_dir():
        raise Invalid(f"{path} is no folder. Name the one that holds {PROMPTS}, {SAMPLES} and {IMAGES}. {NOTHING}")
    prompts = _prompts(path / PROMPTS)
    images = _images_a_group(path, len(prompts))
    width, height = _size(path, images * len(prompts))
    if not (path / SAMPLES).is_file():
        raise Invalid(f"{path / SAMPLES} is missing. {NOTHING}")
    files = _vote_files(path, votes)
    return SampleFolder(path, prompts, images, width, height, {file.stem: _votes(file, len(prompts), images) for file in files})


def open_image(path: Path) -> Image.Image:
    """Its pixels, three numbers of 8 bits each. Raises Invalid."""
    try:
        with Image.open(path) as picture:
            picture.load()
    except (OSError, SyntaxError, ValueError) as error:
        raise Invalid(f"{path} is no whole PNG image ({error}). {NOTHING}") from error
    return picture


def _json(path: Path) -> Any:
    try:
        return json.loads(path.read_bytes())
    except OSError as error:
        raise Invalid(f"{path} cannot be read ({error.strerror}). {NOTHING}") from error
    except (ValueError, RecursionError) as error:
        raise Invalid(f"{path} is no JSON ({error}). {NOTHING}") from error


def _prompts(path: Path) -> list[str]:
    found = _json(path)
    if not isinstance(found, list) or not found or not all(isinstance(prompt, str) for prompt in found):
        raise Invalid(f"{path} should be a list of texts, one prompt a group. {NOTHING}")
    try:
        prompt_rules.check(found)
    except Invalid as error:
        raise Invalid(f"{path} cannot be imported: {error}") from error
    return found


def _image(path: Path, number: int) -> Path:
    return path / IMAGES / f"{number:05}.png"


def _images_a_group(path: Path, groups: int) -> int:
    """N, by the highest number among the images, none of which may be missing."""
    names = [path.name for path in (path / IMAGES).glob("*.png")] if (path / IMAGES).is_dir() else []
    numbers = {int(match[1]) for name in names if (match := NUMBERED.fullmatch(name))}
    images = -(-(max(numbers, default=-1) + 1) // groups)
    for number in range(max(1, images) * groups):
        if number not in numbers:
            raise Invalid(f"{_image(path, number)} is missing: {groups} prompts need {max(1, images)} images each. {NOTHING}")
    return images


def _size(path: Path, count: int) -> tuple[int, int]:
    sizes = [_checked(_image(path, number)) for number in range(count)]
    for number, size in enumerate(sizes):
        if size != sizes[0]:
            raise Invalid(f"{_image(path, number)} is {size[0]}x{size[1]}, the first one {sizes[0][0]}x{sizes[0][1]}. {NOTHING}")
    return sizes[0]


def _checked(path: Path) -> tuple[int, int]:
    """Width and height of a PNG image whose sums are right; its pixels are read later."""
    try:
        with Image.open(path, formats=["PNG"]) as picture:
            size, mode = picture.size, picture.mode
            picture.verify()
    except (OSError, SyntaxError, ValueError) as error:
        raise Invalid(f"{path} is no whole PNG image ({error}). {NOTHING}") from error
    if mode != "RGB":
        raise Invalid(f"{path} has the mode {mode}, and the published images are RGB. {NOTHING}")
    return size


def _vote_files(path: Path, votes: Path | None) -> list[Path]:
    folder = votes or (path / VOTES if (path / VOTES).is_dir() else path)
    if not folder.is_dir():
        raise Invalid(f"{folder} is no folder. Name the one with a JSON file an annotator. {NOTHING}")
    return sorted(file for file in folder.glob("*.json") if not file.samefile(path / PROMPTS))


def _votes(path: Path, groups: int, images: int) -> Numbers:
    """The published script cuts all to the shortest file; here each must be whole, since nobody knows what was cut."""
    found = _json(path)
    if not isinstance(found, list) or len(found) != groups:
        held = f"a list of {len(found)}" if isinstance(found, list) else "no list"
        raise Invalid(f"{path} should be a list of {groups} groups; it is {held}. {NOTHING}")
    for group, row in enumerate(found):
        if not isinstance(row, list) or len(row) != images:
            held = f"{len(row)} numbers" if isinstance(row, list) else f"{json.dumps(row)[:40]}"
            raise Invalid(f"{path}: group {group} should have {images} numbers, one an image; it has {held}. {NOTHING}")
        for image, value in enumerate(row):
            if not _is_number(value):
                told = json.dumps(value)[:40]
                raise Invalid(f"{path}: group {group}, image {image} has {told}, which is no finite number. {NOTHING}")
    return found


def _is_number(value: Any) -> bool:
    """One that a double holds exactly, so that it comes back."""
    try:
        return type(value) in (int, float) and math.isfinite(value) and float(value) == value
    except OverflowError:
        return False
