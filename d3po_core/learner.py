"""One optimizer step after another: gradients of this process's share of an update, and the reference they are held against."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from importlib import import_module
from typing import Any

import torch
from accelerate import Accelerator
from accelerate.utils import gather_object
from torch import Tensor
from torch.nn.utils import clip_grad_norm_, get_total_norm

from d3po_core.denoisers import Denoiser
from d3po_core.errors import LibraryMissing, NotFinite
from d3po_core.figures import Seen, figures, rows_of, seen_of, spread
from d3po_core.losses import gaussian_kl, gaussian_kl_each, kl_estimate
from d3po_core.objectives import OBJECTIVES, known_of
from d3po_core.params import TrainingParams
from d3po_core.plan import TrainingGroup, Update, Visit, trained_steps
from d3po_core.policy import LoraPolicy, Policy
from d3po_core.ratios import all_log_probs, autocast, log_prob_at, step_mean
from d3po_core.round_state import Ema
from d3po_core.schedules import learning_rate_at, step_weights
from d3po_core.trajectory import Trajectory
from d3po_core.transfer import to_device

EXACT_KL_EVERY = 10
"""Updates; of these it is computed for the first item of each process."""


class Learner:
    """One optimizer step after another, on this process's share of each update.

    Gradients are summed over the processes explicitly rather than by a wrapped module: a share may be empty, and the norm of
    a single timestep's gradient is read before the sum.
    """

    def __init__(
        self,
        policy: Policy,
        groups: Sequence[TrainingGroup],
        params: TrainingParams,
        processes: Accelerator,
        references: Reference | None = None,
        sampler: Reference | None = None,
        values: Sequence[Sequence[float]] | None = None,
    ) -> None:
        """references, sampler: log-probabilities of the reference and of the policy that sampled; None: the stored ones.
        values: `objectives.values_of` the groups, where the algorithm learns from scores."""
        self.policy, self.denoiser, self.groups, self.params = policy, policy.denoiser, groups, params
        self.objective = OBJECTIVES[params.algorithm]
        self.values = values or [[] for _ in groups]
        self.processes, self.references, self.sampler = processes, references, sampler
        self.parameters = policy.parameters
        self.optimizer = new_optimizer(self.parameters, params)
        if params.gradient_checkpointing:
            self.denoiser.module.enable_gradient_checkpointing()
        self.ema = Ema(self.parameters, params.ema_decay)
        self.scaler = torch.amp.GradScaler(self.denoiser.device.type, enabled=params.mixed_precision == "fp16")

    def learn(self, update: Update, number: int = 0, updates: int = 1) -> dict[str, float]:
        """Update `number` of `updates`: an optimizer step on the mean loss of its items; returns what was seen on the way.

        Raises NotFinite, with the weights as they were, if the gradient is not finite.
        """
        exact = number % EXACT_KL_EVERY == 0
        seen = [self.add_gradient(visit, 1 / update.items, exact and k == 0) for k, visit in enumerate(update.visits)]
        self.sum_over_processes()
        self.scaler.unscale_(self.optimizer)
        norm = clip_grad_norm_(self.parameters, self.params.max_grad_norm)
        if not torch.isfinite(norm) and not self.scaler.is_enabled():
            names = ", ".join(sorted({self.groups[visit.item.group].path.name for visit in update.visits}))
            raise NotFinite(f"The gradient became NaN or infinite on {names}; the checkpoint before this round is unharmed.")
        rate = learning_rate_at(self.params, number, updates)
        for group in self.optimizer.param_groups:
            group["lr"] = rate
        self.scaler.step(self.optimizer)
        self.scaler.update()
        self.optimizer.zero_grad(set_to_none=True)
        return {**figures(gather_object(rows_of(seen))), "grad_norm": norm.item(), "learning_rate": rate}

    def add_gradient(self, visit: Visit, share: float, exact: bool) -> Seen:
        """Add `share` of the gradient of an item's weighted loss to the parameters' gradients; returns the item's figures.

        exact: with the exact KL among them, at the price of a forward pass of the reference.
        """
        trajectory, step, params = visit.trajectory, visit.item.step, self.params
        group = self.groups[visit.item.group]
        known = known_of(group, self.values[visit.item.group], self.denoiser.device)
        reference = self.log_probs_of(self.references, visit)
        held = [parameter.grad for parameter in self.parameters]
        self.optimizer.zero_grad(set_to_none=True)
        weight = self.weight_of(trajectory, step) * group.weight

        def loss_of(ratios: Tensor, *kl: Tensor) -> Tensor:
            return weight * self.objective.loss(params, known, ratios[None], *kl)

        mean, ratios, kl, loss = self.backward(trajectory, step, reference, loss_of)
        norm = self.gradient_norm() / self.scaler.get_scale()
        self.join(held, share)
        taken = trajectory.header.steps[step]
        clip = self.objective.clip and self.objective.clip(params)
        seen = seen_of(taken.timestep, ratios, loss / weight, norm, known.chosen, known.rejected, clip)
        if self.objective.value:
            seen.values.update(spread(self.objective.value, known.values))
        if kl is not None:
            seen.values["kl_base"] = kl.mean()
        if self.references is not self.sampler:
            seen.values["kl_sampler"] = kl_estimate(ratios + reference - self.log_probs_of(self.sampler, visit))
        if exact and isinstance(self.policy, LoraPolicy):
            with torch.no_grad(), autocast(self.denoiser, params), self.policy.as_reference():
                seen.values["kl_exact"] = gaussian_kl(mean, step_mean(self.denoiser, trajectory, step), taken.sigma)
        return seen

    def backward(
        self, trajectory: Trajectory, step: int, reference: Tensor, loss_of: Callable[..., Tensor]
    ) -> tuple[Tensor, Tensor, Tensor | None, Tensor]:
        """Back-propagate loss_of(log-ratios), or of log-ratios and KLs where the objective has a KL to the base model.

        Returns mu [N or 1,C,H,W], the log-ratios float32 [N], the exact KL of each image to the base model float32 [N] if it
        is in the objective, and the loss, detached. With `images_per_backward` what the loss is made of comes without a graph
        first, and its derivatives are then carried through the model image by image (gradient cache): the same gradient, the
        memory of a few images, one more forward pass.
        """
        count, at_once = len(reference), self.params.images_per_backward or len(reference)
        base = self.base_mean(trajectory, step, count) if self.objective.kl_to_base else None
        sigma = trajectory.header.steps[step].sigma

        def forward(images: slice) -> tuple[Tensor, list[Tensor]]:
            with autocast(self.denoiser, self.params):
                mean = step_mean(self.denoiser, trajectory, step, images)
                ratios = log_prob_at(mean, trajectory, step, images) - reference[images]
                return mean, [ratios] if base is None else [ratios, gaussian_kl_each(mean, base[images], sigma)]

        if at_once >= count:
            mean, of = forward(slice(None))
            loss = loss_of(*of)
            self.scaler.scale(loss).backward()
        else:
            parts = [slice(first, first + at_once) for first in range(0, count, at_once)]
            with torch.no_grad():
                means, seen = zip(*(forward(part) for part in parts), strict=True)
            mean, of = torch.cat(means), [torch.cat(column).requires_grad_() for column in zip(*seen, strict=True)]
            loss = loss_of(*of)
            slopes = torch.autograd.grad(loss, of)
            for part in parts:
                carried = [(one * slope[part]).sum() for one, slope in zip(forward(part)[1], slopes, strict=True)]
                self.scaler.scale(torch.stack(carried).sum()).backward()
        return mean.detach(), of[0].detach(), of[1].detach() if base is not None else None, loss.detach()

    @torch.no_grad()
    def base_mean(self, trajectory: Trajectory, step: int, images: int) -> Tensor:
        """mu of the latents after a step under the base model, float32 [images,C,H,W]: one pass without gradient."""
        with autocast(self.denoiser, self.params), self.policy.as_base():
            mean = step_mean(self.denoiser, trajectory, step)
        return mean.expand(images, -1, -1, -1)

    @torch.no_grad()
    def join(self, held: list[Tensor | None], share: float) -> None:
        """The gradients become `share` of themselves plus those that were held before."""
        torch._foreach_mul_([p.grad for p in self.parameters if p.grad is not None], share)
        both = [(p, before) for p, before in zip(self.parameters, held, strict=True) if before is not None]
        fresh = [(before, p.grad) for p, before in both if p.grad is not None]
        if fresh:
            torch._foreach_add_([before for before, _ in fresh], [grad for _, grad in fresh])
        for parameter, before in both:
            parameter.grad = before

    def log_probs_of(self, policy: Reference | None, visit: Visit) -> Tensor:
        """Of the visit's images at its step under `policy`; None: the one that sampled. Float32 [N]."""
        known = visit.trajectory.log_probs if policy is None else policy.log_probs[visit.item.group]
        return to_device(known[:, visit.item.step], self.denoiser.device)

    def weight_of(self, trajectory: Trajectory, step: int) -> float:
        """The step's weight, 1 on average over the steps that are trained."""
        steps = [trajectory.header.steps[k] for k in trained_steps(trajectory.trainable_steps, self.params)]
        weights = step_weights(self.denoiser.transition(trajectory.header.params), steps, self.params.step_weighting)
        return weights[steps.index(trajectory.header.steps[step])]

    def gradient_norm(self) -> Tensor:
        return get_total_norm([parameter.grad for parameter in self.parameters if parameter.grad is not None])

    def sum_over_processes(self) -> None:
        """Give every process the sum of all gradients, in the same bits."""
        if self.processes.num_processes > 1:
            for parameter in self.parameters:
                mine = torch.zeros_like(parameter) if parameter.grad is None else parameter.grad
                parameter.grad = self.processes.reduce(mine, "sum")

    def end(self) -> None:
        """Leave the network as sampling wants it."""
        self.optimizer.zero_grad(set_to_none=True)
        if self.params.gradient_checkpointing:
            self.denoiser.module.disable_gradient_checkpointing()


class Reference:
    """Log-probabilities of what the denoiser carries now, float32 [N,T] a group, computed once before the round.

    That is another policy than the one that sampled, or the same one where the stored log-probabilities are not precise enough:
    with mixed precision, or when rounding is not small against the clip. Each process computes those of some groups; all hold
    all of them.
    """

    def __init__(
        self, denoiser: Denoiser, groups: Sequence[TrainingGroup], params: TrainingParams, processes: Accelerator
    ) -> None:
        self.policy = denoiser.policy
        mine = range(processes.process_index, len(groups), processes.num_processes)
        computed = [(k, all_log_probs(denoiser, Trajectory.load(groups[k].path), params)) for k in mine]
        self.log_probs: dict[int, Tensor] = dict(gather_object(computed))


def new_optimizer(parameters: list[torch.nn.Parameter], params: TrainingParams) -> torch.optim.Optimizer:
    """AdamW, or its 8-bit form. Raises LibraryMissing where bitsandbytes is not there."""
    kind: Any = torch.optim.AdamW
    if params.optimizer == "adamw_8bit":
        try:
            kind = import_module("bitsandbytes.optim").AdamW8bit
        except ImportError as error:
            raise LibraryMissing(
                "optimizer=adamw_8bit needs the package bitsandbytes, which is not installed here: "
                "pip install 'd3po[eight-bit]', or choose optimizer=adamw."
            ) from error
    optimizer: torch.optim.Optimizer = kind(
        parameters, lr=params.learning_rate, eps=params.adam_epsilon, weight_decay=params.weight_decay
    )
    return optimizer
