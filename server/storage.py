"""Ids to paths under one data root. The only place that knows where files lie."""

from __future__ import annotations

import errno
import hashlib
import io
import os
import re
import shutil
import uuid
from collections.abc import Collection, Iterable
from contextlib import suppress
from pathlib import Path

from PIL import Image

from d3po_core.files import sync_folder

SIZES = {"thumb": 256, "view": 1024, "full": None}
DISK_FULL = (errno.ENOSPC, errno.EDQUOT, errno.EFBIG)
KEY = re.compile(r"[A-Za-z0-9_-]+(/[A-Za-z0-9_.-]*[A-Za-z0-9_-])*")


class Storage:
    """root/images/ab/<sha256>.webp, root/trajectories/<key>, root/checkpoints/<key>, root/logs/<job>.txt,
    root/scratch/<job>/<attempt>; root/trash/<name> for what is on its way out."""

    def __init__(self, root: Path) -> None:
        self.root = root

    def image(self, sha256: str, size: str = "full") -> Path:
        """The file to show for `size`; the lossless original where it is no larger than that."""
        original = self._image(sha256, "full")
        smaller = self._image(sha256, size)
        return smaller if smaller.exists() else original

    def trajectory(self, key: str) -> Path:
        return self._keyed("trajectories", key)

    def checkpoint(self, key: str) -> Path:
        return self._keyed("checkpoints", key)

    def scratch(self, job_id: str, attempt: int) -> Path:
        return self.root / "scratch" / job_id / str(attempt)

    def attempts(self, job_id: str) -> list[Path]:
        """The scratch folders of a job's attempts, oldest first."""
        folders = (self.root / "scratch" / job_id).glob("[0-9]*")
        return sorted((path for path in folders if path.name.isdecimal()), key=lambda path: int(path.name))

    def drop_scratch(self, job_id: str) -> int:
        return self._to_trash([self.root / "scratch" / job_id])

    def drop_unkept(self, round_id: str, *, trajectories: Collection[str], checkpoints: Collection[str]) -> int:
        """Drops a round's trajectories and checkpoints but those with these keys; returns how many files and folders."""
        kept = {self.trajectory(key) for key in trajectories} | {self.checkpoint(key) for key in checkpoints}
        found = [*self.trajectory(round_id).glob("*"), *(self.root / "checkpoints").glob(f"{round_id}-*")]
        return self._to_trash(path for path in found if path not in kept)

    def _to_trash(self, paths: Iterable[Path]) -> int:
        """Takes them away at once, however large they are; returns how many were there. `empty_trash` makes the room."""
        trash, count = self.root / "trash", 0
        trash.mkdir(parents=True, exist_ok=True)
        for path in paths:
            with suppress(FileNotFoundError):  # somebody else was first, or it never was there
                path.rename(trash / uuid.uuid4().hex)
                count += 1
        return count

    def empty_trash(self) -> None:
        """Takes long where much was dropped. Several at once do no harm."""
        for path in (self.root / "trash").glob("*"):
            if path.is_dir():
                shutil.rmtree(path, ignore_errors=True)
            else:
                path.unlink(missing_ok=True)

    def log(self, job_id: str) -> Path:
        """What went wrong in a job, attempt by attempt, for whoever has to mend it."""
        return self.root / "logs" / f"{job_id}.txt"

    def place(self, name: str) -> Path:
        """The file of this name under the root, as `names_of_image` and `names_of_checkpoint` give them."""
        folder, _, key = name.partition("/")
        if folder not in ("images", "trajectories", "checkpoints"):
            raise ValueError(f"{name!r} is not the name of a stored file.")
        return self._keyed(folder, key)

    def names_of_image(self, sha256: str) -> list[str]:
        """The original, there or not, and the smaller copies that there are."""
        copies = [path for size in SIZES if size != "full" and (path := self._image(sha256, size)).exists()]
        return [self._name(path) for path in (self._image(sha256, "full"), *copies)]

    def names_of_checkpoint(self, key: str) -> list[str]:
        return [self._name(path) for path in sorted(self.checkpoint(key).iterdir())] if self.checkpoint(key).is_dir() else []

    def weigh(self, *, images: Iterable[str] = (), trajectories: Iterable[str] = (), checkpoints: Iterable[str] = ()) -> int:
        """Bytes on disk: images in all their sizes; what is gone weighs nothing."""
        files = [self._image(sha256, size) for sha256 in images for size in SIZES]
        files += map(self.trajectory, trajectories)
        files += [path for key in checkpoints for path in self.checkpoint(key).glob("*")]
        return sum(path.stat().st_size for path in files if path.is_file())

    def put_image(self, picture: Image.Image) -> str:
        """Writes the lossless original and the smaller copies it needs; gives the SHA-256 of the original's file."""
        data = _webp(picture, lossless=True)
        sha256 = hashlib.sha256(data).hexdigest()
        for size, limit in SIZES.items():
            if limit is not None and max(picture.size) > limit:
                copy = picture.copy()
                copy.thumbnail((limit, limit), Image.Resampling.LANCZOS)
                write_durably(self._image(sha256, size), _webp(copy, lossless=False))
        # The original goes last: where it exists, its copies do too.
        write_durably(self._image(sha256, "full"), data)
        return sha256

    def _image(self, sha256: str, size: str) -> Path:
        folder = self.root / "images" / sha256[:2]
        return folder / (f"{sha256}.webp" if size == "full" else f"{sha256}.{size}.webp")

    def _name(self, path: Path) -> str:
        return path.relative_to(self.root).as_posix()

    def _keyed(self, folder: str, key: str) -> Path:
        if not KEY.fullmatch(key) or ".." in key:
            raise ValueError(f"{key!r} is not a storage key.")
        return self.root / folder / key


def write_durably(path: Path, data: bytes | Iterable[bytes]) -> None:
    """Whole or not at all, and still there after a power cut: temporary file, fsync, rename, fsync of the folder."""
    path.parent.mkdir(parents=True, exist_ok=True)
    temporary = path.with_name(f".{path.name}.{os.getpid()}.tmp")
    try:
        with temporary.open("wb") as file:
            file.writelines([data] if isinstance(data, bytes) else data)
            file.flush()
            os.fsync(file.fileno())
        temporary.rename(path)
    finally:
        temporary.unlink(missing_ok=True)
    sync_folder(path.parent)


def _webp(picture: Image.Image, *, lossless: bool) -> bytes:
    buffer = io.BytesIO()
    picture.convert("RGB").save(buffer, "WEBP", lossless=lossless, quality=90, method=4)
    return buffer.getvalue()
