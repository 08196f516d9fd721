from __future__ import annotations

import inspect
import os
import subprocess
import sys
from pathlib import Path

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


def test_onnx_runtime_reports_to_nobody(tmp_path: Path, tiny_model: Path) -> None:
    """It would leave the identifier of this device, and what is to be sent, below the home folder."""
    script = f"""
import sys
from d3po_core import load_denoiser
from d3po_core.rewards import load_reward
from PIL import Image
load_denoiser({str(tiny_model)!r})
load_reward("safety").score([Image.new("RGB", (64, 64))], [""])
assert "onnxruntime" in sys.modules
"""
    here = {name: os.environ[name] for name in ("PATH", "PYTHONPATH") if name in os.environ}
    subprocess.run([sys.executable, "-c", script], env={**here, "HOME": str(tmp_path), "OMP_NUM_THREADS": "1"}, check=True)
    assert not [path for path in tmp_path.rglob("*") if "onnx" in path.name.lower()]
