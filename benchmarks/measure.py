"""Peak memory, processor time and the model that the cost scripts share."""

from __future__ import annotations

import ctypes
import json
import os
import threading
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

PAUSE_SECONDS = 0.001
M_MMAP_THRESHOLD = -3


def anonymous_memory() -> int:
    """RssAnon of this process in bytes: what it allocated, without mapped files."""
    for line in Path("/proc/self/status").read_text().splitlines():
        if line.startswith("RssAnon:"):
            return int(line.split()[1]) * 1024
    raise OSError("/proc/self/status has no RssAnon; this needs Linux.")


class PeakMemory:
    """`with PeakMemory() as peak: ...`: then `peak.bytes` is the largest RssAnon seen, looking a thousand times a second."""

    def __enter__(self) -> PeakMemory:
        self.bytes = self.start = anonymous_memory()
        self._ended = threading.Event()
        self._thread = threading.Thread(target=self._watch, daemon=True)
        self._thread.start()
        return self

    def __exit__(self, *raised: object) -> None:
        self._ended.set()
        self._thread.join()

    @property
    def added(self) -> int:
        """Bytes above what was there at the start."""
        return self.bytes - self.start

    def _watch(self) -> None:
        while not self._ended.wait(PAUSE_SECONDS):
            self.bytes = max(self.bytes, anonymous_memory())


def account_exactly() -> None:
    """Make the C library give freed memory back at once, so that what this process holds is what it uses.

    It slows allocation, so times are taken in another process. Larger blocks left on the heap would hide under smaller ones.
    """
    library = ctypes.CDLL(None)
    library.mallopt(M_MMAP_THRESHOLD, 2**14)
    library.malloc_trim(0)


def in_child(work: Callable[[], Any]) -> Any:
    """work() in a forked process, so that nothing it allocates or changes is left here. Returns what JSON keeps of its answer."""
    reading, writing = os.pipe()
    process = os.fork()
    if process == 0:
        code = 1
        try:
            with os.fdopen(writing, "w") as pipe:
                json.dump(work(), pipe)
            code = 0
        finally:
            os._exit(code)
    os.close(writing)
    with os.fdopen(reading) as pipe:
        answer = pipe.read()
    if os.waitpid(process, 0)[1] != 0:
        raise RuntimeError("The measured process broke; its message is above.")
    return json.loads(answer)


def processor_seconds(work: Callable[[], object]) -> float:
    """Processor time of this process during work(): on one thread the wall-clock of an otherwise idle machine."""
    began = time.process_time()
    work()
    return time.process_time() - began
