"""Prompts from a text file: UTF-8, one a line, with a weight after a tab where one wants it. No torch."""

from __future__ import annotations

import re
from pathlib import Path

from d3po_core.errors import BadPrompts
from d3po_core.prompts.sets import HELD_OUT_SHARE, PromptSet, new_set

MAX_BYTES = 10_000_000
UNPRINTABLE = re.compile(r"[\x00-\x08\x0b-\x1f\x7f-\x9f]")


def set_from_file(path: Path, held_out_share: float = HELD_OUT_SHARE) -> PromptSet:
    """The prompt set of a file, under the file's name without its ending. Raises BadPrompts, naming the file and the line."""
    try:
        size = path.stat().st_size
        content = path.read_bytes() if size <= MAX_BYTES else b""
    except OSError as error:
        raise BadPrompts(f"The prompt file {path} cannot be read: {error.strerror}.") from error
    if size > MAX_BYTES:
        raise BadPrompts(f"{path.name} has {size:,} bytes; at most {MAX_BYTES:,} are taken. Split it.")
    return new_set(path.stem, prompts_in(content, path.name), held_out_share)


def prompts_in(content: bytes, file: str) -> dict[str, float]:
    """Prompt -> weight of a file's content, in its order.

    Blank lines and space around a prompt are skipped; a prompt that stands there twice has the sum of its weights. Raises
    BadPrompts, naming `file` and the line.
    """
    weights: dict[str, float] = {}
    for number, line in enumerate(_decoded(content, file).split("\n"), start=1):
        prompt, tab, weight = line.rstrip("\r").rpartition("\t") if "\t" in line.strip() else (line, "", "")
        if found := UNPRINTABLE.search(line.rstrip("\r")):
            raise BadPrompts(f"{file}, line {number}, has a character that is no text (U+{ord(found[0]):04X}). Remove it.")
        if prompt := prompt.strip().replace("\t", " "):
            weights[prompt] = weights.get(prompt, 0.0) + (_weight(weight, file, number) if tab else 1.0)
    return weights


def _decoded(content: bytes, file: str) -> str:
    if content.startswith((b"\xff\xfe", b"\xfe\xff")):
        raise BadPrompts(f"{file} is UTF-16, not UTF-8. Save it as UTF-8 and send it again.")
    try:
        return content.decode("utf-8-sig")
    except UnicodeDecodeError as error:
        line = content[: error.start].count(b"\n") + 1
        raise BadPrompts(
            f"{file} is not UTF-8: line {line} has the byte 0x{content[error.start]:02X}. Save it as UTF-8 and send it again."
        ) from error


def _weight(text: str, file: str, number: int) -> float:
    try:
        return float(text)
    except ValueError as error:
        raise BadPrompts(f"{file}, line {number}, has {text.strip()!r} after a tab, where a weight would stand.") from error
