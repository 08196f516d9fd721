"""The published training loop, written from its description: what ours is measured against.

Pair by pair and timestep by timestep, the policy and a second copy of the U-Net as reference are evaluated for both images of
the pair; the loss is clamp, log, sigmoid, log; the optimizer steps after a pair's timesteps.
"""

from __future__ import annotations

import copy
import random
from collections.abc import Sequence

import torch
from torch import Tensor
from torch.nn.utils import clip_grad_norm_

from d3po_core.denoisers import Denoiser
from d3po_core.params import TrainingParams
from d3po_core.preferences import Pair
from d3po_core.ratios import log_prob_at, step_mean
from d3po_core.trajectory import Trajectory


class PublishedLoop:
    """Trains `parameters`, part of the denoiser's network; the reference is a copy of the whole network, made now."""

    def __init__(self, denoiser: Denoiser, parameters: list[Tensor], params: TrainingParams) -> None:
        self.denoiser, self.parameters, self.params = denoiser, parameters, params
        self.policy = denoiser.network
        self.renew_reference()
        self.optimizer = torch.optim.AdamW(parameters, lr=params.learning_rate, weight_decay=params.weight_decay)

    def renew_reference(self) -> None:
        """From now on the reference is what the policy is now: what samples the next groups."""
        self.reference = copy.deepcopy(self.policy).requires_grad_(False)

    def learn(self, trajectory: Trajectory, pairs: Sequence[Pair], seed: int = 0) -> None:
        """All timesteps of all pairs of one group; an optimizer step after each pair."""
        steps = list(trajectory.trainable_steps)
        random.Random(seed).shuffle(steps)
        for pair in pairs:
            for step in steps:
                chosen, rejected = (self.ratio(trajectory, step, image) for image in (pair.chosen, pair.rejected))
                argument = self.params.beta * (torch.log(chosen) - torch.log(rejected))
                (-torch.log(torch.sigmoid(argument)).sum() / len(steps)).backward()
            clip_grad_norm_(self.parameters, self.params.max_grad_norm)
            self.optimizer.step()
            self.optimizer.zero_grad(set_to_none=True)

    def ratio(self, trajectory: Trajectory, step: int, image: int) -> Tensor:
        """clamp(pi_theta / pi_ref, 1-eps, 1+eps) of one image, each from a pass of its own. Float32 [1]."""
        one = slice(image, image + 1)
        policy = log_prob_at(step_mean(self.denoiser, trajectory, step, one), trajectory, step, one)
        self.denoiser.network = self.reference
        with torch.no_grad():
            reference = log_prob_at(step_mean(self.denoiser, trajectory, step, one), trajectory, step, one)
        self.denoiser.network = self.policy
        return torch.clamp(torch.exp(policy - reference), 1 - self.params.clip, 1 + self.params.clip)
