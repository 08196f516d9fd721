"""How an auto round goes from step to step, stops and goes on, on rows alone."""

from __future__ import annotations

import pytest
from sqlalchemy import Engine
from sqlalchemy.orm import Session

from d3po_core.params import SamplingParams, TrainingParams
from server.domain import auto, checkpoints, launching, rounds
from server.errors import Conflict
from server.models import State
from tests import factories
from tests.databases import on_both_databases
from tests.queries import recorded_queries
from tests.server.domain.auto.conftest import Stage

pytestmark = on_both_databases


def test_two_epochs_from_the_base_model(session: Session, stage: Stage) -> None:
    row = stage.begin(sampling=SamplingParams(num_inference_steps=7), training=TrainingParams(beta=0.5), seed=11)
    assert (row.state, stage.steps) == (State.QUEUED, [("evaluation", 0)])
    stage.end()
    assert (row.state, stage.steps[-1]) == (State.RUNNING, ("sample", 1))
    stage.epoch()
    stage.epoch((2.0, 3.0, 4.0, 5.0))
    learning = [[(kind, epoch) for kind in ("sample", "reward", "training", "evaluation")] for epoch in (1, 2)]
    assert stage.steps == [("evaluation", 0), *learning[0], *learning[1]]
    first, second = stage.made()
    by_step = {(child.kind, child.params["epoch"]): child for child in stage.children}
    assert [by_step["evaluation", epoch].checkpoint_id for epoch in (0, 1, 2)] == [None, first.id, second.id]
    assert [by_step["sample", epoch].checkpoint_id for epoch in (1, 2)] == [None, first.id]
    assert {child.params["num_inference_steps"] for step, child in by_step.items() if step[0] in ("sample", "evaluation")} == {7}
    assert [by_step["training", epoch].params["beta"] for epoch in (1, 2)] == [0.5, 0.5]
    assert [by_step["reward", epoch].params["round_ids"] for epoch in (1, 2)] == [[by_step["sample", e].id] for e in (1, 2)]
    assert len({by_step["sample", epoch].params["seed"] for epoch in (1, 2)}) == 2
    items = [child.jobs[0].payload["items"] for child in stage.children if child.kind == "evaluation"]
    assert items[0] == items[1] == items[2]
    assert len({seed for _, seed in items[0]}) == 4
    assert row.state == State.DONE
    told = f"All epochs are done. Best on held-out prompts, and in use now: checkpoint {second.number}, of epoch 2."
    assert row.message == told
    assert checkpoints.current(session, stage.project) is second


def test_every_round_is_a_round_like_a_persons(session: Session, stage: Stage) -> None:
    row = stage.begin()
    stage.end()
    stage.epoch()
    listed, _ = rounds.list_rounds(session, stage.project)
    assert [(one.number, one.created_by) for one in listed] == [(number, stage.by.id) for number in range(len(listed), 0, -1)]
    assert {one.auto_id for one in listed if one is not row} == {row.id}


def test_evaluation_every_second_epoch_and_after_the_last(stage: Stage) -> None:
    """On the same prompts and noise, though the project's prompts change meanwhile."""
    stage.begin(epochs=3, evaluate_every=2)
    stage.project.prompt_set = "animals"
    stage.end()
    for _ in range(3):
        stage.epoch()
    assert [epoch for kind, epoch in stage.steps if kind == "evaluation"] == [0, 2, 3]
    items = [child.jobs[0].payload["items"] for child in stage.children if child.kind == "evaluation"]
    assert items[0] == items[1] == items[2]


def test_advancing_again_launches_nothing_twice(session: Session, stage: Stage) -> None:
    stage.begin()
    stage.end()
    before = stage.steps
    for child in stage.children:
        auto.follow(session, child)
    assert stage.steps == before


def test_it_stops_at_a_regression_and_the_best_comes_back_into_use(session: Session, stage: Stage) -> None:
    row = stage.begin(epochs=9)
    stage.end((10.0, 20.0, 30.0, 40.0))
    stage.epoch((11.0, 21.0, 31.0, 41.0))
    stage.epoch((9.0, 19.1, 28.9, 39.0))
    assert row.state == State.DONE
    best, _ = stage.made()
    assert checkpoints.current(session, stage.project) is best
    assert row.message.startswith("Stopped after epoch 2: its held-out reward is below that of epoch 1 by 2 [")
    assert row.message.endswith(f"in use now: checkpoint {best.number}, of epoch 1.")


def test_what_chance_explains_stops_nothing(stage: Stage) -> None:
    row = stage.begin(epochs=9)
    stage.end((10.0, 20.0, 30.0, 40.0))
    stage.epoch((0.0, 29.0, 20.0, 49.0))
    assert (row.state, stage.steps[-1]) == (State.RUNNING, ("sample", 2))


def test_a_regression_stops_nothing_where_it_is_told_not_to(session: Session, stage: Stage) -> None:
    row = stage.begin(epochs=2, stop_on_regression=False)
    stage.end((10.0, 20.0, 30.0, 40.0))
    stage.epoch((1.0, 2.0, 3.0, 4.0))
    stage.epoch((2.0, 3.0, 4.0, 5.0))
    assert row.message == "All epochs are done. Best on held-out prompts, and in use now: the base model, that it began with."
    assert checkpoints.current(session, stage.project) is None


def test_it_stops_where_a_training_went_too_far_and_measures_that_too(session: Session, stage: Stage) -> None:
    row = stage.begin(epochs=9, evaluate_every=4, stop_kl=0.01)
    stage.end()
    stage.epoch(kl=0.01)
    stage.epoch((2.0, 3.0, 4.0, 5.0), kl=0.02)
    assert row.state == State.DONE
    assert row.message.startswith("Stopped after epoch 2: its KL to the policy before, 0.02, is above 0.01.")
    assert checkpoints.current(session, stage.project) is stage.made()[1]
    assert stage.steps[-1] == ("evaluation", 2)


def test_a_round_that_fails_stops_it_and_retry_runs_that_round_again(session: Session, stage: Stage) -> None:
    row = stage.begin()
    stage.end()
    stage.break_("The model folder is missing.")
    failed = stage.children[-1]
    assert (row.state, failed.state) == (State.FAILED, State.FAILED)
    assert row.message == f"Epoch 1 stopped at sample round {failed.number}. {failed.message}"
    assert row.finished_at is not None
    rounds.retry(session, stage.by, row)
    assert (row.state, row.message, row.finished_at, failed.state) == (State.RUNNING, "", None, State.QUEUED)
    stage.epoch()
    assert stage.steps.count(("sample", 1)) == 1


def test_retrying_the_failed_round_itself_goes_on_too(session: Session, stage: Stage) -> None:
    row = stage.begin()
    stage.break_("The disk is full.")
    rounds.retry(session, stage.by, stage.children[-1])
    assert row.state == State.QUEUED
    stage.end()
    assert (row.state, stage.steps[-1]) == (State.RUNNING, ("sample", 1))


def test_cancel_stops_the_round_that_it_is_at(session: Session, stage: Stage) -> None:
    row = stage.begin()
    stage.end()
    rounds.cancel(session, stage.by, row)
    child = stage.children[-1]
    assert (row.state, child.state) == (State.CANCELLED, State.CANCELLED)
    assert row.message == (
        f"Epoch 1 stopped at sample round {child.number}. Cancelled by Alice. 0 of 2 groups are finished and kept. "
        "Retry runs the rest."
    )
    with pytest.raises(Conflict, match="there is nothing to cancel"):
        rounds.cancel(session, stage.by, row)
    rounds.retry(session, stage.by, row)
    stage.epoch()
    assert row.state == State.RUNNING


def test_a_constant_reward_leaves_nothing_to_train_on_until_people_vote(session: Session, stage: Stage) -> None:
    stage.project.votes_per_task = 2
    row = stage.begin()
    stage.end()
    stage.end()
    stage.end(alike=True)
    told = "Epoch 1 could not go on with a training round: There are 0 usable pairs to train on: 2 votes count"
    assert (row.state, row.message.startswith(told), stage.steps[-1]) == (State.FAILED, True, ("reward", 1))
    assert row.message.endswith("What was drawn, scored and trained is kept. Retry tries again from there.")
    rounds.retry(session, stage.by, row)
    assert (row.state, row.message.startswith(told), stage.steps[-1]) == (State.FAILED, True, ("reward", 1))
    for task in stage.tasks():
        factories.vote(task, factories.annotator(stage.project), best=0)
    rounds.retry(session, stage.by, row)
    assert (row.state, stage.steps[-1]) == (State.RUNNING, ("training", 1))


def test_nobody_trains_or_promotes_beside_it(session: Session, stage: Stage) -> None:
    made = factories.checkpoint(stage.project, promoted_at=None, number=99)
    factories.vote(factories.task(stage.project), stage.by)
    row = stage.begin()
    told = f"Auto round {row.number} is training this project already. Wait for it, or cancel it first."
    with pytest.raises(Conflict, match=told):
        launching.request_training_round(session, stage.by, stage.project, TrainingParams())
    with pytest.raises(Conflict, match=told):
        stage.begin()
    for promote in (
        lambda: checkpoints.promote(session, stage.by, made.id),
        lambda: checkpoints.promote_base(session, stage.by, stage.project),
    ):
        with pytest.raises(Conflict, match=f"Auto round {row.number} is at work and decides which policy is in use."):
            promote()
    rounds.cancel(session, stage.by, row)
    checkpoints.promote_base(session, stage.by, stage.project)
    training = launching.request_training_round(session, stage.by, stage.project, TrainingParams())
    with pytest.raises(Conflict, match=f"Round {training.number} is training this project already"):
        rounds.retry(session, stage.by, row)
    assert row.state == State.CANCELLED


def test_a_training_that_failed_before_is_not_retried_beside_it(session: Session, stage: Stage) -> None:
    failed = factories.round_(stage.project, "training", state=State.FAILED)
    job = factories.job(failed, state=State.FAILED)
    row = stage.begin()
    with pytest.raises(Conflict, match=f"Auto round {row.number} is training this project already"):
        rounds.retry(session, stage.by, failed)
    rounds.cancel(session, stage.by, row)
    rounds.retry(session, stage.by, failed)
    session.refresh(job)
    assert (failed.state, job.state) == (State.QUEUED, State.QUEUED)


def test_what_was_measured_is_read_between_rounds_only(session: Session, stage: Stage, engine: Engine) -> None:
    """A round has many jobs, each begins and ends, and a long auto round has many scores."""
    stage.begin(epochs=3)
    stage.end()
    stage.epoch()
    job = stage.waiting(stage.children[-1])
    with recorded_queries(engine) as statements:
        stage.claimed(job)
    assert statements
    assert not [statement for statement in statements if "scores" in statement]


def test_what_it_trained_stays_unused_where_somebody_chose_another_policy_while_it_was_stopped(
    session: Session, stage: Stage
) -> None:
    row = stage.begin()
    for _ in ("evaluation", "sample", "reward"):
        stage.end()
    rounds.cancel(session, stage.by, row)
    other = factories.checkpoint(stage.project, number=7)
    rounds.retry(session, stage.by, row)
    stage.end()
    assert checkpoints.current(session, stage.project) is other
    stage.end()
    assert row.state == State.FAILED
    assert "Checkpoint 7 is in use by now" in row.message


def test_it_does_not_go_on_with_a_policy_that_somebody_put_into_use_while_it_was_stopped(session: Session, stage: Stage) -> None:
    row = stage.begin()
    stage.end()
    stage.epoch()
    rounds.cancel(session, stage.by, row)
    checkpoints.promote_base(session, stage.by, stage.project)
    rounds.retry(session, stage.by, row)
    for _ in ("sample", "reward"):
        stage.end()
    [made] = stage.made()
    refused = f"The base model is in use by now, and it goes on with checkpoint {made.number}. Put that one into use again."
    assert row.state == State.FAILED
    assert row.message.startswith(f"Epoch 2 could not go on with a training round: {refused}")
    checkpoints.promote(session, stage.by, made.id)
    rounds.retry(session, stage.by, row)
    assert (row.state, stage.steps[-1]) == (State.RUNNING, ("training", 2))
