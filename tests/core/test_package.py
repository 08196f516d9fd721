from __future__ import annotations

import inspect

import pytest

import d3po_core
from d3po_core import errors


@pytest.mark.parametrize("name", d3po_core.__all__)
def test_every_public_name_is_there(name: str) -> None:
    assert getattr(d3po_core, name).__name__ == name


@pytest.mark.parametrize("name", d3po_core.__all__)
def test_every_public_name_is_explained_and_says_what_it_raises(name: str) -> None:
    public = getattr(d3po_core, name)
    assert len(public.__doc__ or "") > 60
    if inspect.isfunction(public):
        assert "Raises" in public.__doc__
    else:
        methods = [value for key, value in vars(public).items() if inspect.isroutine(value) and not key.startswith("_")]
        assert all(inspect.getdoc(method) for method in methods)


def test_an_unknown_name_is_an_ordinary_attribute_error() -> None:
    with pytest.raises(AttributeError, match="no attribute 'train'"):
        d3po_core.train  # noqa: B018


def test_the_error_tree_of_the_docstring_is_complete() -> None:
    classes = [name for name, value in vars(errors).items() if inspect.isclass(value) and issubclass(value, Exception)]
    assert all(name in (errors.__doc__ or "") for name in classes)
    assert all(issubclass(getattr(errors, name), errors.CoreError) for name in classes)
