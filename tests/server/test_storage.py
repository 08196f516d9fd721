"""Where files lie, and that they are whole or not there."""

from __future__ import annotations

from pathlib import Path

import pytest
from PIL import Image

from server.storage import Storage, write_durably
from tests import factories


def test_the_original_is_lossless_and_addressed_by_its_content(storage: Storage) -> None:
    picture = Image.effect_noise((64, 64), 90).convert("RGB")
    sha256 = storage.put_image(picture)
    assert storage.put_image(picture) == sha256
    path = storage.image(sha256)
    assert path == storage.root / "images" / sha256[:2] / f"{sha256}.webp"
    assert Image.open(path).convert("RGB").tobytes() == picture.tobytes()
    assert [file.name for file in path.parent.iterdir()] == [path.name]


def test_small_images_need_no_copies(storage: Storage) -> None:
    sha256 = factories.stored_image(storage, width=256, height=256)
    assert storage.image(sha256, "thumb") == storage.image(sha256, "view") == storage.image(sha256)


def test_large_images_have_smaller_copies(storage: Storage) -> None:
    sha256 = factories.stored_image(storage, width=512, height=1024)
    with Image.open(storage.image(sha256, "thumb")) as thumb:
        assert thumb.size == (128, 256)
    assert storage.image(sha256, "view") == storage.image(sha256)


@pytest.mark.parametrize("key", ["", "..", "../x", "a/../../b", "/etc/passwd", "a//b", "a\0b", "."])
def test_keys_do_not_lead_out(storage: Storage, key: str) -> None:
    with pytest.raises(ValueError, match="not a storage key"):
        storage.checkpoint(key)


def test_keys_lead_under_the_root(storage: Storage) -> None:
    assert storage.trajectory("round/job-1/0.safetensors") == storage.root / "trajectories/round/job-1/0.safetensors"
    assert storage.scratch("job", 2) == storage.root / "scratch/job/2"


def test_a_write_that_fails_leaves_nothing(tmp_path: Path) -> None:
    target = tmp_path / "file"
    target.mkdir()
    with pytest.raises(IsADirectoryError):
        write_durably(target, b"data")
    assert list(tmp_path.iterdir()) == [target]
