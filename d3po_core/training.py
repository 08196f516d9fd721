"""One D3PO training round on recorded trajectories: the visible loop, on any number of processes.

Each image is evaluated once a timestep, all pairs come from N log-ratios, and the reference's log-probabilities are the
stored ones: no reference pass and no second model.
"""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Sequence
from pathlib import Path

import torch
from accelerate import Accelerator
from accelerate.utils import gather_object
from torch import Tensor
from torch.nn.utils import clip_grad_norm_, get_total_norm

from d3po_core.checkpoint import Manifest, read_manifest, save_checkpoint
from d3po_core.denoisers import Denoiser
from d3po_core.errors import BadPreference, BadTrajectory, NoPairs, NotFinite
from d3po_core.figures import Row, figures, row_of
from d3po_core.losses import d3po_loss
from d3po_core.params import TrainingParams
from d3po_core.plan import Plan, TrainingGroup, Update, Visit, visited
from d3po_core.policy import LoraPolicy
from d3po_core.ratios import autocast, check_ratio_is_one, log_ratios
from d3po_core.round_state import Ema, RoundState
from d3po_core.trajectory import Trajectory

ObserveUpdate = Callable[[int, int, dict[str, float]], None]
KL_MEMORY = 0.9


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
    reference. `observe(update, updates, values)` follows every optimizer step, on the main process. The round ends early
    once the running average of the KL estimate exceeds `params.max_kl`, so that it moves only so far from what people saw.

    A killed round called again with the same arguments continues from its last saved state. Under `accelerate launch` every
    process makes this call with the same arguments and computes its share of each update; all end with the same weights,
    those that one process reaches. Raises NoPairs, BadPreference, BadTrajectory, BadState or NotFinite.
    """
    if finished := read_manifest(out):
        return finished
    useful = [group for group in groups if group.pairs]
    if not useful:
        raise NoPairs("None of the groups has a pair to learn from: every vote was a tie, all bad or a skip, or they cancel out.")
    processes = Accelerator(cpu=denoiser.device.type == "cpu")
    policy = LoraPolicy(denoiser, params, parent)
    plan = Plan([check_sampled_by(policy, group) for group in useful], params)
    check_ratio_is_one(denoiser, useful[0], params)
    learner = Learner(policy, useful, params, processes)
    identity = identity_of(useful, params, policy.reference)
    state = RoundState(
        out.with_name(out.name + ".state"), identity, learner.parameters, learner.optimizer, learner.ema, learner.scaler
    )
    total = len(plan)
    for update in visited(plan, useful, state.updates, processes.process_index, processes.num_processes):
        if state.values.get("kl_average", 0.0) > params.max_kl:
            break
        values = learner.learn(update)
        learner.ema.update(state.updates)
        values["kl_average"] = KL_MEMORY * state.values.get("kl_average", 0.0) + (1 - KL_MEMORY) * values["kl"]
        state.advance(state.updates + 1, values, keeper=processes.is_main_process)
        if processes.is_main_process:
            observe(state.updates, total, values)
    learner.ema.apply()
    check_finite(policy)
    if processes.is_main_process:
        save_checkpoint(
            policy,
            out,
            parent=policy.reference,
            params=params,
            groups=len(useful),
            pairs=sum(len(group.pairs) for group in useful),
            updates=state.updates,
            final=state.values,
        )
        state.path.unlink(missing_ok=True)
    processes.wait_for_everyone()
    manifest = read_manifest(out)
    assert manifest is not None
    denoiser.policy = manifest.weights
    return manifest


class Learner:
    """One optimizer step after another, on this process's share of each update.

    Gradients are summed over the processes explicitly rather than by a wrapped module: a share may be empty, and the norm of
    a single timestep's gradient is read before the sum.
    """

    def __init__(
        self, policy: LoraPolicy, groups: Sequence[TrainingGroup], params: TrainingParams, processes: Accelerator
    ) -> None:
        self.denoiser, self.groups, self.params, self.processes = policy.denoiser, groups, params, processes
        self.parameters = policy.parameters
        self.optimizer = torch.optim.AdamW(
            self.parameters, lr=params.learning_rate, eps=params.adam_epsilon, weight_decay=params.weight_decay
        )
        self.ema = Ema(self.parameters, params.ema_decay)
        self.scaler = torch.amp.GradScaler(self.denoiser.device.type, enabled=params.mixed_precision == "fp16")

    def learn(self, update: Update) -> dict[str, float]:
        """One optimizer step on the mean loss of an update's items; returns what was seen on the way.

        Raises NotFinite, with the weights as they were, if the gradient is not finite.
        """
        rows = [self.add_gradient(visit, 1 / update.items) for visit in update.visits]
        self.sum_over_processes()
        self.scaler.unscale_(self.optimizer)
        norm = clip_grad_norm_(self.parameters, self.params.max_grad_norm)
        if not torch.isfinite(norm) and not self.scaler.is_enabled():
            names = ", ".join(self.groups[visit.item.group].path.name for visit in update.visits)
            raise NotFinite(f"The gradient became NaN or infinite on {names}; the checkpoint before this round is unharmed.")
        self.scaler.step(self.optimizer)
        self.scaler.update()
        self.optimizer.zero_grad(set_to_none=True)
        return {**figures(gather_object(rows)), "grad_norm": norm.item()}

    def add_gradient(self, visit: Visit, share: float) -> Row:
        """Add `share` of the gradient of an item's loss to the parameters' gradients; returns the item's figures."""
        trajectory, params = visit.trajectory, self.params
        chosen, rejected, weights = pair_tensors(self.groups[visit.item.group], trajectory, self.denoiser.device)
        before = [parameter.grad for parameter in self.parameters]
        self.optimizer.zero_grad(set_to_none=True)
        with autocast(self.denoiser, params):
            ratios = log_ratios(self.denoiser, trajectory, visit.item.step)
        loss = d3po_loss(ratios[None], chosen, rejected, weights, params.beta, params.clip)
        self.scaler.scale(loss).backward()
        gradients = [parameter.grad for parameter in self.parameters if parameter.grad is not None]
        norm = get_total_norm(gradients) / self.scaler.get_scale()
        torch._foreach_mul_(gradients, share)
        for parameter, held in zip(self.parameters, before, strict=True):
            if held is not None:
                parameter.grad = held if parameter.grad is None else held.add_(parameter.grad)
        timestep = trajectory.header.steps[visit.item.step].timestep
        return row_of(timestep, ratios.detach(), loss, norm, chosen, rejected, params.clip)

    def sum_over_processes(self) -> None:
        """Give every process the sum of all gradients, in the same bits."""
        if self.processes.num_processes > 1:
            for parameter in self.parameters:
                mine = torch.zeros_like(parameter) if parameter.grad is None else parameter.grad
                parameter.grad = self.processes.reduce(mine, "sum")


def check_finite(policy: LoraPolicy) -> None:
    """Raises NotFinite rather than let a checkpoint be written that can only draw NaN."""
    if not all(bool(torch.isfinite(parameter).all()) for parameter in policy.parameters):
        raise NotFinite(
            "Training made the weights NaN or infinite, so no checkpoint was written and the one before this round is unharmed; "
            "launch a round with a lower learning_rate or weight_decay."
        )


def check_sampled_by(policy: LoraPolicy, group: TrainingGroup) -> tuple[int, ...]:
    """Refuse a group that this round cannot learn from, before anything is trained; returns its trainable steps.

    Raises BadTrajectory if the file was altered, or if the model, the adapter, the scheduler or the number format is not
    the one that sampled it; BadPreference if a pair names an image that it does not hold.
    """
    trajectory, denoiser = Trajectory.load(group.path, group.sha256), policy.denoiser
    pair_tensors(group, trajectory, denoiser.device)
    header = trajectory.header
    here = tuple(denoiser.transition(header.params).steps)
    stored = str(trajectory.latents.dtype).removeprefix("torch.")
    dtype = str(denoiser.dtype).removeprefix("torch.")
    sampled = {"base model": header.model, "adapter": header.policy, "scheduler": header.steps, "dtype": (header.dtype, stored)}
    loaded = {"base model": denoiser.model, "adapter": policy.reference, "scheduler": here, "dtype": (dtype, dtype)}
    for name, recorded in sampled.items():
        if recorded != loaded[name]:
            raise BadTrajectory(
                f"{group.path} was sampled with another {name} than the one loaded; this round cannot learn from it."
            )
    return tuple(trajectory.trainable_steps)


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


def identity_of(groups: Sequence[TrainingGroup], params: TrainingParams, reference: str) -> str:
    """SHA-256 of what a round is: its parameters, its reference, its groups in order and their pairs."""
    digest = hashlib.sha256(f"{params.model_dump_json()} {reference}".encode())
    for group in groups:
        digest.update(f"{group.path.name} {group.sha256} {list(group.pairs)}\n".encode())
    return digest.hexdigest()
