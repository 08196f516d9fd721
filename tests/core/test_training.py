from __future__ import annotations

import dataclasses
import math
import shutil
from pathlib import Path

import pytest
import torch
from diffusers import DDIMScheduler
from safetensors.torch import load_file
from torch import Tensor

from d3po_core import round_state
from d3po_core.checkpoint import MANIFEST
from d3po_core.denoisers import Denoiser, load_denoiser
from d3po_core.denoisers.base import WEIGHTS
from d3po_core.errors import BadPreference, BadState, BadTrajectory, ModelMissing, NoPairs, NotFinite
from d3po_core.losses import d3po_loss
from d3po_core.plan import TrainingGroup
from d3po_core.policy import LoraPolicy
from d3po_core.preferences import Pair
from d3po_core.ratios import log_ratios
from d3po_core.sampling import sample_groups
from d3po_core.training import running, train_round
from d3po_core.trajectory import Trajectory
from tests.core.conftest import PAIRS, PROMPTS, SAMPLING, TRAINING, Sampled, store
from tests.factories.tiny_pipeline import tiny_pipeline

UPDATES = 4  # two groups of four steps, two steps an update


class Killed(Exception):
    """What a test raises in place of a kill."""


def margins(denoiser: Denoiser, group: TrainingGroup) -> Tensor:
    """How much further each pair's chosen image rose than its rejected one, mean over timesteps. Float32 [P]."""
    trajectory = Trajectory.load(group.path)
    with torch.no_grad():
        ratios = torch.stack([log_ratios(denoiser, trajectory, step) for step in trajectory.trainable_steps]).mean(dim=0)
    return torch.stack([ratios[pair.chosen] - ratios[pair.rejected] for pair in group.pairs])


def test_the_chosen_images_become_likelier_than_the_rejected(denoiser: Denoiser, sampled: Sampled, tmp_path: Path) -> None:
    assert all(margins(denoiser, group).abs().max() < 1e-4 for group in sampled.stored)
    train_round(denoiser, sampled.stored, TRAINING.model_copy(update={"epochs": 2}), tmp_path / "checkpoint")
    assert all(margins(denoiser, group).mean() > 1e-4 for group in sampled.stored)


def test_every_update_is_observed_with_its_figures(denoiser: Denoiser, sampled: Sampled, tmp_path: Path) -> None:
    seen: list[tuple[int, int, dict[str, float]]] = []
    manifest = train_round(denoiser, sampled.stored, TRAINING, tmp_path / "c", observe=lambda *row: seen.append(row))
    assert [(update, total) for update, total, _ in seen] == [(k, UPDATES) for k in range(1, UPDATES + 1)]
    first, last = seen[0][2], seen[-1][2]
    assert first["loss"] == pytest.approx(math.log(2), abs=1e-4)
    assert first["log_ratio_mean"] == pytest.approx(0, abs=1e-4)
    figures = {"loss", "pair_accuracy", "log_ratio_mean", "log_ratio_std", "clip_fraction", "kl", "kl_exact", "kl_average"}
    figures |= {"grad_norm", "learning_rate"}
    norms = [{name for name in values if name.startswith("grad_norm_t")} for _, _, values in seen]
    assert set(first) == figures | norms[0]
    assert {len(names) for names in norms} == {TRAINING.timesteps_per_update}
    steps = sampled.groups[0].trajectory.header.steps
    assert set.union(*norms) == {f"grad_norm_t{step.timestep}" for step in steps if step.sigma > 0}
    assert all(math.isfinite(value) for _, _, values in seen for value in values.values())
    assert manifest.final == last
    assert [update for update, (_, _, values) in enumerate(seen) if "kl_exact" in values] == [0]


def test_one_batch_has_the_gradient_of_every_pair_on_its_own(denoiser: Denoiser, sampled: Sampled) -> None:
    policy = LoraPolicy(denoiser, TRAINING, None)
    with torch.no_grad():
        for parameter in policy.parameters:
            parameter.add_(0.02 * torch.randn(parameter.shape, generator=torch.Generator().manual_seed(0)))
    trajectory, pairs = sampled.groups[0].trajectory, PAIRS[0]
    steps = trajectory.trainable_steps

    def gradient(loss: Tensor) -> list[Tensor]:
        return list(torch.autograd.grad(loss, policy.parameters))

    def loss_of(part: Trajectory, pairs: list[Pair], steps: list[int]) -> Tensor:
        chosen, rejected = torch.tensor([p.chosen for p in pairs]), torch.tensor([p.rejected for p in pairs])
        ratios = torch.stack([log_ratios(denoiser, part, step) for step in steps])
        return d3po_loss(ratios, chosen, rejected, torch.ones(len(pairs)), 0.1, 0.9)

    together = gradient(loss_of(trajectory, pairs, steps))
    alone = []
    for pair in pairs:
        both = [pair.chosen, pair.rejected]
        part = dataclasses.replace(trajectory, latents=trajectory.latents[both], log_probs=trajectory.log_probs[both])
        alone += [gradient(loss_of(part, [Pair(0, 1)], [k])) for k in steps]
    mean = [torch.stack(parts).mean(dim=0) for parts in zip(*alone, strict=True)]
    assert max(g.abs().max().item() for g in mean) > 1e-6
    torch.testing.assert_close(together, mean, atol=1e-7, rtol=1e-3)


def test_a_next_round_starts_from_its_parent(denoiser: Denoiser, trained: Path, sampled: Sampled, tmp_path: Path) -> None:
    denoiser.use_adapter(trained)
    parent = denoiser.policy
    group = store(next(sample_groups(denoiser, PROMPTS, SAMPLING)), tmp_path, PAIRS[0])
    seen: list[dict[str, float]] = []
    manifest = train_round(denoiser, [group], TRAINING, tmp_path / "c", trained, lambda k, n, values: seen.append(values))
    assert manifest.parent == parent
    assert seen[0]["log_ratio_std"] < 1e-4
    before, after = (load_file(folder / WEIGHTS) for folder in (trained, tmp_path / "c"))
    assert 0 < max((before[name] - after[name]).abs().max().item() for name in before) < 0.1


def test_rounds_follow_one_another_on_one_denoiser(denoiser: Denoiser, tmp_path: Path) -> None:
    newest: Path | None = None
    for number in range(4):
        folder = tmp_path / str(number)
        folder.mkdir()
        denoiser.use_adapter(newest)
        group = store(next(sample_groups(denoiser, PROMPTS, SAMPLING)), folder, PAIRS[0])
        train_round(denoiser, [group], TRAINING, folder / "c", newest)
        newest = folder / "c"


def test_training_leaves_a_denoiser_that_carries_the_new_checkpoint(denoiser: Denoiser, sampled: Sampled, tmp_path: Path) -> None:
    train_round(denoiser, sampled.stored, TRAINING, tmp_path / "c")
    carried = next(sample_groups(denoiser, PROMPTS, SAMPLING)).trajectory
    denoiser.use_adapter(None)
    base = next(sample_groups(denoiser, PROMPTS, SAMPLING)).trajectory
    denoiser.use_adapter(tmp_path / "c")
    reloaded = next(sample_groups(denoiser, PROMPTS, SAMPLING)).trajectory
    assert torch.equal(base.latents, sampled.groups[0].trajectory.latents)
    assert carried.header == reloaded.header
    torch.testing.assert_close(carried.latents, reloaded.latents)


@pytest.mark.parametrize("after", [1, 3, UPDATES])
def test_a_killed_round_continues_to_bitwise_equal_weights(
    denoiser: Denoiser,
    tiny_model: Path,
    trained: Path,
    sampled: Sampled,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    after: int,
) -> None:
    monkeypatch.setattr(round_state, "SAVE_EVERY_SECONDS", -1)
    monkeypatch.setattr(round_state, "LARGEST_SHARE", math.inf)
    out = tmp_path / "checkpoint"

    def kill(update: int, total: int, values: dict[str, float]) -> None:
        if update == after:
            raise Killed

    with pytest.raises(Killed):
        train_round(denoiser, sampled.stored, TRAINING, out, observe=kill)
    assert not out.exists()
    seen: list[int] = []
    restarted = load_denoiser(tiny_model)
    manifest = train_round(restarted, sampled.stored, TRAINING, out, observe=lambda k, n, values: seen.append(k))
    assert seen == list(range(after + 1, UPDATES + 1))
    assert (out / WEIGHTS).read_bytes() == (trained / WEIGHTS).read_bytes()
    assert (out / MANIFEST).read_bytes() == (trained / MANIFEST).read_bytes()
    assert set(manifest.final) > {"loss", "kl"}
    assert list(tmp_path.iterdir()) == [out]


def test_a_killed_third_round_of_one_process_continues_in_another(
    denoiser: Denoiser, tiny_model: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """What the second round compared with is on the network still when the third begins, and is none of its weights."""
    monkeypatch.setattr(round_state, "SAVE_EVERY_SECONDS", -1)
    monkeypatch.setattr(round_state, "LARGEST_SHARE", math.inf)

    def kill(update: int, total: int, values: dict[str, float]) -> None:
        raise Killed

    newest: Path | None = None
    for number in range(2):
        group = store(next(sample_groups(denoiser, PROMPTS, SAMPLING)), tmp_path, PAIRS[0])
        train_round(denoiser, [group], TRAINING, tmp_path / f"c{number}", newest)
        newest = tmp_path / f"c{number}"
    group = store(next(sample_groups(denoiser, PROMPTS, SAMPLING)), tmp_path, PAIRS[0])
    with pytest.raises(Killed):
        train_round(denoiser, [group], TRAINING, tmp_path / "c2", newest, observe=kill)
    train_round(load_denoiser(tiny_model), [group], TRAINING, tmp_path / "c2", newest)
    train_round(denoiser, [group], TRAINING, tmp_path / "undisturbed", newest)
    assert (tmp_path / "c2" / WEIGHTS).read_bytes() == (tmp_path / "undisturbed" / WEIGHTS).read_bytes()


def test_without_a_saved_state_a_killed_round_starts_over(
    denoiser: Denoiser, trained: Path, sampled: Sampled, tmp_path: Path
) -> None:
    def kill(update: int, total: int, values: dict[str, float]) -> None:
        raise Killed

    with pytest.raises(Killed):
        train_round(denoiser, sampled.stored, TRAINING, tmp_path / "c", observe=kill)
    train_round(denoiser, sampled.stored, TRAINING, tmp_path / "c")
    assert (tmp_path / "c" / WEIGHTS).read_bytes() == (trained / WEIGHTS).read_bytes()


def test_a_finished_round_is_not_trained_again(denoiser: Denoiser, sampled: Sampled, tmp_path: Path) -> None:
    first = train_round(denoiser, sampled.stored, TRAINING, tmp_path / "c")

    def never(update: int, total: int, values: dict[str, float]) -> None:
        raise Killed

    assert train_round(denoiser, sampled.stored, TRAINING, tmp_path / "c", observe=never) == first


def test_groups_without_a_pair_are_not_trained_on(denoiser: Denoiser, sampled: Sampled, tmp_path: Path) -> None:
    tied = dataclasses.replace(sampled.stored[1], pairs=[])
    manifest = train_round(denoiser, [sampled.stored[0], tied], TRAINING, tmp_path / "c")
    assert (manifest.groups, manifest.pairs, manifest.updates) == (1, 2, 2)
    with pytest.raises(NoPairs, match="every vote was a tie, all bad or a skip"):
        train_round(denoiser, [tied], TRAINING, tmp_path / "none")


def test_a_group_counts_by_its_weight(denoiser: Denoiser, sampled: Sampled, tmp_path: Path) -> None:
    def first_gradient(weight: float) -> float:
        seen: list[float] = []
        group = dataclasses.replace(sampled.stored[0], weight=weight)
        out = tmp_path / str(weight)
        train_round(denoiser, [group], TRAINING, out, observe=lambda k, n, values: seen.append(values["grad_norm"]))
        return seen[0]

    assert first_gradient(0.5) == pytest.approx(first_gradient(1.0) / 2, rel=1e-4)


@pytest.mark.parametrize("weight", [0.0, -1.0, math.nan, math.inf])
def test_a_group_without_a_weight_is_refused(denoiser: Denoiser, sampled: Sampled, tmp_path: Path, weight: float) -> None:
    broken = dataclasses.replace(sampled.stored[1], weight=weight)
    with pytest.raises(BadPreference, match=r"The weight of .*1\.safetensors is .*; it has to be positive"):
        train_round(denoiser, [sampled.stored[0], broken], TRAINING, tmp_path / "c")


@pytest.mark.parametrize("pair", [Pair(0, 3), Pair(3, 0), Pair(-1, 0)])
def test_a_pair_of_an_image_that_is_not_there_is_refused_before_training(
    denoiser: Denoiser, sampled: Sampled, tmp_path: Path, pair: Pair
) -> None:
    broken = dataclasses.replace(sampled.stored[1], pairs=[pair])
    seen: list[int] = []
    with pytest.raises(BadPreference, match=r"1\.safetensors, which holds 3 images"):
        train_round(denoiser, [sampled.stored[0], broken], TRAINING, tmp_path / "c", observe=lambda k, n, v: seen.append(k))
    assert seen == []


@pytest.mark.parametrize("pair", [Pair(1, 1), Pair(1, 0, 0.0), Pair(1, 0, -1.0), Pair(1, 0, math.nan), Pair(1, 0, math.inf)])
def test_a_pair_that_prefers_nothing_is_refused(denoiser: Denoiser, sampled: Sampled, tmp_path: Path, pair: Pair) -> None:
    broken = dataclasses.replace(sampled.stored[1], pairs=[pair])
    with pytest.raises(BadPreference, match=r"1\.safetensors sets image 1 above image . with weight .*it needs two images"):
        train_round(denoiser, [broken], TRAINING, tmp_path / "c")


@pytest.mark.parametrize(
    ("shapes", "named"),
    [
        ({"latents": (3, 5, 4, 9, 8)}, "latents"),
        ({"latents": (3, 5, 3, 8, 8)}, "latents"),
        ({"prompt_embeds": (7, 16), "negative_prompt_embeds": (7, 16)}, "negative_prompt_embeds, prompt_embeds"),
        ({"pooled_prompt_embeds": (16,)}, "pooled_prompt_embeds"),
        ({"negative_prompt_embeds": None}, "negative_prompt_embeds"),
    ],
)
def test_tensors_of_another_model_are_refused(
    denoiser: Denoiser, sampled: Sampled, tmp_path: Path, shapes: dict[str, tuple[int, ...] | None], named: str
) -> None:
    original = sampled.groups[0].trajectory
    changed = {name: shape and torch.zeros(shape) for name, shape in shapes.items()}
    latents = changed.pop("latents", original.latents)
    told = dataclasses.replace(original.conditioning, **changed)
    dataclasses.replace(original, latents=latents, conditioning=told).save(tmp_path / "other.safetensors")
    with pytest.raises(BadTrajectory, match=rf"other\.safetensors holds {named} of other shapes than the loaded model's"):
        train_round(denoiser, [TrainingGroup(tmp_path / "other.safetensors", None, PAIRS[0])], TRAINING, tmp_path / "c")


def test_another_base_model_is_refused(sampled: Sampled, tmp_path: Path) -> None:
    other = load_denoiser(tiny_pipeline(tmp_path / "model", seed=1))
    with pytest.raises(BadTrajectory, match="sampled with another base model"):
        train_round(other, sampled.stored, TRAINING, tmp_path / "c")


def test_another_adapter_is_refused(denoiser: Denoiser, sampled: Sampled, trained: Path, tmp_path: Path) -> None:
    with pytest.raises(BadTrajectory, match=r"0\.safetensors was sampled with another adapter"):
        train_round(denoiser, sampled.stored, TRAINING, tmp_path / "c", parent=trained)


def test_one_group_of_another_adapter_is_found_among_many(
    denoiser: Denoiser, sampled: Sampled, trained: Path, tmp_path: Path
) -> None:
    denoiser.use_adapter(trained)
    stray = store(next(sample_groups(denoiser, PROMPTS[:1], SAMPLING, first_position=5)), tmp_path, PAIRS[0])
    with pytest.raises(BadTrajectory, match=r"5\.safetensors was sampled with another adapter"):
        train_round(denoiser, [*sampled.stored, stray], TRAINING, tmp_path / "c")


def test_another_scheduler_is_refused(
    denoiser: Denoiser, sampled: Sampled, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    trailing = DDIMScheduler.from_config(denoiser.pipeline.scheduler.config, timestep_spacing="trailing")
    monkeypatch.setattr(denoiser.pipeline, "scheduler", trailing)
    with pytest.raises(BadTrajectory, match="sampled with another scheduler"):
        train_round(denoiser, sampled.stored, TRAINING, tmp_path / "c")


def test_a_scheduler_that_reads_the_model_differently_is_refused(
    denoiser: Denoiser, sampled: Sampled, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    v_prediction = DDIMScheduler.from_config(denoiser.pipeline.scheduler.config, prediction_type="v_prediction")
    monkeypatch.setattr(denoiser.pipeline, "scheduler", v_prediction)
    with pytest.raises(BadTrajectory, match="gives log-probabilities that differ by"):
        train_round(denoiser, sampled.stored, TRAINING, tmp_path / "c")


def test_altered_log_probabilities_are_refused(denoiser: Denoiser, sampled: Sampled, tmp_path: Path) -> None:
    original = sampled.groups[0].trajectory
    dataclasses.replace(original, log_probs=original.log_probs + 0.01).save(tmp_path / "altered.safetensors")
    altered = TrainingGroup(tmp_path / "altered.safetensors", None, PAIRS[0])
    with pytest.raises(BadTrajectory, match=r"differ by 1\.0e-02"):
        train_round(denoiser, [altered], TRAINING, tmp_path / "c")


@pytest.mark.parametrize("change", ["header", "latents"])
def test_another_number_format_is_refused(denoiser: Denoiser, sampled: Sampled, tmp_path: Path, change: str) -> None:
    original = sampled.groups[0].trajectory
    if change == "header":
        other = dataclasses.replace(original, header=dataclasses.replace(original.header, dtype="bfloat16"))
    else:
        other = dataclasses.replace(original, latents=original.latents.bfloat16())
    other.save(tmp_path / "half.safetensors")
    with pytest.raises(BadTrajectory, match=r"half\.safetensors was sampled with another dtype"):
        train_round(denoiser, [TrainingGroup(tmp_path / "half.safetensors", None, PAIRS[0])], TRAINING, tmp_path / "c")


def test_what_another_round_left_is_not_continued(
    denoiser: Denoiser, sampled: Sampled, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(round_state, "SAVE_EVERY_SECONDS", -1)

    def kill(update: int, total: int, values: dict[str, float]) -> None:
        raise Killed

    with pytest.raises(Killed):
        train_round(denoiser, sampled.stored, TRAINING, tmp_path / "c", observe=kill)
    with pytest.raises(BadState, match=r"c\.state is what an unfinished round with other parameters"):
        train_round(denoiser, sampled.stored, TRAINING.model_copy(update={"beta": 0.2}), tmp_path / "c")
    with pytest.raises(BadState, match=r"c\.state"):
        train_round(denoiser, sampled.stored[:1], TRAINING, tmp_path / "c")


@pytest.mark.parametrize("content", [b"", b"no state", None])
def test_a_state_that_cannot_be_read_is_named(
    denoiser: Denoiser, sampled: Sampled, tmp_path: Path, content: bytes | None
) -> None:
    left = tmp_path / "c.state"
    torch.save({"updates": 3}, left) if content is None else left.write_bytes(content)
    with pytest.raises(BadState, match=f"{left}, what an unfinished round left, cannot be read"):
        train_round(denoiser, sampled.stored, TRAINING, tmp_path / "c")


def test_a_round_killed_after_its_manifest_leaves_no_state(
    denoiser: Denoiser, sampled: Sampled, trained: Path, tmp_path: Path
) -> None:
    shutil.copytree(trained, tmp_path / "c")
    (tmp_path / "c.state").write_bytes(b"left")
    train_round(denoiser, sampled.stored, TRAINING, tmp_path / "c")
    assert [path.name for path in tmp_path.iterdir()] == ["c"]


def test_an_altered_file_is_refused(denoiser: Denoiser, sampled: Sampled, tmp_path: Path) -> None:
    copy = Path(shutil.copy(sampled.stored[1].path, tmp_path))
    data = bytearray(copy.read_bytes())
    data[-3] ^= 1
    copy.write_bytes(data)
    altered = dataclasses.replace(sampled.stored[1], path=copy)
    with pytest.raises(BadTrajectory, match="was changed since it was sampled"):
        train_round(denoiser, [sampled.stored[0], altered], TRAINING, tmp_path / "c")


def test_a_parent_of_another_rank_is_refused(denoiser: Denoiser, trained: Path) -> None:
    with pytest.raises(ModelMissing, match="is a LoRA of rank 2; this round asks for rank 4"):
        LoraPolicy(denoiser, TRAINING.model_copy(update={"lora_rank": 4}), trained)


def test_a_gradient_that_is_not_finite_ends_the_round_without_a_checkpoint(
    denoiser: Denoiser, sampled: Sampled, tmp_path: Path
) -> None:
    def poison(update: int, total: int, values: dict[str, float]) -> None:
        weights = next(p for p in denoiser.pipeline.unet.parameters() if p.requires_grad)
        weights.data.fill_(float("nan"))

    with pytest.raises(NotFinite, match="the checkpoint before this round is unharmed"):
        train_round(denoiser, sampled.stored, TRAINING, tmp_path / "c", observe=poison)
    assert not (tmp_path / "c").exists()


def test_weights_that_are_not_finite_at_the_end_become_no_checkpoint(
    denoiser: Denoiser, sampled: Sampled, tmp_path: Path
) -> None:
    exploding = {"weight_decay": 1e300, "learning_rate": 1.0, "groups_per_update": 2, "timesteps_per_update": None}
    with pytest.raises(NotFinite, match="no checkpoint was written"):
        train_round(denoiser, sampled.stored, TRAINING.model_copy(update=exploding), tmp_path / "c")
    assert not (tmp_path / "c").exists()


def test_a_round_ends_early_once_it_is_far_from_its_reference(denoiser: Denoiser, sampled: Sampled, tmp_path: Path) -> None:
    near = TRAINING.model_copy(update={"max_kl": 1e-3, "learning_rate": 0.3})
    manifest = train_round(denoiser, sampled.stored, near, tmp_path / "near")
    assert 1 < manifest.updates < UPDATES


def test_a_running_average_is_not_drawn_to_zero_at_first() -> None:
    average = 0.0
    for count in range(5):
        average = running(average, 3.0, count)
        assert average == pytest.approx(3.0)
    assert running(3.0, 4.0, 1000) == pytest.approx(3.1)
