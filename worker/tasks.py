"""The jobs: fetch a plan, call d3po_core, record each group the moment it is there."""

from __future__ import annotations

from celery import shared_task

from d3po_core.params import DuelParams, SamplingParams
from server.db import session_scope
from server.domain.checkpoints import BASE
from server.domain.jobs import Claim
from server.domain.recording import record_checkpoint, record_group
from worker import gpu, launch
from worker.evaluate import evaluate_policy
from worker.perform import Heartbeat, perform
from worker.plan import Plan, adapter, fetch, storage, stored
from worker.score import score_groups

GALLERY_PROMPTS = 8
GALLERY_SEED = 0


@shared_task(name="d3po.sample")
def sample(job_id: str) -> None:
    perform(job_id, draw_groups)


@shared_task(name="d3po.duel")
def duel(job_id: str) -> None:
    perform(job_id, draw_duel)


@shared_task(name="d3po.score")
def score(job_id: str) -> None:
    perform(job_id, score_groups)


@shared_task(name="d3po.study")
def study(job_id: str) -> None:
    perform(job_id, draw_study)


@shared_task(name="d3po.evaluate")
def evaluate(job_id: str) -> None:
    perform(job_id, evaluate_policy)


@shared_task(name="d3po.train")
def train(job_id: str) -> None:
    perform(job_id, train_and_show)


def draw_groups(claim: Claim, beat: Heartbeat) -> None:
    """A chunk of prompts: every group is recorded, and votable, as soon as it is drawn."""
    from d3po_core.sampling import sample_groups

    plan = fetch(claim)
    first, prompts = plan.unrecorded(plan.payload["prompts"])
    denoiser = gpu.policy(plan.base_model, adapter(plan.checkpoint_id))
    for group in sample_groups(denoiser, prompts, plan.params(SamplingParams), first, observe=beat.observe):
        key = f"{claim.round_id}/{group.position:05d}-{claim.attempt}.safetensors"
        path = storage().trajectory(key)
        path.parent.mkdir(parents=True, exist_ok=True)
        sha256 = group.trajectory.save(path)
        images = [stored(image, seed, plan.checkpoint_id) for image, seed in zip(group.images, group.seeds, strict=True)]
        with session_scope() as session:
            record_group(
                session, claim, position=group.position, prompt=group.prompt, trajectory_key=key, trajectory_sha256=sha256,
                images=images,
            )  # fmt: skip


def draw_duel(claim: Claim, beat: Heartbeat) -> None:
    """A chunk of (prompt, seed) items: both policies draw each of them from the same noise."""
    plan = fetch(claim)
    items = [(prompt, seed) for prompt, seed in plan.payload["items"]]
    draw_pairs(claim, beat, plan, items, plan.params(DuelParams), [plan.checkpoint_id, plan.opponent_id], task=True)


def draw_study(claim: Claim, beat: Heartbeat) -> None:
    """A chunk of (prompt, seed) items: every policy of the study draws each of them from the same noise."""
    plan = fetch(claim)
    items = [(prompt, seed) for prompt, seed in plan.payload["items"]]
    policies = [None if name == BASE else name for name in plan.round_params["checkpoints"]]
    draw_pairs(claim, beat, plan, items, plan.params(DuelParams), policies, task=True)


def train_and_show(claim: Claim, beat: Heartbeat) -> None:
    """Train in a child process, record the checkpoint, then draw the same prompts before and after."""
    plan = fetch(claim)
    if plan.trained_id is None:
        gpu.release()
        key, manifest = launch.train(claim, beat, adapter(plan.checkpoint_id))
        with session_scope() as session:
            record_checkpoint(session, claim, key, manifest)
        plan = fetch(claim)
    items = [(prompt, GALLERY_SEED) for prompt in plan.prompts.draw(GALLERY_PROMPTS, GALLERY_SEED)]
    draw_pairs(claim, beat, plan, items, plan.gallery_params(), [None, plan.trained_id], task=False)


def draw_pairs(
    claim: Claim, beat: Heartbeat, plan: Plan, items: list[tuple[str, int]], params: DuelParams,
    policies: list[str | None], *, task: bool,
) -> None:  # fmt: skip
    """One group an item, with one image a policy, in the order of `policies` (checkpoint ids; None: the base model)."""
    from d3po_core.sampling import sample_duel

    first, items = plan.unrecorded(items)
    if not items:
        return
    unit = "steps" if task else "steps of the pictures"  # a training round's time left is told from its own steps alone

    def observe(done: int, total: int) -> None:
        beat.observe(done, total, unit)

    columns = [sample_duel(gpu.policy(plan.base_model, adapter(policy)), items, params, observe=observe) for policy in policies]
    for index, (prompt, seed) in enumerate(items):
        images = [stored(column[index], seed, policy) for column, policy in zip(columns, policies, strict=True)]
        with session_scope() as session:
            record_group(
                session, claim, position=first + index, prompt=prompt, trajectory_key=None, trajectory_sha256=None,
                images=images, task=task,
            )  # fmt: skip
