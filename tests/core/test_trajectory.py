from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import save_file

from d3po_core.conditioning import Conditioning
from d3po_core.errors import BadTrajectory, NotFinite
from d3po_core.params import SamplingParams
from d3po_core.trajectory import Header, Trajectory
from d3po_core.transitions import Step

TENSORS = ["latents", "log_probs", "prompt_embeds", "negative_prompt_embeds"]
STEPS = (Step(951, 901, 0.5), Step(901, 851, 0.25), Step(1, -49, 0.0))


def trajectory(**changes: Any) -> Trajectory:
    header = Header(
        prompt="a cät",
        position=3,
        params=SamplingParams(images_per_prompt=2, num_inference_steps=3),
        steps=STEPS,
        seeds=(2**63 - 1, 5),
        model="m" * 64,
        policy="base",
        dtype="float32",
        batch_size=2,
    )
    tensors = {
        "latents": torch.randn(2, 4, 4, 8, 8),
        "log_probs": torch.randn(2, 3),
        "prompt_embeds": torch.randn(7, 16),
        "negative_prompt_embeds": torch.randn(7, 16),
        **changes,
    }
    return Trajectory(header, tensors.pop("latents"), tensors.pop("log_probs"), Conditioning(**tensors))


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return tmp_path / "new folder" / "group.safetensors"


@pytest.mark.parametrize("dtype", [torch.float32, torch.float16, torch.bfloat16])
def test_a_trajectory_survives_a_file(path: Path, dtype: torch.dtype) -> None:
    saved = trajectory(latents=torch.randn(2, 4, 4, 8, 8).to(dtype))
    loaded = Trajectory.load(path, saved.save(path))
    assert loaded.header == saved.header
    assert loaded.tensors().keys() == saved.tensors().keys()
    assert all(torch.equal(loaded.tensors()[name], tensor) for name, tensor in saved.tensors().items())
    assert loaded.latents.dtype == dtype


def test_the_same_trajectory_is_the_same_file(tmp_path: Path) -> None:
    saved = trajectory()
    assert saved.save(tmp_path / "a") == saved.save(tmp_path / "b")


def test_only_steps_with_a_density_can_be_trained() -> None:
    assert trajectory().trainable_steps == [0, 1]


@pytest.mark.parametrize("name", TENSORS)
@pytest.mark.parametrize("value", [float("nan"), float("inf")])
def test_nan_and_infinity_are_not_written(path: Path, name: str, value: float) -> None:
    broken = trajectory()
    broken.tensors()[name].view(-1)[-1] = value
    with pytest.raises(NotFinite, match=f"{name} of the group for 'a cät'"):
        broken.save(path)
    assert not path.parent.exists()


def test_a_failed_write_leaves_the_older_file(path: Path) -> None:
    sha256 = trajectory().save(path)
    with pytest.raises(NotFinite):
        trajectory(log_probs=torch.full((2, 3), float("nan"))).save(path)
    Trajectory.load(path, sha256)
    assert list(path.parent.iterdir()) == [path]


def test_a_missing_file_is_named(path: Path) -> None:
    with pytest.raises(BadTrajectory, match=f"{path} is not there"):
        Trajectory.load(path)


@pytest.mark.parametrize("kept", [0, 4, 100, 3_000, -1])
def test_a_truncated_file_is_refused(path: Path, kept: int) -> None:
    trajectory().save(path)
    path.write_bytes(path.read_bytes()[:kept])
    with pytest.raises(BadTrajectory, match=f"{path} cannot be read as d3po-trajectory-1"):
        Trajectory.load(path)


def test_a_flipped_byte_is_noticed_by_the_hash(path: Path) -> None:
    sha256 = trajectory().save(path)
    data = bytearray(path.read_bytes())
    data[-100] ^= 1
    path.write_bytes(data)
    with pytest.raises(BadTrajectory, match="was changed since it was sampled"):
        Trajectory.load(path, sha256)


@pytest.mark.parametrize(
    "metadata",
    [
        None,
        {"d3po": "not json"},
        {"d3po": "null"},
        {"d3po": "{}"},
        {"other": "{}"},
        {"d3po": '{"format": "d3po-trajectory-2"}'},
    ],
)
def test_a_file_of_another_kind_is_refused(path: Path, metadata: dict[str, str] | None) -> None:
    write(path, trajectory(), metadata)
    with pytest.raises(BadTrajectory, match="cannot be read as d3po-trajectory-1"):
        Trajectory.load(path)


def header_with(**changes: Any) -> dict[str, str]:
    """The metadata of a file whose header differs by `changes`; None takes the key away."""
    values = {**json.loads(trajectory().header.to_json()), **changes}
    return {"d3po": json.dumps({key: value for key, value in values.items() if value is not None})}


PARAMS = trajectory().header.params.model_dump()


@pytest.mark.parametrize(
    ("changes", "sentence"),
    [
        ({"params": {**PARAMS, "eta": 2.0}}, "eta: Input should be less than or equal to 1"),
        ({"params": {**PARAMS, "eta": 0.0}}, "eta: Input should be greater than 0"),
        ({"params": {**PARAMS, "images_per_prompt": 1}}, "images_per_prompt: Input should be greater than or equal to 2"),
        ({"params": {**PARAMS, "height": 100}}, "height: Input should be a multiple of 8"),
        ({"params": {**PARAMS, "sampler": "heun"}}, "sampler: Extra inputs are not permitted"),
        ({"params": [1]}, "no attribute"),
        ({"colour": 1}, r"unknown keys \['colour'\] and lacks \[\]"),
        ({"seeds": None, "steps": None}, r"unknown keys \[\] and lacks \['seeds', 'steps'\]"),
        ({"steps": [[951, 901]]}, r"the step \[951, 901\], which is no"),
        ({"steps": [[951, 901, -0.5]]}, "with sigma >= 0"),
        ({"steps": [[951, 901, float("nan")]]}, "with sigma >= 0"),
        ({"steps": [[951, 901, "0.5"]]}, "with sigma >= 0"),
        ({"seeds": [5, -1]}, "the seed -1, which is no whole number from 0"),
        ({"seeds": [2**63, 1]}, "the seed 9223372036854775808, which is no whole number"),
        ({"seeds": ["5", "6"]}, "the seed '5', which is no whole number"),
        ({"seeds": 5}, "not iterable"),
        ({"prompt": 5}, "the prompt 5, which is no str"),
        ({"position": "third"}, "the position 'third', which is no int"),
        ({"position": True}, "the position True, which is no int"),
        ({"batch_size": 2.0}, r"the batch_size 2\.0, which is no int"),
        ({"policy": ["base"]}, r"the policy \['base'\], which is no str"),
    ],
)
def test_a_header_that_means_nothing_here_is_refused(path: Path, changes: dict[str, Any], sentence: str) -> None:
    write(path, trajectory(), header_with(**changes))
    with pytest.raises(BadTrajectory, match=f"The trajectory {path} cannot be read as d3po-trajectory-1: .*{sentence}"):
        Trajectory.load(path)


def test_a_file_from_before_sizes_and_batches_were_recorded_still_loads(path: Path) -> None:
    older = {key: value for key, value in PARAMS.items() if key not in ("height", "width")}
    write(path, trajectory(), header_with(params=older, batch_size=None))
    assert Trajectory.load(path).header == trajectory().header


def test_a_chain_without_any_noise_is_refused(path: Path) -> None:
    write(path, trajectory(), header_with(steps=[[951, 901, 0.0], [901, 851, 0.0], [1, -49, 0.0]]))
    with pytest.raises(BadTrajectory, match="no step with a density: every sigma is 0"):
        Trajectory.load(path)


def test_a_tensor_of_no_known_name_is_refused(path: Path) -> None:
    path.parent.mkdir()
    save_file({**trajectory().tensors(), "colour": torch.zeros(3)}, path, header_with())
    with pytest.raises(BadTrajectory, match=r"holds unknown tensors \['colour'\] and lacks \[\]"):
        Trajectory.load(path)


@pytest.mark.parametrize(
    "shapes",
    [
        {"latents": (2, 3, 4, 8, 8)},
        {"latents": (3, 4, 4, 8, 8)},
        {"latents": (2, 4, 4, 64)},
        {"log_probs": (2, 2)},
        {"log_probs": (3, 2)},
        {"prompt_embeds": (2, 7, 16)},
        {"negative_prompt_embeds": (6, 16)},
        {"pooled_prompt_embeds": (2, 16)},
        {"negative_pooled_prompt_embeds": (16,)},
        {"time_ids": (5,)},
    ],
)
def test_tensors_that_do_not_fit_the_header_are_refused(path: Path, shapes: dict[str, tuple[int, ...]]) -> None:
    trajectory(**{name: torch.zeros(shape) for name, shape in shapes.items()}).save(path)
    with pytest.raises(BadTrajectory, match="should hold 2 images of 3 steps"):
        Trajectory.load(path)


@pytest.mark.parametrize("dtype", [torch.float64, torch.bfloat16])
def test_log_probabilities_of_another_number_format_are_refused(path: Path, dtype: torch.dtype) -> None:
    trajectory(log_probs=torch.zeros(2, 3, dtype=dtype)).save(path)
    with pytest.raises(BadTrajectory, match=rf"{path} should hold .* log_probs {dtype}"):
        Trajectory.load(path)


def test_a_batch_smaller_than_its_group_is_refused(path: Path) -> None:
    write(path, trajectory(), header_with(batch_size=1))
    with pytest.raises(BadTrajectory, match=f"{path} should hold 2 images"):
        Trajectory.load(path)


def test_a_missing_tensor_is_refused(path: Path) -> None:
    whole = trajectory()
    path.parent.mkdir()
    save_file({"latents": whole.latents}, path, {"d3po": whole.header.to_json()})
    with pytest.raises(BadTrajectory, match=r"lacks \['log_probs', 'prompt_embeds'\]"):
        Trajectory.load(path)


@pytest.mark.parametrize("name", TENSORS)
@pytest.mark.parametrize("value", [float("nan"), float("-inf")])
def test_nan_and_infinity_in_a_file_are_refused(path: Path, name: str, value: float) -> None:
    broken = trajectory()
    broken.tensors()[name].view(-1)[-1] = value
    write(path, broken, {"d3po": broken.header.to_json()})
    with pytest.raises(BadTrajectory, match=f"{path} holds NaN or infinity in {name}"):
        Trajectory.load(path)


def write(path: Path, content: Trajectory, metadata: dict[str, str] | None) -> None:
    path.parent.mkdir(exist_ok=True)
    save_file(content.tensors(), path, metadata)
