"""The published code's sample.pkl: what it becomes, that training starts from a ratio of 1, and the way back."""

from __future__ import annotations

import pickle
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch

from d3po_core.denoisers import Denoiser
from d3po_core.errors import BadSamples, BadTrajectory
from d3po_core.params import TrainingParams
from d3po_core.plan import TrainingGroup
from d3po_core.preferences import Pair
from d3po_core.published import check_fits, read_samples, stored, write_samples
from d3po_core.ratios import FLOAT32_TOLERANCE, check_ratio_is_one
from d3po_core.training import train_round
from d3po_core.trajectory import Trajectory
from tests.factories.published import PROMPTS, SAMPLING, sample_folder

Tensors = dict[str, torch.Tensor]


@pytest.fixture(scope="module")
def folder(tiny_model: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    return sample_folder(tmp_path_factory.mktemp("published") / "samples", tiny_model)


@pytest.fixture
def tensors(folder: Path) -> Tensors:
    found: Tensors = pickle.loads((folder / "sample.pkl").read_bytes())
    return found


def imported(folder: Path, out: Path, denoiser: Denoiser) -> list[tuple[Path, str | None]]:
    samples = read_samples(folder / "sample.pkl")
    check_fits(samples, len(PROMPTS), SAMPLING, denoiser)
    paths = [out / f"{group}.safetensors" for group in range(len(PROMPTS))]
    return [(path, stored(samples, group, PROMPTS[group], SAMPLING, denoiser, path)) for group, path in enumerate(paths)]


def test_there_and_back_is_value_for_value(folder: Path, tensors: Tensors, denoiser: Denoiser, tmp_path: Path) -> None:
    write_samples(tmp_path / "sample.pkl", imported(folder, tmp_path, denoiser))
    again = pickle.loads((tmp_path / "sample.pkl").read_bytes())
    assert again.keys() == tensors.keys()
    for name, tensor in tensors.items():
        assert (again[name].dtype, again[name].shape) == (tensor.dtype, tensor.shape)
        assert torch.equal(again[name], tensor)


def test_training_starts_at_a_ratio_of_one_and_learns(folder: Path, denoiser: Denoiser, tmp_path: Path) -> None:
    groups = [TrainingGroup(path, sha256, [Pair(0, 1)]) for path, sha256 in imported(folder, tmp_path, denoiser)]
    assert [check_ratio_is_one(denoiser, group, 0.1) for group in groups] == [0.0, 0.0]
    values: list[dict[str, float]] = []
    params = TrainingParams(lora_rank=2, learning_rate=1e-2)
    train_round(denoiser, groups, params, tmp_path / "made", observe=lambda step, total, seen: values.append(seen))
    assert abs(values[0]["log_ratio_mean"]) < FLOAT32_TOLERANCE
    assert values[-1]["kl"] > 0


def test_log_probabilities_agree_with_those_of_sampling(folder: Path, denoiser: Denoiser, tmp_path: Path) -> None:
    """As far as latents that were rounded to half precision can: by less than the published clip where it was in float32."""
    from d3po_core.sampling import sample_groups

    ours = [Trajectory.load(path).log_probs for path, _ in imported(folder, tmp_path, denoiser)]
    for mine, group in zip(ours, sample_groups(denoiser, PROMPTS, SAMPLING), strict=True):
        assert (mine - group.trajectory.log_probs).abs().max() < 0.1


def test_a_second_try_takes_what_the_first_left(
    folder: Path, denoiser: Denoiser, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    first = imported(folder, tmp_path, denoiser)
    first[1][0].unlink()
    times = [path.stat().st_mtime_ns for path, _ in first[:1]]
    assert imported(folder, tmp_path, denoiser) == first
    assert [path.stat().st_mtime_ns for path, _ in first[:1]] == times


def test_nothing_is_written_over_another_chain(folder: Path, denoiser: Denoiser, tmp_path: Path) -> None:
    path, _ = imported(folder, tmp_path, denoiser)[0]
    samples = read_samples(folder / "sample.pkl")
    before = path.read_bytes()
    with pytest.raises(BadSamples, match="holds something else than group 1; it stays"):
        stored(samples, 1, PROMPTS[1], SAMPLING, denoiser, path)
    assert path.read_bytes() == before


def rewritten(tensors: Tensors, path: Path, **changed: Any) -> Path:
    path.write_bytes(pickle.dumps({name: value for name, value in (tensors | changed).items() if value is not None}))
    return path


@pytest.mark.parametrize(
    ("name", "change", "told"),
    [
        ("timesteps", lambda t: None, "should hold prompt_embeds, timesteps, latents, next_latents; it holds"),
        ("latents", lambda t: t[:, :2], "do not go together"),
        ("latents", lambda t: t.double(), "it names torch.DoubleStorage, which is not read"),
        ("timesteps", lambda t: t[:, :3], "do not go together"),
        ("timesteps", lambda t: t.float(), "do not go together"),
        ("prompt_embeds", lambda t: t[0], "do not go together"),
    ],
)
def test_shapes_that_do_not_fit_are_named(tensors: Tensors, tmp_path: Path, name: str, change: Any, told: str) -> None:
    with pytest.raises(BadSamples, match=told):
        read_samples(rewritten(tensors, tmp_path / "sample.pkl", **{name: change(tensors[name])}))


def with_value(tensor: torch.Tensor, place: tuple[int, ...], value: float) -> torch.Tensor:
    changed = tensor.clone()
    changed[place] = value
    return changed


@pytest.mark.parametrize(
    ("name", "place", "value", "told"),
    [
        ("next_latents", (1, 2, 1, 0, 0, 0), 9.0, "in group 1, image 2, next_latents of step 1"),
        ("next_latents", (1, 2, 3, 0, 0, 0), torch.nan, "latents of group 1, image 2"),
        ("prompt_embeds", (0, 1, 0, 0), torch.inf, "prompt_embeds of group 0, image 1"),
        ("prompt_embeds", (1, 1, 0, 0), 9.0, "images of group 1 have different prompt_embeds"),
    ],
)
def test_what_is_wrong_inside_a_group_is_named(
    tensors: Tensors, denoiser: Denoiser, tmp_path: Path, name: str, place: tuple[int, ...], value: float, told: str
) -> None:
    path = rewritten(tensors, tmp_path / "sample.pkl", **{name: with_value(tensors[name], place, value)})
    with pytest.raises(BadSamples, match=told):
        imported(path.parent, tmp_path, denoiser)


@pytest.mark.parametrize(
    ("groups", "params", "told"),
    [
        (3, {}, "2 groups of 3 images in 4 steps; expected are 3 of 3 in 4"),
        (2, {"images_per_prompt": 7}, "expected are 2 of 7 in 4"),
        (2, {"height": 64}, "holds latents of .* an image, and the base model's are"),
    ],
)
def test_another_model_or_size_is_named(folder: Path, denoiser: Denoiser, groups: int, params: Any, told: str) -> None:
    with pytest.raises(BadSamples, match=told):
        check_fits(read_samples(folder / "sample.pkl"), groups, SAMPLING.model_copy(update=params), denoiser)


def test_other_timesteps_are_named(tensors: Tensors, denoiser: Denoiser, tmp_path: Path) -> None:
    path = rewritten(tensors, tmp_path / "sample.pkl", timesteps=tensors["timesteps"] - 1)
    with pytest.raises(BadSamples, match="group 0 took the timesteps"):
        check_fits(read_samples(path), 2, SAMPLING, denoiser)


def test_chains_in_single_precision_stay_so(folder: Path, denoiser: Denoiser, tmp_path: Path) -> None:
    path, _ = imported(folder, tmp_path, denoiser)[0]
    trajectory = Trajectory.load(path)
    finer = replace(trajectory, latents=trajectory.latents + 1e-6)
    sha256 = finer.save(tmp_path / "finer.safetensors")
    write_samples(tmp_path / "sample.pkl", [(tmp_path / "finer.safetensors", sha256)])
    found = pickle.loads((tmp_path / "sample.pkl").read_bytes())
    assert (found["latents"].dtype, found["prompt_embeds"].dtype) == (torch.float32, torch.float16)
    assert torch.equal(found["latents"][0], finer.latents[:, :-1])


def test_groups_of_two_sizes_have_no_common_file(folder: Path, denoiser: Denoiser, tmp_path: Path) -> None:
    paths = imported(folder, tmp_path, denoiser)
    trajectory = Trajectory.load(paths[0][0])
    header = replace(trajectory.header, params=SAMPLING.model_copy(update={"images_per_prompt": 2}), seeds=(0, 0), batch_size=2)
    small = replace(trajectory, header=header, latents=trajectory.latents[:2], log_probs=trajectory.log_probs[:2])
    other = tmp_path / "small.safetensors"
    with pytest.raises(BadSamples, match="groups of one size only"):
        write_samples(tmp_path / "sample.pkl", [*paths, (other, small.save(other))])
    assert not (tmp_path / "sample.pkl").exists()


def test_a_changed_trajectory_is_not_exported(folder: Path, denoiser: Denoiser, tmp_path: Path) -> None:
    [(path, _), *_] = imported(folder, tmp_path, denoiser)
    with pytest.raises(BadTrajectory, match="was changed since it was sampled"):
        write_samples(tmp_path / "sample.pkl", [(path, "0" * 64)])
