"""Studies: what is asked for, what people are shown, the paper's two numbers, and that nothing trains on them."""

from __future__ import annotations

import math
import random
from collections import Counter
from typing import Any

import pytest
from sqlalchemy import select
from sqlalchemy.orm import Session

from d3po_core.prompts import prompt_set
from server.domain import checkpoints, duels, pairs, rounds, studies, voting
from server.domain.choices import ALL_BAD, TIE
from server.domain.studying import StudyParams
from server.errors import Denied, Invalid, NotFound, TooLarge
from server.models import Job, Outcome, Project, Round, Task
from tests import factories
from tests.databases import on_both_databases


def study_of(project: Project, policies: list[str | None], votes_per_item: int = 5) -> Round:
    names = [policy or checkpoints.BASE for policy in policies]
    return factories.round_(project, "study", params={"checkpoints": names, "votes_per_item": votes_per_item, "items": 9})


def item(project: Project, round_: Round, policies: list[str | None], wanted: int = 5) -> Task:
    group = factories.group(project, round_id=round_.id, drawn_by=policies, trajectory_key=None)
    return factories.task(project, group, mode="best", votes_wanted=wanted)


def test_a_request_is_one_item_a_prompt_with_noise_of_its_own(session: Session) -> None:
    project = factories.project()
    boss, made = factories.operator(project), factories.checkpoint(project)
    asked = StudyParams(votes_per_item=3, seed=7, num_inference_steps=4)
    round_ = rounds.request_study_round(session, boss, project, asked, ["base", str(made.number)], ["a cat", "a dog", "a cat"])
    assert (round_.kind, round_.params["checkpoints"]) == ("study", ["base", made.id])
    assert [round_.params[name] for name in ("items", "votes_per_item", "num_inference_steps", "eta")] == [3, 3, 4, 1.0]
    [job] = session.scalars(select(Job).where(Job.round_id == round_.id))
    assert (job.kind, job.payload["items"]) == ("study", [["a cat", 7], ["a dog", 8], ["a cat", 9]])


def test_its_prompts_are_ones_that_no_sample_round_draws(session: Session) -> None:
    project = factories.project()
    boss, made = factories.operator(project), factories.checkpoint(project)
    round_ = rounds.request_study_round(session, boss, project, StudyParams(), ["base", made.id], count=40)
    items = [item for job in session.scalars(select(Job).where(Job.round_id == round_.id)) for item in job.payload["items"]]
    assert {prompt for prompt, _ in items} <= set(prompt_set("demo").reserved)
    assert len({seed for _, seed in items}) == 40


def test_what_cannot_be_compared_is_refused(session: Session) -> None:
    project = factories.project()
    boss, made = factories.operator(project), factories.checkpoint(project)

    def ask(*policies: str, by: Any = boss, prompts: list[str] | None = None, **more: Any) -> None:
        rounds.request_study_round(session, by, project, StudyParams(), policies, prompts or ["a cat"], **more)

    with pytest.raises(Invalid, match="2 to 9 different checkpoints, the base model among them, you chose 1"):
        ask("current", made.id)
    with pytest.raises(NotFound, match="no checkpoint 999"):
        ask("base", "999999")
    with pytest.raises(TooLarge, match="at most 10,000 images, this is 10,002"):
        ask("base", "current", prompts=["a cat"] * 5_001)
    with pytest.raises(Invalid, match="prompts or a prompt_set"):
        ask("base", "current", prompt_set="animals")
    with pytest.raises(Denied):
        ask("base", "current", by=factories.annotator(project))


@on_both_databases
def test_the_two_numbers_of_the_paper(session: Session) -> None:
    project: Project = factories.project(mode="good_bad")
    people = [factories.annotator(project) for _ in range(6)]
    tuned = factories.checkpoint(project)
    policies = [None, tuned.id]
    round_ = study_of(project, policies)
    base, new, tie, bad = 0, 1, Outcome.TIE, Outcome.ALL_BAD
    said = [(new, new, new, base, base), (new, new, base, tie, bad), (base, base, base, base, tie), (new, new)]
    for votes in said:
        task = item(project, round_, policies)
        for person, vote in zip(people, votes, strict=False):
            factories.vote(task, person, **({"outcome": vote, "best": None} if isinstance(vote, Outcome) else {"best": vote}))
    factories.vote(item(project, round_, policies), people[0], None, outcome=Outcome.SKIP)
    found = studies.result(session, round_)
    assert [one.checkpoint_id for one in found.policies] == ["base", tuned.id]
    assert [one.votes for one in found.policies] == [7, 7]
    assert [one.preferred for one in found.policies] == [0.5, 0.5]
    assert [one.majorities for one in found.policies] == [1, 1]  # the item with 2 of 5 has none, that with 2 votes waits
    assert [one.majority for one in found.policies] == [1 / 3, 1 / 3]
    assert (found.majority_of, found.items, found.complete, found.without_majority) == (3, 5, 3, 1)
    assert (found.ties, found.all_bad, found.skipped, found.waiting) == (2, 1, 1, 2)
    assert (found.policies[0].majority_low, found.policies[0].majority_high) == duels.wilson(1, 3)


def test_nobody_has_voted(session: Session) -> None:
    project = factories.project()
    found = studies.result(session, study_of(project, [None, factories.checkpoint(project).id]))
    one = found.policies[0]
    assert (one.preferred, one.preferred_low, one.preferred_high, one.majority) == (None, 0.0, 1.0, None)


def test_votes_that_all_say_the_same_on_an_item_are_worth_one() -> None:
    """Five raters who agree on 40 of 60 items know no more than one rater would."""
    assert studies.share_interval([(5, 5)] * 40 + [(0, 5)] * 20) == pytest.approx(duels.wilson(40, 60))
    assert studies.share_interval([(1, 1)] * 40 + [(0, 1)] * 20) == pytest.approx(duels.wilson(40, 60))
    assert studies.share_interval([(5, 5)] * 40) == duels.wilson(40, 40)
    assert studies.share_interval([(3, 5)]) == pytest.approx(duels.wilson(0.6, 1))
    assert studies.share_interval([]) == (0.0, 1.0)


@pytest.mark.parametrize("spread", [0.0, 0.3])
def test_the_interval_holds_the_truth_as_often_as_it_says(spread: float) -> None:
    """Items differ in how clear they are; over many studies of 60 items and 5 votes 95 % of the intervals hold the share 0.6."""
    chance, held, studies_ = random.Random(1), 0, 600
    for _ in range(studies_):
        liked = [0.6 + chance.choice((-spread, spread)) for _ in range(60)]
        counts = [(sum(chance.random() < share for _ in range(5)), 5) for share in liked]
        low, high = studies.share_interval(counts)
        held += low <= 0.6 <= high
    assert held / studies_ == pytest.approx(0.95, abs=3 * math.sqrt(0.95 * 0.05 / studies_))


def test_an_even_number_of_raters_needs_more_than_half() -> None:
    found = studies.tally(
        ["base", "x"], 4, [Counter({None: 2, "x": 2}), Counter({None: 3, TIE: 1}), Counter({"x": 2, ALL_BAD: 2})], 3
    )
    assert [one.majorities for one in found.policies] == [1, 0]
    assert (found.majority_of, found.without_majority) == (3, 2)


def test_a_study_is_voted_on_in_the_same_queue_and_trains_nothing(session: Session) -> None:
    project = factories.project()
    bob, boss = factories.annotator(project), factories.operator(project)
    made = factories.checkpoint(project)
    policies = [None, made.id]
    task = item(project, study_of(project, policies), policies)
    task.group.trajectory_key = "even/with-a-trajectory"
    [leased] = voting.lease_tasks(session, bob, project, 5)
    assert (leased.task_id, leased.mode) == (task.id, "best")
    factories.vote(task, bob)
    assert pairs.trainable_votes(session, project) == []
    checkpoints.promote_base(session, boss, project)
    assert pairs.trainable_votes(session, project) == []
