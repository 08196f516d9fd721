"""Files that are whole or not there."""

from __future__ import annotations

import errno
import os
from pathlib import Path
from stat import S_ISDIR

import pytest

from d3po_core.files import written_whole


def test_a_file_appears_once_it_is_whole(tmp_path: Path) -> None:
    path = tmp_path / "group.safetensors"
    with written_whole(path) as file:
        file.write(b"data")
        assert not path.exists()
    assert [(found.name, found.read_bytes()) for found in tmp_path.iterdir()] == [("group.safetensors", b"data")]


def test_a_file_is_there_for_good_once_it_has_its_name(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path, synced = tmp_path / "group.safetensors", list[tuple[bool, bool]]()
    monkeypatch.setattr(os, "fsync", lambda descriptor: synced.append((S_ISDIR(os.fstat(descriptor).st_mode), path.exists())))
    with written_whole(path) as file:
        file.write(b"data")
    assert synced == [(False, False), (True, True)]


def write_half(path: Path) -> None:
    with written_whole(path) as file:
        file.write(b"half of the ne")
        raise OSError(errno.ENOSPC, "No space left on device")


def test_a_write_that_breaks_off_leaves_the_old_file_and_takes_no_room(tmp_path: Path) -> None:
    path = tmp_path / "checkpoint.state"
    path.write_bytes(b"old")
    with pytest.raises(OSError, match="No space left"):
        write_half(path)
    assert [(found.name, found.read_bytes()) for found in tmp_path.iterdir()] == [("checkpoint.state", b"old")]
