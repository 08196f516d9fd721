"""Where the broker of `d3po up` listens, and whether it does."""

from __future__ import annotations

import hashlib
import os
import socket
import tempfile
from pathlib import Path

LONGEST_PATH = 100  # the kernel takes 107 characters


def socket_path(data_dir: Path) -> Path:
    """In the data folder, unless its path is too long for a socket."""
    path = data_dir / "broker" / "valkey.sock"
    if len(str(path)) <= LONGEST_PATH:
        return path
    name = hashlib.sha256(str(data_dir).encode()).hexdigest()[:16]
    return Path(tempfile.gettempdir()) / f"d3po-{os.getuid()}-{name}.sock"


def url(data_dir: Path) -> str:
    return f"redis+socket://{socket_path(data_dir)}"


def answers(data_dir: Path) -> bool:
    with socket.socket(socket.AF_UNIX) as client:
        client.settimeout(2)
        try:
            client.connect(str(socket_path(data_dir)))
            client.sendall(b"PING\r\n")
            return client.recv(7) == b"+PONG\r\n"
        except OSError:
            return False
