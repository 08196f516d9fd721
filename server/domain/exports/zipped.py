"""A ZIP archive as a stream: the same bytes for the same members, whoever writes them and when."""

from __future__ import annotations

import io
from collections.abc import Iterable, Iterator
from typing import IO, Any
from zipfile import ZIP_DEFLATED, ZIP_STORED, ZipFile, ZipInfo

CHUNK = 2**18
Member = tuple[str, Iterable[bytes]]


class _Pipe(io.RawIOBase):
    """Takes what the archive writes and gives it away again."""

    def __init__(self) -> None:
        self._parts: list[bytes] = []

    def writable(self) -> bool:
        return True

    def write(self, data: Any) -> int:
        self._parts.append(bytes(data))
        return len(self._parts[-1])

    def take(self) -> bytes:
        taken = b"".join(self._parts)
        self._parts.clear()
        return taken


def stream(members: Iterable[Member]) -> Iterator[bytes]:
    """Text is packed; images and weights would not get smaller."""
    pipe = _Pipe()
    with ZipFile(pipe, "w") as archive:
        for name, chunks in members:
            with archive.open(_info(name), "w", force_zip64=True) as member:
                for chunk in chunks:
                    member.write(chunk)
                    yield pipe.take()
    yield pipe.take()


def _info(name: str) -> ZipInfo:
    info = ZipInfo(name, (1980, 1, 1, 0, 0, 0))
    info.compress_type = ZIP_DEFLATED if name.endswith((".json", ".jsonl")) else ZIP_STORED
    info.create_system, info.external_attr = 3, 0o644 << 16
    return info


def chunks_of(file: IO[bytes]) -> Iterator[bytes]:
    with file:
        while chunk := file.read(CHUNK):
            yield chunk
