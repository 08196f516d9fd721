"""Every algorithm of the registry, on the same trajectories: what it learns from, its gradient, its figures, what it refuses."""

from __future__ import annotations

import dataclasses
import json
import math
from collections.abc import Callable
from pathlib import Path
from typing import Any, get_args

import pytest
import torch
from accelerate import Accelerator
from safetensors.torch import load_file
from torch import Tensor
from torch.nn.utils import clip_grad_norm_

from d3po_core import round_state
from d3po_core.advantages import TINY
from d3po_core.checkpoint import STATISTICS, read_history
from d3po_core.denoisers import Denoiser, load_denoiser
from d3po_core.denoisers.base import FULL_WEIGHTS, WEIGHTS
from d3po_core.errors import BadParams, BadReward, ModelMissing, NoPairs
from d3po_core.learner import Learner
from d3po_core.losses import d3po_loss
from d3po_core.objectives import OBJECTIVES
from d3po_core.params import TrainingParams
from d3po_core.plan import Item, Plan, TrainingGroup, Visit, visited
from d3po_core.policy import FullPolicy, LoraPolicy, Policy, new_policy
from d3po_core.preferences import Pair
from d3po_core.ratios import log_prob_at, log_ratios, step_mean
from d3po_core.sampling import sample_groups
from d3po_core.training import train_round
from d3po_core.trajectory import Trajectory
from tests.core.conftest import PAIRS, PROMPTS, SAMPLING, TRAINING, Sampled, store

SCORES = [[3.0, 8.0, -1.0], [5.0, 2.0, 4.5]]
BEST = [1, 0]
FROM_SCORES = ["ddpo", "dpok", "rwr"]


def params_for(algorithm: str, **more: Any) -> TrainingParams:
    """A clip that the tiny model's steps stay within, and a regression that tells the scores apart."""
    own = {"ratio_clip": 0.1, "reward_beta": 0.5}
    return TrainingParams.model_validate(TRAINING.model_dump() | own | {"algorithm": algorithm} | more)


@pytest.fixture
def scored(sampled: Sampled) -> list[TrainingGroup]:
    """The two groups with scores instead of pairs."""
    return [dataclasses.replace(g, pairs=(), scores=s) for g, s in zip(sampled.stored, SCORES, strict=True)]


@pytest.fixture
def paired(sampled: Sampled) -> list[TrainingGroup]:
    """The two groups with the pairs that the scores order, and without the scores."""
    ordered = [[Pair(i, j) for i in range(3) for j in range(3) if scores[i] > scores[j]] for scores in SCORES]
    return [dataclasses.replace(group, pairs=pairs) for group, pairs in zip(sampled.stored, ordered, strict=True)]


@pytest.fixture
def saved_at_once(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(round_state, "SAVE_EVERY_SECONDS", -1)
    monkeypatch.setattr(round_state, "LARGEST_SHARE", math.inf)


def moved(denoiser: Denoiser, group: TrainingGroup) -> list[float]:
    """How much likelier each image became, mean over timesteps. [N]"""
    trajectory = Trajectory.load(group.path)
    with torch.no_grad():
        return torch.stack([log_ratios(denoiser, trajectory, k) for k in trajectory.trainable_steps]).mean(dim=0).tolist()


def test_the_registry_has_every_algorithm_that_can_be_asked_for() -> None:
    assert set(OBJECTIVES) == set(get_args(TrainingParams.model_fields["algorithm"].annotation))


@pytest.mark.parametrize("algorithm", OBJECTIVES)
@pytest.mark.parametrize("told", ["scores", "pairs"])
def test_better_images_become_likelier(
    denoiser: Denoiser, scored: list[TrainingGroup], paired: list[TrainingGroup], tmp_path: Path, algorithm: str, told: str
) -> None:
    """Those that learn from pairs are given them in both cases; the others take scores, or those that the pairs leave, which
    lie in 0..1 and need another weight in the regression."""
    groups = scored if told == "scores" and algorithm in FROM_SCORES else paired
    params = params_for(algorithm, epochs=2, reward_beta=0.5 if told == "scores" else 4.0)
    train_round(denoiser, groups, params, tmp_path / "c")
    for group, scores, best in zip(groups, SCORES, BEST, strict=True):
        gains = moved(denoiser, group)
        assert gains[best] > 1e-4
        assert gains[best] > gains[scores.index(min(scores))] + 1e-4


def by_hand(algorithm: str, params: TrainingParams, ratios: Tensor, kl: Tensor, values: Tensor, pairs: list[Pair]) -> Tensor:
    """One item's loss, image by image or pair by pair, as the papers write it."""
    ratio, images = ratios.exp(), range(len(ratios))
    if algorithm == "d3po":
        low, high = 1 - params.clip, 1 + params.clip
        r = ratio.clamp(low, high).log()
        terms = [-pair.weight * torch.sigmoid(params.beta * (r[pair.chosen] - r[pair.rejected])).log() for pair in pairs]
        return torch.stack(terms).sum() / sum(pair.weight for pair in pairs)
    if algorithm == "sft":
        return -torch.stack([pair.weight * ratios[pair.chosen] for pair in pairs]).sum() / sum(pair.weight for pair in pairs)
    if algorithm == "rwr":
        return -torch.stack([values[i] * ratios[i] for i in images]).mean()
    clipped = ratio.clamp(1 - params.ratio_clip, 1 + params.ratio_clip)
    if algorithm == "dpok":
        return params.kl_weight * kl.mean() - torch.stack([values[i] * clipped[i] for i in images]).mean()
    advantages = [values[i].clamp(-params.max_advantage, params.max_advantage) for i in images]
    return -torch.stack([torch.min(advantages[i] * ratio[i], advantages[i] * clipped[i]) for i in images]).mean()


def perturbed(policy: Policy) -> Policy:
    with torch.no_grad():
        for parameter in policy.parameters:
            parameter.add_(0.02 * torch.randn(parameter.shape, generator=torch.Generator().manual_seed(0)))
    return policy


@pytest.mark.parametrize("at_once", [None, 2])
@pytest.mark.parametrize("step", [0, 2])
@pytest.mark.parametrize("algorithm", OBJECTIVES)
def test_the_gradient_of_an_item_is_that_of_the_formula(
    denoiser: Denoiser, sampled: Sampled, algorithm: str, step: int, at_once: int | None
) -> None:
    params = params_for(algorithm, images_per_backward=at_once, kl_weight=20.0, clip=0.03, ratio_clip=0.03)
    policy = perturbed(LoraPolicy(denoiser, params, None))
    trajectory, values = sampled.groups[0].trajectory, [1.5, -7.0, 0.25]
    sigma, following = trajectory.header.steps[step].sigma, trajectory.latents[:, step + 1]
    with torch.no_grad(), policy.as_base():
        base = step_mean(denoiser, trajectory, step)
    mean = step_mean(denoiser, trajectory, step)
    log_probs = (-((following - mean) ** 2) / (2 * sigma**2)).mean(dim=(1, 2, 3)) - math.log(sigma * math.sqrt(2 * math.pi))
    kl = ((mean - base) ** 2 / (2 * sigma**2)).mean(dim=(1, 2, 3))
    ratios = log_probs - trajectory.log_probs[:, step]
    assert kl.max() > 1e-6
    loss = by_hand(algorithm, params, ratios, kl, torch.tensor(values), PAIRS[0])
    expected = torch.autograd.grad(loss, policy.parameters)
    learner = Learner(policy, sampled.stored, params, Accelerator(cpu=True), values=[values, values])
    if not OBJECTIVES[algorithm].value:
        learner.values = [[], []]
    seen = learner.add_gradient(Visit(Item(0, step), trajectory), 1.0, False)
    assert seen.values["loss"].item() == pytest.approx(loss.item(), rel=1e-4, abs=1e-6)
    assert max(gradient.abs().max().item() for gradient in expected) > 1e-6
    torch.testing.assert_close([p.grad for p in policy.parameters], list(expected), atol=1e-6, rtol=1e-3)


def plain_d3po_round(denoiser: Denoiser, groups: list[TrainingGroup], params: TrainingParams) -> list[Tensor]:
    """A D3PO round without registry, learner or figures: update by update, item by item. The weights it ends with."""
    policy = LoraPolicy(denoiser, params, None)
    loaded = [Trajectory.load(group.path) for group in groups]
    optimizer = torch.optim.AdamW(
        policy.parameters, lr=params.learning_rate, eps=params.adam_epsilon, weight_decay=params.weight_decay
    )
    for items in Plan([tuple(one.trainable_steps) for one in loaded], params):
        gradients: list[list[Tensor]] = []
        for item in items:
            trajectory, pairs = loaded[item.group], groups[item.group].pairs
            ratios = log_prob_at(step_mean(denoiser, trajectory, item.step), trajectory, item.step)
            ratios = ratios - trajectory.log_probs[:, item.step]
            chosen, rejected = torch.tensor([pair.chosen for pair in pairs]), torch.tensor([pair.rejected for pair in pairs])
            weights = torch.tensor([pair.weight for pair in pairs])
            loss = 1.0 * d3po_loss(ratios[None], chosen, rejected, weights, params.beta, params.clip, params.one_sided_clip)
            gradients.append([g * (1 / len(items)) for g in torch.autograd.grad(loss, policy.parameters)])
        for parameter, *parts in zip(policy.parameters, *gradients, strict=True):
            parameter.grad = parts[0]
            for part in parts[1:]:
                parameter.grad = parameter.grad + part
        clip_grad_norm_(policy.parameters, params.max_grad_norm)
        optimizer.step()
        optimizer.zero_grad()
    ends = [parameter.detach().clone() for parameter in policy.parameters]
    denoiser.use_adapter(None)
    return ends


def test_d3po_is_bit_for_bit_the_plain_loop(denoiser: Denoiser, sampled: Sampled, tmp_path: Path) -> None:
    expected = plain_d3po_round(denoiser, sampled.stored, TRAINING)
    manifest = train_round(denoiser, sampled.stored, TRAINING, tmp_path / "c")
    assert manifest.params.algorithm == "d3po"
    trained = [p for name, p in denoiser.module.named_parameters() if "lora_" in name]
    assert len(trained) == len(expected) > 0
    assert all(torch.equal(one, other) for one, other in zip(trained, expected, strict=True))


def test_scores_beside_the_pairs_are_nothing_to_d3po(denoiser: Denoiser, sampled: Sampled, trained: Path, tmp_path: Path) -> None:
    both = [dataclasses.replace(group, scores=scores) for group, scores in zip(sampled.stored, SCORES, strict=True)]
    train_round(denoiser, both, TRAINING, tmp_path / "c")
    assert (tmp_path / "c" / WEIGHTS).read_bytes() == (trained / WEIGHTS).read_bytes()
    assert not (tmp_path / "c" / STATISTICS).exists()


@pytest.mark.parametrize("algorithm", OBJECTIVES)
def test_figures_are_those_of_the_algorithm(
    denoiser: Denoiser, scored: list[TrainingGroup], paired: list[TrainingGroup], tmp_path: Path, algorithm: str
) -> None:
    seen: list[dict[str, float]] = []
    groups = scored if algorithm in FROM_SCORES else paired
    params = params_for(algorithm, groups_per_update=2, timesteps_per_update=4)
    train_round(denoiser, groups, params, tmp_path / "c", observe=lambda k, n, values: seen.append(values))
    always = {"loss", "pair_accuracy", "log_ratio_mean", "log_ratio_std", "kl", "kl_exact", "kl_average"}
    always |= {"grad_norm", "learning_rate", *(name for name in seen[0] if name.startswith("grad_norm_t"))}
    advantages, clip = {"advantage_mean", "advantage_std"}, {"clip_fraction"}
    own = {"d3po": clip, "ddpo": clip | advantages, "dpok": clip | advantages | {"kl_base"}, "sft": set()}
    assert set(seen[0]) == always | own.get(algorithm, {"weight_mean", "weight_std"})
    assert all(math.isfinite(value) for values in seen for value in values.values())
    if "advantage_mean" in seen[0]:  # two new prompts: the statistics of the batch
        assert (seen[0]["advantage_mean"], seen[0]["advantage_std"]) == pytest.approx((0, 1), abs=1e-4)
        assert seen[0]["clip_fraction"] == 0
    if "weight_mean" in seen[0]:
        assert seen[0]["weight_mean"] == pytest.approx(1)
        assert seen[0]["weight_std"] > 0.1


def test_a_group_of_equal_scores_teaches_by_the_others(denoiser: Denoiser, scored: list[TrainingGroup], tmp_path: Path) -> None:
    """All of a group's images above the batch's mean: nothing within it is ordered, and all of it becomes likelier."""
    flat = [dataclasses.replace(scored[0], scores=[9.0, 9.0, 9.0]), scored[1]]
    seen: list[dict[str, float]] = []
    params = params_for("ddpo", epochs=2)
    train_round(denoiser, flat, params, tmp_path / "c", observe=lambda k, n, values: seen.append(values))
    assert {"pair_accuracy" in values for values in seen} == {True, False}
    assert sum(moved(denoiser, flat[0])) > 1e-4


def test_kl_to_the_base_model_is_zero_at_first_and_bounds_dpok(
    denoiser: Denoiser, scored: list[TrainingGroup], tmp_path: Path
) -> None:
    def last_kl(weight: float, **more: Any) -> float:
        seen: list[dict[str, float]] = []
        params = params_for("dpok", kl_weight=weight, epochs=3, **more)
        out = tmp_path / f"{weight} {more}"
        denoiser.use_adapter(None)
        train_round(denoiser, scored, params, out, observe=lambda k, n, values: seen.append(values))
        assert seen[0]["kl_base"] == 0
        return seen[-1]["kl_base"]

    assert last_kl(1e4) < 0.5 * last_kl(0.0)
    full = {"weights": "full", "learning_rate": 1e-3}
    assert last_kl(1e4, **full) < 0.5 * last_kl(0.0, **full)


@pytest.mark.parametrize("weights", ["lora", "full"])
def test_the_base_model_shows_through_whatever_training_started_from(
    denoiser: Denoiser, sampled: Sampled, tmp_path: Path, weights: str
) -> None:
    params = params_for("dpok", weights=weights)
    trajectory = sampled.groups[0].trajectory
    train_round(denoiser, sampled.stored, params, tmp_path / "parent")
    denoiser.use_adapter(None)
    with torch.no_grad():
        base = step_mean(denoiser, trajectory, 2)
        policy = perturbed(new_policy(denoiser, params, tmp_path / "parent", tmp_path / "parent"))
        own = step_mean(denoiser, trajectory, 2)
        with policy.as_base():
            torch.testing.assert_close(step_mean(denoiser, trajectory, 2), base, atol=1e-6, rtol=0)
        assert torch.equal(step_mean(denoiser, trajectory, 2), own)
        assert (own - base).abs().max() > 1e-4
    assert all(parameter.requires_grad for parameter in policy.parameters)


def test_only_dpok_holds_a_second_model_for_full_weights(denoiser: Denoiser) -> None:
    for algorithm in OBJECTIVES:
        policy = new_policy(denoiser, params_for(algorithm, weights="full"), None, None)
        assert isinstance(policy, FullPolicy)
        assert (policy._base is not None) is (algorithm == "dpok")


def second_round(denoiser: Denoiser, folder: Path, parent: Path, scores: list[list[float]]) -> list[TrainingGroup]:
    folder.mkdir()
    denoiser.use_adapter(parent)
    drawn = sample_groups(denoiser, PROMPTS, SAMPLING)
    return [dataclasses.replace(store(g, folder, []), scores=s) for g, s in zip(drawn, scores, strict=True)]


@pytest.mark.parametrize("algorithm", ["ddpo", "dpok"])
def test_a_prompts_scores_are_remembered_from_round_to_round_and_through_a_kill(
    denoiser: Denoiser,
    tiny_model: Path,
    scored: list[TrainingGroup],
    tmp_path: Path,
    saved_at_once: None,
    algorithm: str,
) -> None:
    first = [dataclasses.replace(group, scores=[1.0, 2.0, 3.0]) for group in scored]
    params = params_for(algorithm, groups_per_update=2, timesteps_per_update=1)
    train_round(denoiser, first, params, tmp_path / "one")
    assert read_history(tmp_path / "one") == {prompt: [1.0, 2.0, 3.0] for prompt in PROMPTS}

    # As remembered by more rounds: sixteen scores of the first prompt, three of the second.
    history = {PROMPTS[0]: [0.0, 4.0] * 8, PROMPTS[1]: [1.0, 2.0, 3.0]}
    (tmp_path / "one" / STATISTICS).write_text(json.dumps(history))
    groups = second_round(denoiser, tmp_path / "two-groups", tmp_path / "one", [[5.0, 5.0, 5.0], [5.0, 5.0, 8.0]])
    out, seen = tmp_path / "two", list[dict[str, float]]()

    def kill(update: int, total: int, values: dict[str, float]) -> None:
        seen.append(values)
        if update == 2:
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        train_round(denoiser, groups, params, out, tmp_path / "one", kill)
    restarted = load_denoiser(tiny_model)
    train_round(restarted, groups, params, out, tmp_path / "one", lambda k, n, values: seen.append(values))
    assert len(seen) == 4
    train_round(denoiser, groups, params, tmp_path / "whole", tmp_path / "one")
    for name in (WEIGHTS, STATISTICS, "manifest.json"):
        assert (out / name).read_bytes() == (tmp_path / "whole" / name).read_bytes()

    latest = [*([0.0, 4.0] * 8)[3:], 5.0, 5.0, 5.0]  # of the first prompt, which has enough; the second takes the batch's
    assert read_history(out) == {PROMPTS[0]: latest, PROMPTS[1]: [1.0, 2.0, 3.0, 5.0, 5.0, 8.0]}
    mean = sum(latest) / 16
    deviation = math.sqrt(sum((score - mean) ** 2 for score in latest) / 16)
    batch = math.sqrt(sum((score - 5.5) ** 2 for score in (5, 5, 5, 5, 5, 8)) / 6)
    advantages = [(5 - mean) / (deviation + TINY)] * 3 + [(s - 5.5) / (batch + TINY) for s in (5, 5, 8)]
    assert seen[0]["advantage_mean"] == pytest.approx(sum(advantages) / 6, rel=1e-4)


def test_scores_that_are_all_the_same_are_nothing_to_learn_from(
    denoiser: Denoiser, scored: list[TrainingGroup], tmp_path: Path
) -> None:
    constant = [dataclasses.replace(group, scores=[0.1, 0.1, 0.1]) for group in scored]
    for algorithm in FROM_SCORES:
        with pytest.raises(NoPairs, match=r"All 6 images have the same score, 0\.1, so there is nothing to learn"):
            train_round(denoiser, constant, params_for(algorithm), tmp_path / algorithm)
    train_round(denoiser, scored, params_for("ddpo"), tmp_path / "one")
    better = second_round(denoiser, tmp_path / "groups", tmp_path / "one", [[9.0] * 3, [9.0] * 3])
    history = {prompt: [8.0] * 16 for prompt in PROMPTS}
    (tmp_path / "one" / STATISTICS).write_text(json.dumps(history))
    assert train_round(denoiser, better, params_for("ddpo"), tmp_path / "two", tmp_path / "one").updates == 4


@pytest.mark.parametrize("algorithm", OBJECTIVES)
def test_nothing_known_of_any_image_is_nothing_to_learn_from(
    denoiser: Denoiser, sampled: Sampled, scored: list[TrainingGroup], tmp_path: Path, algorithm: str
) -> None:
    unknown = [dataclasses.replace(group, pairs=()) for group in sampled.stored]
    with pytest.raises(NoPairs, match=r"None of the groups has (a pair|scores, or a pair).*: every vote was a tie"):
        train_round(denoiser, unknown, params_for(algorithm), tmp_path / "c")
    if algorithm not in FROM_SCORES:
        with pytest.raises(NoPairs, match="None of the groups has a pair to learn from"):
            train_round(denoiser, scored, params_for(algorithm), tmp_path / "c")


@pytest.mark.parametrize(
    ("scores", "said"),
    [
        ([1.0, math.nan, 2.0], r"The score of image 1 of .*1\.safetensors is nan; scores are finite numbers"),
        ([math.inf, 0.0, 2.0], r"The score of image 0 of .*1\.safetensors is inf"),
        ([1.0, 2.0], r"There are 2 scores for .*1\.safetensors, which holds 3 images"),
        ([], r"There are 0 scores for .*1\.safetensors"),
    ],
)
def test_scores_that_are_no_numbers_of_the_images_are_refused_before_training(
    denoiser: Denoiser, scored: list[TrainingGroup], tmp_path: Path, scores: list[float], said: str
) -> None:
    seen: list[int] = []
    broken = [scored[0], dataclasses.replace(scored[1], scores=scores)]
    with pytest.raises(BadReward, match=said):
        train_round(denoiser, broken, params_for("ddpo"), tmp_path / "c", observe=lambda k, n, values: seen.append(k))
    assert seen == []


def test_other_scores_are_another_round(
    denoiser: Denoiser, scored: list[TrainingGroup], tmp_path: Path, saved_at_once: None
) -> None:
    def kill(update: int, total: int, values: dict[str, float]) -> None:
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        train_round(denoiser, scored, params_for("rwr"), tmp_path / "c", observe=kill)
    other = [scored[0], dataclasses.replace(scored[1], scores=[5.0, 2.0, 4.0])]
    with pytest.raises(round_state.BadState, match="other parameters, votes or groups"):
        train_round(denoiser, other, params_for("rwr"), tmp_path / "c")


def test_only_d3po_takes_another_reference(
    denoiser: Denoiser, scored: list[TrainingGroup], trained: Path, tmp_path: Path
) -> None:
    for algorithm in set(OBJECTIVES) - {"d3po"}:
        with pytest.raises(ValueError, match=f"{algorithm} compares with the policy that sampled, so set reference to sampler"):
            params_for(algorithm, reference="base")
    with pytest.raises(BadParams, match="only d3po takes another reference"):
        train_round(denoiser, scored, params_for("ddpo"), tmp_path / "c", reference=trained)


def test_damaged_statistics_are_named(denoiser: Denoiser, scored: list[TrainingGroup], tmp_path: Path) -> None:
    train_round(denoiser, scored, params_for("ddpo"), tmp_path / "one")
    for content in (b"", b'{"a": [1, NaN]}', b'{"a": 3}', b"\xff"):
        (tmp_path / "one" / STATISTICS).write_bytes(content)
        with pytest.raises(ModelMissing, match=rf"{STATISTICS}, the latest scores of each prompt, was damaged"):
            read_history(tmp_path / "one")
    assert read_history(None) == read_history(tmp_path) == {}


def test_in_half_precision_ratios_start_at_exactly_one(tiny_model: Path, tmp_path: Path) -> None:
    """Rounding of bfloat16 is larger than DDPO's published clip, so the log-probabilities are computed anew."""
    half = load_denoiser(tiny_model, dtype="bfloat16")
    drawn = list(sample_groups(half, PROMPTS, SAMPLING))
    groups = [dataclasses.replace(store(g, tmp_path, []), scores=s) for g, s in zip(drawn, SCORES, strict=True)]
    trajectory = drawn[0].trajectory
    altered = dataclasses.replace(trajectory, log_probs=trajectory.log_probs + 1e-3)  # what rounding may do
    groups[0] = TrainingGroup(tmp_path / "altered", altered.save(tmp_path / "altered"), scores=SCORES[0])
    seen: list[dict[str, float]] = []
    params = TrainingParams.model_validate(TRAINING.model_dump() | {"algorithm": "ddpo", "groups_per_update": 2})
    train_round(half, groups, params, tmp_path / "c", observe=lambda k, n, values: seen.append(values))
    assert (seen[0]["clip_fraction"], seen[0]["log_ratio_mean"], seen[0]["log_ratio_std"]) == (0, 0, 0)
    assert any(values["clip_fraction"] > 0 for values in seen[1:])


@pytest.mark.parametrize("algorithm", ["ddpo", "dpok"])
def test_full_weights_learn_from_scores_too(
    denoiser: Denoiser, scored: list[TrainingGroup], tmp_path: Path, algorithm: str
) -> None:
    params = params_for(algorithm, weights="full", learning_rate=1e-4, epochs=2)
    train_round(denoiser, scored, params, tmp_path / "c")
    assert load_file(tmp_path / "c" / FULL_WEIGHTS)
    for group, best in zip(scored, BEST, strict=True):
        assert moved(denoiser, group)[best] > 1e-4


@pytest.mark.parametrize(("algorithm", "passes"), [("d3po", 0), ("ddpo", 0), ("dpok", 1), ("rwr", 0), ("sft", 0)])
def test_only_dpok_evaluates_the_base_model(
    denoiser: Denoiser, sampled: Sampled, monkeypatch: pytest.MonkeyPatch, algorithm: str, passes: int
) -> None:
    """One pass of the policy an item, and for DPOK one of the base model, which no gradient goes through."""
    params = params_for(algorithm)
    learner = Learner(LoraPolicy(denoiser, params, None), sampled.stored, params, Accelerator(cpu=True))
    if OBJECTIVES[algorithm].value:
        learner.values = [[1.0, 0.0, -1.0]] * 2
    predict: Callable[..., Tensor] = denoiser.predict
    with_gradient: list[bool] = []

    def counted(*arguments: Any) -> Tensor:
        with_gradient.append(torch.is_grad_enabled())
        return predict(*arguments)

    monkeypatch.setattr(denoiser, "predict", counted)
    update = next(visited(Plan([(0, 1, 2, 3)] * 2, params), sampled.stored))
    learner.learn(update, number=1)  # without the exact KL to the reference, which every tenth update has
    assert with_gradient.count(True) == update.items
    assert with_gradient.count(False) == passes * update.items
