"""One training round on recorded trajectories: the visible loop, on any number of processes.

Each image is evaluated once a timestep, the objective is made of N log-ratios, and the reference's log-probabilities are the
stored ones, or another checkpoint's, computed once before the round: no reference pass and no second model.
"""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Sequence
from pathlib import Path

import torch
from accelerate import Accelerator
from accelerate.utils import gather_object

from d3po_core.advantages import PromptStatistics
from d3po_core.checkpoint import Manifest, read_history, read_manifest, save_checkpoint
from d3po_core.conditioning import Conditioning
from d3po_core.denoisers import Denoiser
from d3po_core.errors import BadParams, BadTrajectory, NotFinite
from d3po_core.learner import Learner, Reference
from d3po_core.objectives import OBJECTIVES, check_known, learnable, values_of
from d3po_core.params import SamplingParams, TrainingParams
from d3po_core.plan import Plan, TrainingGroup, visited
from d3po_core.policy import Policy, new_policy
from d3po_core.ratios import check_ratio_is_one
from d3po_core.round_state import RoundState
from d3po_core.trajectory import Header, Trajectory

ObserveUpdate = Callable[[int, int, dict[str, float]], None]
KL_MEMORY = 0.9


def train_round(
    denoiser: Denoiser,
    groups: Sequence[TrainingGroup],
    params: TrainingParams,
    out: Path,
    parent: Path | None = None,
    observe: ObserveUpdate = lambda step, total, values: None,
    reference: Path | None = None,
) -> Manifest:
    """Train a policy on the groups' pairs or scores and write the checkpoint folder `out`.

    `parent` is the checkpoint that sampled every group (None: the base model); training starts from it. It is the reference
    too, unless `params.reference` says the base model or `reference` names another checkpoint. `observe(update, updates,
    values)` follows every optimizer step, on the main process. The round ends early once the running average of the KL
    estimate against the policy that sampled exceeds `params.max_kl`, if there is one, so that it moves only so far from what
    people saw, whatever the reference.

    The loss of an update is the mean over its items, one timestep of one group each, of the algorithm's loss in `losses` (for
    D3PO arXiv 2311.13231, eq. 12, on log-ratios that are float32 whatever the model's dtype), times the step's weight. Scores
    become advantages by the latest ones of each prompt, which are kept beside the checkpoint and begin with the parent's. The
    figures in `values` are explained in docs/library.md; KL is in nats a latent dimension. The checkpoint is a LoRA, or full
    weights, in float32.

    A killed round called again with the same arguments continues from its last saved state. Under `accelerate launch` every
    process makes this call with the same arguments and computes its share of each update; all end with the same weights,
    those that one process reaches. Raises NoPairs, BadPreference, BadReward, BadTrajectory, BadState, BadParams,
    ModelMissing, LibraryMissing or NotFinite.
    """
    kept = out.with_name(out.name + ".state")
    if finished := read_manifest(out):
        kept.unlink(missing_ok=True)  # killed after the manifest
        return finished
    objective, useful = OBJECTIVES[params.algorithm], learnable(groups, params)
    processes = Accelerator(cpu=denoiser.device.type == "cpu")
    denoiser.use_adapter(parent)
    told = denoiser.encode("", SamplingParams())
    headers = [check_sampled_by(denoiser, group, told) for group in useful]
    plan = Plan([tuple(header.trainable_steps) for header in headers], params)
    past = PromptStatistics(read_history(parent) if objective.value == "advantage" else None)
    counts = [header.params.images_per_prompt for header in headers]
    learned = values_of(useful, [header.prompt for header in headers], counts, params, past)
    reference = reference or (parent if params.reference == "sampler" else None)
    if reference != parent and params.algorithm != "d3po":
        raise BadParams(f"Algorithm {params.algorithm} compares with the policy that sampled; only d3po takes another reference.")
    # Sampling stored the log-probabilities of the policy that sampled; mixed precision rounds them differently.
    sampler = Reference(denoiser, useful, params, processes) if params.mixed_precision != "no" else None
    references = sampler
    if reference != parent:
        denoiser.use_adapter(reference)
        references = Reference(denoiser, useful, params, processes)
    policy = new_policy(denoiser, params, parent, reference)
    against = references.policy if references else policy.start
    drift = check_ratio_is_one(denoiser, useful[0], params.clip)
    if objective.clip and sampler is None and max(gather_object([drift])) > objective.clip(params) / 10:
        sampler = Reference(denoiser, useful, params, processes)
        references = references or sampler
    learner = Learner(policy, useful, params, processes, references, sampler, learned)
    identity = identity_of(useful, params, policy.start, against)
    state = RoundState(kept, identity, learner.parameters, learner.optimizer, learner.ema, learner.scaler)
    total = len(plan)
    for update in visited(plan, useful, state.updates, processes.process_index, processes.num_processes):
        if params.max_kl is not None and state.values.get("kl_average", 0.0) > params.max_kl:
            break
        values = learner.learn(update, state.updates, total)
        learner.ema.update(state.updates)
        moved = values.get("kl_sampler", values["kl"])
        values["kl_average"] = running(state.values.get("kl_average", 0.0), moved, state.updates)
        state.advance(state.updates + 1, values, keeper=processes.is_main_process)
        if processes.is_main_process:
            observe(state.updates, total, values)
    learner.ema.apply()
    check_finite(policy)
    if processes.is_main_process:
        save_checkpoint(
            policy,
            out,
            past.history,
            parent=policy.start,
            reference=against,
            params=params,
            groups=len(useful),
            pairs=sum(len(group.pairs) for group in useful),
            updates=state.updates,
            final=state.values,
        )
        state.path.unlink(missing_ok=True)
    learner.end()
    processes.wait_for_everyone()
    manifest = read_manifest(out)
    assert manifest is not None
    denoiser.policy = manifest.weights
    return manifest


def running(average: float, value: float, count: int) -> float:
    """The running average of `count` values and one more, which counts the latest ones most and is not drawn to 0 at first."""
    seen = 1 - KL_MEMORY**count
    return (KL_MEMORY * seen * average + (1 - KL_MEMORY) * value) / (KL_MEMORY * seen + 1 - KL_MEMORY)


def check_finite(policy: Policy) -> None:
    """Raises NotFinite rather than let a checkpoint be written that can only draw NaN."""
    if not all(bool(torch.isfinite(parameter).all()) for parameter in policy.parameters):
        raise NotFinite(
            "Training made the weights NaN or infinite, so no checkpoint was written and the one before this round is unharmed; "
            "launch a round with a lower learning_rate or weight_decay."
        )


def check_sampled_by(denoiser: Denoiser, group: TrainingGroup, told: Conditioning) -> Header:
    """Refuse a group that this round cannot learn from, before anything is trained; returns its header.

    told: any prompt's conditioning. Raises BadTrajectory if the file was altered, if the model, the adapter, the scheduler or
    the number format is not the one that sampled it, or if its tensors are not of that model's shapes; BadPreference or
    BadReward if its pairs or scores are not of its images.
    """
    trajectory = Trajectory.load(group.path, group.sha256)
    check_known(group, len(trajectory.latents))
    header = trajectory.header
    here = tuple(denoiser.transition(header.params).steps)
    stored = str(trajectory.latents.dtype).removeprefix("torch.")
    dtype = str(denoiser.dtype).removeprefix("torch.")
    sampled = {"base model": header.model, "adapter": header.policy, "scheduler": header.steps, "dtype": (header.dtype, stored)}
    loaded = {"base model": denoiser.model, "adapter": denoiser.policy, "scheduler": here, "dtype": (dtype, dtype)}
    for name, recorded in sampled.items():
        if recorded != loaded[name]:
            raise BadTrajectory(
                f"{group.path} was sampled with another {name} than the one loaded; this round cannot learn from it."
            )
    wanted = {"latents": denoiser.latent_shape(header.params), **{name: tuple(one.shape) for name, one in told.tensors().items()}}
    conditioning = {name: tuple(one.shape) for name, one in trajectory.conditioning.tensors().items()}
    if (held := {"latents": tuple(trajectory.latents.shape[2:]), **conditioning}) != wanted:
        wrong = sorted(name for name in held.keys() | wanted.keys() if held.get(name) != wanted.get(name))
        raise BadTrajectory(f"{group.path} holds {', '.join(wrong)} of other shapes than the loaded model's.")
    return header


def identity_of(groups: Sequence[TrainingGroup], params: TrainingParams, start: str, reference: str) -> str:
    """SHA-256 of what a round is: its parameters, where it starts, its reference, its groups in order and what is known of
    their images."""
    digest = hashlib.sha256(f"{params.model_dump_json()} {start} {reference}".encode())
    for group in groups:
        scores = None if group.scores is None else [float(score) for score in group.scores]
        digest.update(f"{group.path.name} {group.sha256} {list(group.pairs)} {scores} {group.weight}\n".encode())
    return digest.hexdigest()
