"""One D3PO training round on recorded trajectories: the visible loop, on accelerate.

Each image is evaluated once a timestep, all pairs come from N log-ratios, and the reference's log-probabilities are the
stored ones: no reference pass and no second model.
"""

from __future__ import annotations

import math
import os
import random
import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from accelerate import Accelerator
from torch import Tensor

from d3po_core.checkpoint import Manifest, read_manifest, save_checkpoint
from d3po_core.denoisers import Denoiser
from d3po_core.errors import BadPreference, BadTrajectory, NoPairs, NotFinite
from d3po_core.losses import d3po_loss, kl_estimate, pair_accuracy
from d3po_core.params import TrainingParams
from d3po_core.policy import LoraPolicy
from d3po_core.preferences import Pair
from d3po_core.trajectory import Trajectory
from d3po_core.transitions import log_prob

ObserveUpdate = Callable[[int, int, dict[str, float]], None]
RATIO_TOLERANCE = 1e-3
KL_MEMORY = 0.9
SAVE_EVERY_SECONDS = 20


@dataclass(frozen=True)
class TrainingGroup:
    """A stored trajectory and the pairs that its votes left."""

    path: Path
    sha256: str | None
    pairs: Sequence[Pair]


def train_round(
    denoiser: Denoiser,
    groups: Sequence[TrainingGroup],
    params: TrainingParams,
    out: Path,
    parent: Path | None = None,
    observe: ObserveUpdate = lambda step, total, values: None,
) -> Manifest:
    """Train a LoRA on the groups' pairs and write the checkpoint folder `out`.

    `parent` is the adapter that sampled every group (None: the base model); training starts from it and it is the
    reference. `observe(update, updates, values)` follows every optimizer step. The round ends early once the running
    average of the KL estimate exceeds `params.max_kl`, so that it moves only so far from what people saw. A killed
    round called again with the same arguments continues from its last saved state. Raises NoPairs, BadPreference,
    BadTrajectory or NotFinite.
    """
    if finished := read_manifest(out):
        return finished
    useful = [group for group in groups if group.pairs]
    if not useful:
        raise NoPairs("None of the groups has a pair to learn from: every vote was a tie, all bad or a skip, or they cancel out.")
    policy = LoraPolicy(denoiser, params, parent)
    for group in useful:
        check_sampled_by(policy, group)
    check_ratio_is_one(policy, useful[0])
    accelerator = Accelerator(cpu=denoiser.device.type == "cpu")
    optimizer = torch.optim.AdamW(policy.parameters, lr=params.learning_rate, weight_decay=params.weight_decay)
    denoiser.network, optimizer = accelerator.prepare(denoiser.module, optimizer)
    state = ResumableState(out.with_name(out.name + ".state"), policy, optimizer)
    plan = list(plan_updates(useful, params))
    for update, (group, pick) in enumerate(plan):
        if update < state.updates:
            continue
        if state.values.get("kl_average", 0.0) > params.max_kl:
            break
        values = one_update(denoiser, policy, optimizer, accelerator, group, pick, params)
        values["kl_average"] = KL_MEMORY * state.values.get("kl_average", 0.0) + (1 - KL_MEMORY) * values["kl"]
        state.advance(update + 1, values)
        observe(update + 1, len(plan), values)
    manifest = save_checkpoint(
        policy,
        out,
        parent=policy.reference,
        params=params,
        groups=len(useful),
        pairs=sum(len(group.pairs) for group in useful),
        updates=state.updates,
        final=state.values,
    )
    denoiser.policy = manifest.weights
    state.path.unlink(missing_ok=True)
    return manifest


def plan_updates(groups: Sequence[TrainingGroup], params: TrainingParams) -> Iterator[tuple[TrainingGroup, list[int]]]:
    """The order of the whole round, from the seed alone: groups shuffled every epoch, one timestep permutation a group.

    Yields a group and which of its trainable steps to take, `timesteps_per_update` at a time.
    """
    for epoch in range(params.epochs):
        order = random.Random(f"{params.seed} {epoch}").sample(range(len(groups)), len(groups))
        for index in order:
            count = len(Trajectory.load(groups[index].path).trainable_steps)
            noisiest = max(1, round(params.timestep_fraction * count))
            steps = random.Random(f"{params.seed} {epoch} {index}").sample(range(noisiest), noisiest)
            for start in range(0, noisiest, params.timesteps_per_update):
                yield groups[index], steps[start : start + params.timesteps_per_update]


def one_update(
    denoiser: Denoiser,
    policy: LoraPolicy,
    optimizer: Any,
    accelerator: Accelerator,
    group: TrainingGroup,
    pick: list[int],
    params: TrainingParams,
) -> dict[str, float]:
    """One optimizer step on some timesteps of one group; returns what was seen on the way."""
    trajectory = Trajectory.load(group.path)
    chosen, rejected, weights = pair_tensors(group, trajectory, denoiser.device)
    steps = [trajectory.trainable_steps[k] for k in pick]
    ratios = log_ratios(denoiser, trajectory, steps)
    loss = d3po_loss(ratios, chosen, rejected, weights, params.beta, params.clip)
    accelerator.backward(loss)
    norm = accelerator.clip_grad_norm_(policy.parameters, params.max_grad_norm)
    if not torch.isfinite(norm):
        raise NotFinite(
            f"The gradient became NaN or infinite on {group.path.name}; the checkpoint before this round is unharmed."
        )
    optimizer.step()
    optimizer.zero_grad(set_to_none=True)
    seen = ratios.detach()
    clipped = (seen < math.log1p(-params.clip)) | (seen > math.log1p(params.clip))
    return {
        "loss": loss.item(),
        "pair_accuracy": pair_accuracy(seen, chosen, rejected).item(),
        "log_ratio_mean": seen.mean().item(),
        "log_ratio_std": seen.std().item(),
        "clip_fraction": clipped.float().mean().item(),
        "kl": kl_estimate(seen).item(),
        "grad_norm": norm.item(),
    }


def log_ratios(denoiser: Denoiser, trajectory: Trajectory, steps: list[int]) -> Tensor:
    """l_theta - l_ref of every image at the given steps, in one batch. Returns float32 [K,N]."""
    header, device = trajectory.header, denoiser.device
    transition = denoiser.transition(header.params)
    count = trajectory.latents.shape[0]
    latents = torch.cat([trajectory.latents[:, k] for k in steps]).to(device)
    next_latents = torch.cat([trajectory.latents[:, k + 1] for k in steps]).to(device)
    taken = [header.steps[k] for k in steps for _ in range(count)]
    timesteps = torch.tensor([step.timestep for step in taken], device=device)
    conditioning = trajectory.conditioning.to(device).expand(len(taken))
    output = denoiser.predict(latents, timesteps, conditioning, header.params.guidance_scale)
    mean = transition.mean(output, latents, taken)
    reference = trajectory.log_probs[:, steps].T.to(device)
    return log_prob(next_latents, mean, taken).view(len(steps), count) - reference


def check_sampled_by(policy: LoraPolicy, group: TrainingGroup) -> None:
    """Refuse a group that this round cannot learn from, before anything is trained.

    Raises BadTrajectory if the file was altered, or if the model, the adapter or the scheduler is not the one that
    sampled it; BadPreference if a pair names an image that it does not hold.
    """
    trajectory, denoiser = Trajectory.load(group.path, group.sha256), policy.denoiser
    pair_tensors(group, trajectory, denoiser.device)
    header = trajectory.header
    here = tuple(denoiser.transition(header.params).steps)
    sampled = {"base model": header.model, "adapter": header.policy, "scheduler": header.steps}
    loaded = {"base model": denoiser.model, "adapter": policy.reference, "scheduler": here}
    for name, recorded in sampled.items():
        if recorded != loaded[name]:
            raise BadTrajectory(
                f"{group.path} was sampled with another {name} than the one loaded; this round cannot learn from it."
            )


@torch.no_grad()
def check_ratio_is_one(policy: LoraPolicy, group: TrainingGroup) -> None:
    """Prove |l_theta - l_ref| <= RATIO_TOLERANCE at theta = reference on one group. Raises BadTrajectory if it is not."""
    trajectory = Trajectory.load(group.path)
    worst = max(log_ratios(policy.denoiser, trajectory, [k]).abs().max().item() for k in trajectory.trainable_steps)
    if worst > RATIO_TOLERANCE:
        raise BadTrajectory(
            f"Recomputing {group.path} with the sampling policy gives log-probabilities that differ by {worst:.1e} "
            f"(allowed {RATIO_TOLERANCE:.0e}); the number format or the library versions changed since it was sampled."
        )


def pair_tensors(group: TrainingGroup, trajectory: Trajectory, device: torch.device) -> tuple[Tensor, Tensor, Tensor]:
    """chosen int64 [P], rejected int64 [P], weights float32 [P]. Raises BadPreference for an image that is not there."""
    count = trajectory.latents.shape[0]
    for pair in group.pairs:
        if not (0 <= pair.chosen < count and 0 <= pair.rejected < count):
            raise BadPreference(
                f"A preference names image {max(pair.chosen, pair.rejected)} of {group.path}, which holds {count} images."
            )
    chosen = torch.tensor([pair.chosen for pair in group.pairs], device=device)
    rejected = torch.tensor([pair.rejected for pair in group.pairs], device=device)
    return chosen, rejected, torch.tensor([pair.weight for pair in group.pairs], device=device)


class ResumableState:
    """Adapter weights, optimizer state and last figures after so many updates, saved every SAVE_EVERY_SECONDS.

    All randomness of a round comes from its seed and the update's place in the plan, so nothing else needs saving.
    """

    def __init__(self, path: Path, policy: LoraPolicy, optimizer: Any) -> None:
        self.path, self.policy, self.optimizer = path, policy, optimizer
        self.updates, self.values, self._saved = 0, dict[str, float](), time.monotonic()
        path.parent.mkdir(parents=True, exist_ok=True)
        if path.exists():
            state = torch.load(path, weights_only=True)
            for parameter, value in zip(policy.parameters, state["parameters"], strict=True):
                parameter.data.copy_(value)
            optimizer.load_state_dict(state["optimizer"])
            self.updates, self.values = state["updates"], state["values"]

    def advance(self, updates: int, values: dict[str, float]) -> None:
        self.updates, self.values = updates, values
        if time.monotonic() - self._saved > SAVE_EVERY_SECONDS:
            self.save()
            self._saved = time.monotonic()

    def save(self) -> None:
        parameters = [p.detach().cpu() for p in self.policy.parameters]
        state = {
            "parameters": parameters,
            "optimizer": self.optimizer.state_dict(),
            "updates": self.updates,
            "values": self.values,
        }
        temporary = self.path.with_suffix(".part")
        with temporary.open("wb") as file:
            torch.save(state, file)
            file.flush()
            os.fsync(file.fileno())
        os.replace(temporary, self.path)
