"""A published folder is read whole, or refused with the file and the place."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path

import pytest

from server.cli_published import file_names
from server.domain.published.folder import read_folder
from server.errors import Invalid
from tests import factories


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    folder = tmp_path / "samples"
    (folder / "images").mkdir(parents=True)
    for number in range(6):
        factories.picture("red", 16, 8).save(folder / "images" / f"{number:05}.png")
    (folder / "prompt.json").write_text(json.dumps(["a cat", " a dog "]))
    (folder / "sample.pkl").write_bytes(b"read elsewhere")
    (folder / "json").mkdir()
    (folder / "json" / "Alice.json").write_text("[[1, 0, 0], [0.5, 0, -1]]")
    return folder


def test_what_is_there_is_read(folder: Path) -> None:
    found = read_folder(folder)
    assert (found.prompts, found.images, found.width, found.height) == (["a cat", " a dog "], 3, 16, 8)
    assert found.votes == {"Alice": [[1, 0, 0], [0.5, 0, -1]]}
    assert found.image(1, 2) == folder / "images" / "00005.png"


def test_votes_may_lie_beside_the_prompts_or_elsewhere_or_nowhere(folder: Path, tmp_path: Path) -> None:
    (folder / "json").rename(tmp_path / "votes")
    assert read_folder(folder).votes == {}
    assert read_folder(folder, tmp_path / "votes").votes.keys() == {"Alice"}
    (tmp_path / "votes" / "Alice.json").rename(folder / "Bob.json")
    assert read_folder(folder).votes.keys() == {"Bob"}


def test_somebody_called_prompt_keeps_their_votes(folder: Path) -> None:
    (folder / "json" / "Alice.json").rename(folder / "json" / "prompt.json")
    assert read_folder(folder).votes == {"prompt": [[1, 0, 0], [0.5, 0, -1]]}


def test_everybody_gets_a_file_of_their_own() -> None:
    assert file_names(["a/b", "a_b", "Alice", ".", "_"]) == ["a_b", "a_b 2", "Alice", "_", "_ 2"]


def put(name: str, text: str) -> Callable[[Path], object]:
    return lambda folder: (folder / name).write_text(text)


VOTES = "json/Alice.json"


@pytest.mark.parametrize(
    ("damage", "told"),
    [
        (put("prompt.json", '"a cat"'), r"prompt\.json should be a list of texts"),
        (put("prompt.json", "[1, 2]"), r"prompt\.json should be a list of texts"),
        (put("prompt.json", '["a cat"'), r"prompt\.json is no JSON"),
        (put("prompt.json", '["a cat", ""]'), r"prompt\.json cannot be imported: Prompt 2 is empty"),
        (lambda folder: (folder / "prompt.json").unlink(), r"prompt\.json cannot be read"),
        (lambda folder: (folder / "sample.pkl").unlink(), r"sample\.pkl is missing"),
        (lambda folder: (folder / "images/00002.png").unlink(), r"00002\.png is missing: 2 prompts need 3 images each"),
        (lambda folder: (folder / "images/00005.png").unlink(), r"00005\.png is missing: 2 prompts need 3 images each"),
        (
            lambda folder: (folder / "images/00004.png").write_bytes((folder / "images/00004.png").read_bytes()[:60]),
            r"00004\.png is no whole PNG",
        ),
        (
            lambda folder: factories.picture("red", 8, 8).save(folder / "images/00004.png"),
            r"00004\.png is 8x8, the first one 16x8",
        ),
        (lambda folder: factories.picture().convert("L").save(folder / "images/00003.png"), r"00003\.png has the mode L"),
        (put(VOTES, "[[1, 0, 0]]"), r"Alice\.json should be a list of 2 groups; it is a list of 1"),
        (put(VOTES, "{}"), r"Alice\.json should be a list of 2 groups; it is no list"),
        (put(VOTES, "[[1, 0, 0], [1, 0]]"), r"Alice\.json: group 1 should have 3 numbers, one an image; it has 2 numbers"),
        (put(VOTES, "[[1, 0, 0], 7]"), r"Alice\.json: group 1 should have 3 numbers, one an image; it has 7"),
        (put(VOTES, "[[1, 0, 0], [1, NaN, 0]]"), r"Alice\.json: group 1, image 1 has NaN"),
        (put(VOTES, '[[1, 0, "1"], [1, 0, 0]]'), r"Alice\.json: group 0, image 2 has \"1\""),
        (put(VOTES, "[[1, 0, true], [1, 0, 0]]"), r"Alice\.json: group 0, image 2 has true"),
        (put(VOTES, f"[[1, 0, 1{'0' * 400}], [1, 0, 0]]"), r"Alice\.json: group 0, image 2 has 1000"),
        (put(VOTES, "[[1, 0, 9007199254740993], [1, 0, 0]]"), r"Alice\.json: group 0, image 2 has 9007199254740993"),
    ],
)
def test_bad_input_is_named_with_its_place(folder: Path, damage: Callable[[Path], object], told: str) -> None:
    damage(folder)
    with pytest.raises(Invalid, match=told):
        read_folder(folder)
