"""Pickles of tensors: read without running code, whoever wrote them; written so that pickle.load reads them."""

from __future__ import annotations

import io
import pickle
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch

from d3po_core.errors import BadSamples
from d3po_core.pickled import Stream, dump_tensors, load_tensors

TENSORS = {
    "large": torch.randn(3, 5, 1024, generator=torch.Generator().manual_seed(0)).half(),
    "small": torch.tensor([[1, 2], [3, 4]]),
    "turned": torch.arange(6.0).view(2, 3).T,
    "rounded": torch.arange(4).bfloat16(),
}


def same(found: dict[str, Any]) -> bool:
    return found.keys() == TENSORS.keys() and all(
        torch.equal(found[name], tensor) and found[name].dtype == tensor.dtype for name, tensor in TENSORS.items()
    )


def in_file(folder: Path, data: bytes) -> Path:
    path = folder / "sample.pkl"
    path.write_bytes(data)
    return path


def pickled(value: Any, protocol: int = 4) -> bytes:
    return pickle.dumps(value, protocol=protocol)


@pytest.mark.parametrize("protocol", [3, 4, 5])
def test_what_pickle_wrote_is_read(tmp_path: Path, protocol: int) -> None:
    assert same(load_tensors(in_file(tmp_path, pickled(TENSORS, protocol))))


def test_what_torch_saved_is_read(tmp_path: Path) -> None:
    torch.save(TENSORS, tmp_path / "sample.pkl")
    assert same(load_tensors(tmp_path / "sample.pkl"))


def test_what_is_read_is_mapped_and_the_file_stays_as_it_is(tmp_path: Path) -> None:
    path = in_file(tmp_path, data := pickled(TENSORS))
    found = load_tensors(path)
    found["large"].zero_()
    assert path.read_bytes() == data
    assert torch.equal(load_tensors(path)["large"], TENSORS["large"])


def test_what_is_written_is_read_by_plain_pickle_and_by_the_reader(tmp_path: Path) -> None:
    def stream(tensor: torch.Tensor) -> Stream:
        return Stream(tensor.dtype, tuple(tensor.shape), lambda: iter(tensor))

    with (tmp_path / "sample.pkl").open("wb") as file:
        dump_tensors(file, {name: stream(tensor) for name, tensor in TENSORS.items()})
    assert same(pickle.loads((tmp_path / "sample.pkl").read_bytes()))
    assert same(load_tensors(tmp_path / "sample.pkl"))


class Evil:
    def __init__(self, mark: Path) -> None:
        self.mark = mark

    def __reduce__(self) -> tuple[Callable[..., Any], tuple[Any, ...]]:
        return exec, (f"open({str(self.mark)!r}, 'w').close()",)


@pytest.mark.parametrize("hidden", [False, True])
@pytest.mark.parametrize("zipped", [False, True])
def test_code_is_refused_and_does_not_run(tmp_path: Path, zipped: bool, hidden: bool) -> None:
    mark = tmp_path / "ran"
    value = {"latents": torch.zeros(2), "x": Evil(mark)} if hidden else Evil(mark)
    if zipped:
        torch.save(value, tmp_path / "sample.pkl")
    else:
        in_file(tmp_path, pickled(value))
    with pytest.raises(BadSamples, match="no pickle of tensors alone"):
        load_tensors(tmp_path / "sample.pkl")
    assert not mark.exists()


def test_code_inside_a_storage_is_refused_and_does_not_run(tmp_path: Path) -> None:
    mark, old = tmp_path / "ran", io.BytesIO()
    torch.save(Evil(mark), old, _use_new_zipfile_serialization=False)

    class Hides:
        def __reduce__(self) -> tuple[Callable[..., Any], tuple[Any, ...]]:
            return torch.storage._load_from_bytes, (old.getvalue(),)

    with pytest.raises(BadSamples, match=r"it names \w+\.exec"):
        load_tensors(in_file(tmp_path, pickled({"latents": Hides()})))
    assert not mark.exists()


def test_objects_with_a_state_are_refused(tmp_path: Path) -> None:
    built = pickled(torch.zeros(2))[:-1] + pickle.EMPTY_DICT + pickle.BUILD + pickle.STOP
    with pytest.raises(BadSamples, match="something else than tensors"):
        load_tensors(in_file(tmp_path, built))


def test_a_tensor_beyond_its_numbers_is_refused(tmp_path: Path) -> None:
    class Beyond:
        def __reduce__(self) -> tuple[Callable[..., Any], tuple[Any, ...]]:
            rebuild, (storage, offset, _, *rest) = torch.zeros(4).__reduce_ex__(4)
            return rebuild, (storage, offset, (1000,), *rest)

    with pytest.raises(BadSamples, match="out of bounds"):
        load_tensors(in_file(tmp_path, pickled({"latents": Beyond()})))


@pytest.mark.parametrize("share", [0.0, 0.01, 0.3, 0.9, 0.999])
@pytest.mark.parametrize("zipped", [False, True])
def test_a_file_that_was_cut_is_refused(tmp_path: Path, share: float, zipped: bool) -> None:
    data = pickled(TENSORS)
    if zipped:
        torch.save(TENSORS, whole := io.BytesIO())
        data = whole.getvalue()
    with pytest.raises(BadSamples):
        load_tensors(in_file(tmp_path, data[: int(len(data) * share)]))


@pytest.mark.parametrize("value", [[torch.zeros(1)], {"latents": 1}, {"latents": [torch.zeros(1)]}])
def test_anything_else_is_refused(tmp_path: Path, value: Any) -> None:
    with pytest.raises(BadSamples, match="something else than a dictionary of tensors"):
        load_tensors(in_file(tmp_path, pickled(value)))


def test_a_missing_file_is_named(tmp_path: Path) -> None:
    with pytest.raises(BadSamples, match=r"sample\.pkl cannot be read \(No such file"):
        load_tensors(tmp_path / "sample.pkl")
