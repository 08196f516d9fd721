"""A dictionary of tensors in a pickle, as the published code's `pickle.dump` writes it: read without running code, written as a
stream.

A pickle names functions to call. This reader knows the two that rebuild a tensor, calls neither but maps the bytes in the
file, and refuses every other name. In the pickle each tensor's storage is a file of PyTorch's old format, whose raw numbers
are its end.
"""

from __future__ import annotations

import io
import mmap
import pickle
import zipfile
from collections import OrderedDict
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import IO, Any

import torch
from torch import Tensor
from torch.serialization import MAGIC_NUMBER, PROTOCOL_VERSION
from torch.storage import _load_from_bytes

from d3po_core.errors import BadSamples

LONG = 2**16  # a pickle writes longer bytes outside of its frames
STORAGES = {
    torch.float16: "HalfStorage",
    torch.float32: "FloatStorage",
    torch.bfloat16: "BFloat16Storage",
    torch.int64: "LongStorage",
}
OLD_HEAD = 2**12  # the old format's head takes a few hundred bytes
SYSTEM = {"protocol_version": PROTOCOL_VERSION, "little_endian": True, "type_sizes": {"short": 2, "int": 4, "long": 4}}


@dataclass(frozen=True)
class Stream:
    """A tensor that is never in memory as a whole: `parts` gives it slice by slice along its first dimension, each anew."""

    dtype: torch.dtype
    shape: tuple[int, ...]
    parts: Callable[[], Iterable[Tensor]]


def load_tensors(path: Path) -> dict[str, Tensor]:
    """The tensors of a file that pickle.dump or torch.save wrote, mapped from it. Runs nothing that the file names.

    Raises BadSamples for a file that is not there, is cut short, or holds anything but a dictionary of tensors.
    """
    try:
        if zipfile.is_zipfile(path):
            found = torch.load(path, map_location="cpu", mmap=True, weights_only=True)
        else:
            with path.open("rb") as file:
                found = _Reader(_Mapped(mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_COPY))).load()
    except OSError as error:
        raise BadSamples(f"{path} cannot be read ({error.strerror or error}).") from error
    except Exception as error:  # a damaged pickle fails in any way
        raise BadSamples(f"{path} is no pickle of tensors alone, or it is damaged ({_first_line(error)}).") from error
    if not isinstance(found, dict) or not all(isinstance(value, Tensor) for value in found.values()):
        raise BadSamples(f"{path} holds something else than a dictionary of tensors.")
    return found


def _first_line(error: Exception) -> str:
    return (str(error).splitlines() or [type(error).__name__])[0].rstrip(".")


class _Mapped:
    """The file as an unpickler reads it. Long bytes are given as a view of the map, so that nothing is loaded."""

    def __init__(self, mapped: mmap.mmap) -> None:
        self._mapped, self._view = mapped, memoryview(mapped)

    def read(self, count: int) -> bytes | memoryview:
        if count < LONG:
            return self._mapped.read(count)
        start = self._mapped.tell()
        if start + count > len(self._view):
            raise EOFError("it ends too early")
        self._mapped.seek(count, io.SEEK_CUR)
        return self._view[start : start + count]

    def readline(self) -> bytes:
        return self._mapped.readline()


class _Reader(pickle._Unpickler):
    """Python's own unpickler, and not the one in C, since only that one takes a view for bytes."""

    def __init__(self, file: Any) -> None:
        super().__init__(file, encoding="ASCII")

    def find_class(self, module: str, name: str) -> Any:
        known: dict[tuple[str, str], Any] = {
            ("torch._utils", "_rebuild_tensor_v2"): _tensor,
            ("torch.storage", "_load_from_bytes"): _storage,
            ("collections", "OrderedDict"): _no_hooks,
            **{("torch", storage): dtype for dtype, storage in STORAGES.items()},
        }
        if (module, name) not in known:
            raise pickle.UnpicklingError(f"it names {module}.{name}, which is not read")
        return known[module, name]

    def persistent_load(self, pid: Any) -> Any:
        return pid

    def _refuse(self: Any) -> None:
        raise pickle.UnpicklingError("it builds something else than tensors")

    dispatch = {
        **pickle._Unpickler.dispatch,
        **dict.fromkeys((code[0] for code in (pickle.BUILD, pickle.INST, pickle.OBJ, pickle.NEWOBJ, pickle.NEWOBJ_EX)), _refuse),
    }


def _no_hooks() -> dict[str, Any]:
    return {}


def _storage(data: bytes | memoryview) -> Tensor:
    """The numbers of one storage, [count], where they lie. ValueError where its head does not tell their type and count."""
    head = io.BytesIO(data[:OLD_HEAD])
    magic, _, system, (kind, dtype, _, _, count, view), _ = (_Reader(head).load() for _ in range(5))
    if magic != MAGIC_NUMBER or kind != "storage" or view is not None or not system["little_endian"]:
        raise ValueError("a storage is not of PyTorch's plain format")
    numbers = memoryview(data)[head.tell() + 8 :]
    if int.from_bytes(head.getvalue()[head.tell() : head.tell() + 8], "little") != count:
        raise ValueError("a storage tells two sizes")
    if len(numbers) != count * dtype.itemsize:
        raise ValueError(f"a storage of {count} numbers has {len(numbers)} bytes")
    return torch.frombuffer(numbers if data.__class__ is memoryview else bytearray(numbers), dtype=dtype)


def _tensor(storage: Tensor, offset: int, size: tuple[int, ...], stride: tuple[int, ...], *_: Any) -> Tensor:
    return storage.as_strided(size, stride, offset)  # torch checks the bounds


def dump_tensors(file: IO[bytes], tensors: Mapping[str, Stream]) -> None:
    """Write what plain `pickle.load` reads as a dictionary of tensors, slice by slice."""
    file.write(pickle.PROTO + b"\x04" + pickle.EMPTY_DICT + pickle.MARK)
    for name, tensor in tensors.items():
        count, stride = 1, list[int]()
        for size in reversed(tensor.shape):
            stride.insert(0, count)
            count *= size
        head = _old_head(tensor.dtype, count)
        length = len(head) + count * tensor.dtype.itemsize
        file.write(_opcodes(name) + _opcodes(torch._utils._rebuild_tensor_v2) + pickle.MARK + _opcodes(_load_from_bytes))
        file.write(pickle.BINBYTES8 + length.to_bytes(8, "little") + head)
        for part in tensor.parts():
            file.write(part.to(tensor.dtype).contiguous().flatten().view(torch.uint8).numpy().data)
        file.write(pickle.TUPLE1 + pickle.REDUCE + _opcodes(0) + _opcodes(tensor.shape) + _opcodes(tuple(stride)))
        file.write(_opcodes(False) + _opcodes(OrderedDict()) + pickle.TUPLE + pickle.REDUCE)
    file.write(pickle.SETITEMS + pickle.STOP)


def _opcodes(value: Any) -> bytes:
    """What puts `value` on the unpickler's stack."""
    return pickle.dumps(value, protocol=2)[2:-1]


def _old_head(dtype: torch.dtype, count: int) -> bytes:
    """What stands before the numbers in a storage of PyTorch's old format."""
    before = b"".join(pickle.dumps(value, protocol=2) for value in (MAGIC_NUMBER, PROTOCOL_VERSION, SYSTEM))
    told = _opcodes(("storage", getattr(torch, STORAGES[dtype]), "0", "cpu", count, None))
    named = pickle.PROTO + b"\x02" + told + pickle.BINPERSID + pickle.STOP
    return before + named + pickle.dumps(["0"], protocol=2) + count.to_bytes(8, "little")
