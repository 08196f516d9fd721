"""Which groups a reward round takes, who votes in it, and what is refused."""

from __future__ import annotations

import pytest
from sqlalchemy import select
from sqlalchemy.orm import Session

from d3po_core.rewards import ChosenReward, RewardParams
from server.domain import invitations, people, rounds
from server.errors import Conflict, Denied, Invalid, NotFound, NotSignedIn
from server.models import Job, Membership, Project, Round, Task, User
from server.settings import get_settings
from tests import factories
from tests.databases import on_both_databases

pytestmark = on_both_databases
COLOUR = RewardParams(rewards=[ChosenReward(name="colourfulness")])
BOTH = RewardParams(rewards=[ChosenReward(name="compressibility"), ChosenReward(name="colourfulness")])


@pytest.fixture
def project(session: Session) -> Project:
    return factories.project()


@pytest.fixture
def boss(project: Project) -> User:
    return factories.operator(project)


def tasks(project: Project, count: int, **values: object) -> tuple[Round, list[Task]]:
    of = factories.round_(project, **values)
    return of, [factories.task(project, factories.group(project, round_id=of.id)) for _ in range(count)]


def machine_of(session: Session, round_: Round) -> User:
    return session.get_one(User, round_.params["annotator_id"])


def group_ids(session: Session, round_: Round) -> list[str]:
    jobs = session.scalars(select(Job).where(Job.round_id == round_.id).order_by(Job.id))
    return [group_id for job in jobs for group_id in job.payload["group_ids"]]


def test_it_takes_every_group_of_the_policy_in_use_that_has_a_task_and_no_vote_of_the_machine(
    session: Session, project: Project, boss: User
) -> None:
    tasks(project, 2)
    made = factories.checkpoint(project)
    of, open_ = tasks(project, 20, checkpoint_id=made.id)
    factories.group(project, round_id=of.id)  # without a task
    tasks(project, 1, kind="duel", checkpoint_id=made.id)
    first = rounds.request_reward_round(session, boss, project, COLOUR)
    assert group_ids(session, first) == [task.group_id for task in open_]
    jobs = session.scalars(select(Job).where(Job.round_id == first.id).order_by(Job.id)).all()
    assert [(job.kind, len(job.payload["group_ids"]), job.progress_total) for job in jobs] == [
        ("score", 16, 48),
        ("score", 4, 12),
    ]
    assert (first.kind, first.checkpoint_id, first.params["images"]) == ("reward", made.id, 60)
    assert (first.params["groups"], first.params["round_ids"]) == (20, [of.id])
    for task in open_[:19]:
        factories.vote(task, machine_of(session, first))
    again = rounds.request_reward_round(session, boss, project, COLOUR)
    assert group_ids(session, again) == [open_[19].group_id]
    assert machine_of(session, again) is machine_of(session, first)
    progress = rounds.progress(session, first)
    assert (progress.done, progress.total, progress.unit, progress.seconds_left) == (0, 60, "images", None)


def test_it_takes_the_sample_and_duel_rounds_it_is_told(session: Session, project: Project, boss: User) -> None:
    old, [of_base] = tasks(project, 1)
    factories.checkpoint(project)
    duel, [compared] = tasks(project, 1, kind="duel")
    asked = rounds.request_reward_round(session, boss, project, COLOUR, round_ids=[old.id, duel.id])
    assert group_ids(session, asked) == [of_base.group_id, compared.group_id]
    elsewhere, _ = tasks(factories.project(), 1)
    training = session.scalars(select(Round).where(Round.kind == "training")).first()
    for wrong in (elsewhere.id, (training and training.id) or "", "nothing"):
        with pytest.raises(NotFound, match="no sample or duel round"):
            rounds.request_reward_round(session, boss, project, COLOUR, round_ids=[old.id, wrong])


def test_without_anything_to_score_it_says_so(session: Session, project: Project, boss: User) -> None:
    with pytest.raises(
        Invalid, match=r"nothing to score: no group that the base model drew waits for the machine.* colourfulness"
    ):
        rounds.request_reward_round(session, boss, project, COLOUR)


def test_there_is_one_machine_a_project_and_way_of_scoring_and_its_name_tells_it(
    session: Session, project: Project, boss: User
) -> None:
    factories.user(name="Colourfulness")
    of, _ = tasks(project, 1)
    weighted = RewardParams(
        rewards=[ChosenReward(name="compressibility", weight=1.0), ChosenReward(name="colourfulness", weight=0.5)],
        combine="weighted",
    )
    asked = [rounds.request_reward_round(session, boss, project, params) for params in (COLOUR, BOTH, weighted, COLOUR)]
    machines = [machine_of(session, round_) for round_ in asked]
    assert [machine.name for machine in machines[:3]] == [
        "colourfulness 2",
        "compressibility and colourfulness (Pareto)",
        "compressibility and colourfulness (weighted)",
    ]
    assert machines[3] is machines[0]
    assert [RewardParams.model_validate(machine.reward) for machine in machines[:3]] == [COLOUR, BOTH, weighted]
    assert {session.get_one(Membership, (project.id, machine.id)).role for machine in machines} == {"annotator"}
    other = factories.project()
    tasks(other, 1)
    elsewhere = rounds.request_reward_round(session, factories.operator(other), other, COLOUR)
    assert machine_of(session, elsewhere).name == "colourfulness 3"
    assert of.id in asked[0].params["round_ids"]


def test_the_name_of_a_machine_with_many_rewards_stays_short(session: Session, project: Project, boss: User) -> None:
    tasks(project, 1)
    names = ("incompressibility", "compressibility", "colourfulness", "background", "safety")
    params = RewardParams(rewards=[ChosenReward(name=name) for name in names])
    machine = machine_of(session, rounds.request_reward_round(session, boss, project, params))
    assert machine.name == "incompressibility and 4 more (Pareto)"


@pytest.mark.parametrize(
    ("name", "parameters", "sentence"),
    [
        ("beauty", {}, "There is no reward beauty here.*D3PO_REWARDS.*compressibility, incompressibility"),
        ("clip_score", {"model": "/etc"}, "clip_score needs its parameters.*D3PO_REWARDS"),
        ("http", {"url": "http://169.254.169.254/"}, "http needs its parameters"),
        ("clip", {"model": "/etc"}, "registers clip with other parameters"),
        ("colourfulness", {"model": "/etc"}, "colourfulness cannot be loaded with these parameters. model"),
    ],
)
def test_no_path_and_no_address_comes_from_an_operator(
    session: Session,
    project: Project,
    boss: User,
    monkeypatch: pytest.MonkeyPatch,
    name: str,
    parameters: dict[str, str],
    sentence: str,
) -> None:
    registered(monkeypatch, '{"clip": {"reward": "clip_score", "model": "/models/clip"}}')
    tasks(project, 1)
    asked = RewardParams(rewards=[ChosenReward(name=name, parameters=parameters)])
    with pytest.raises(Invalid, match=sentence):
        rounds.request_reward_round(session, boss, project, asked)


def test_a_registered_reward_brings_its_parameters_and_another_meaning_is_another_machine(
    session: Session, project: Project, boss: User, monkeypatch: pytest.MonkeyPatch
) -> None:
    registered(monkeypatch, '{"helpfulness": {"reward": "http", "url": "http://scorer.example/score"}}')
    tasks(project, 1)
    asked = RewardParams(rewards=[ChosenReward(name="helpfulness")])
    first = rounds.request_reward_round(session, boss, project, asked)
    [told] = first.params["rewards"]
    assert told["parameters"] | {"reward": "http", "url": "http://scorer.example/score", "timeout": 60.0} == told["parameters"]
    resolved = RewardParams.model_validate(machine_of(session, first).reward)
    again = rounds.request_reward_round(session, boss, project, resolved)
    assert machine_of(session, again) is machine_of(session, first)
    registered(monkeypatch, '{"helpfulness": {"reward": "http", "url": "http://other.example/score"}}')
    with pytest.raises(Invalid, match="registers helpfulness with other parameters"):
        rounds.request_reward_round(session, boss, project, resolved)
    changed = rounds.request_reward_round(session, boss, project, asked)
    assert machine_of(session, changed).name == "helpfulness 2"


def registered(monkeypatch: pytest.MonkeyPatch, setting: str) -> None:
    monkeypatch.setenv("D3PO_REWARDS", setting)
    get_settings.cache_clear()


def test_only_operators_may(session: Session, project: Project) -> None:
    tasks(project, 1)
    for person in (factories.annotator(project), factories.user()):
        with pytest.raises(Denied):
            rounds.request_reward_round(session, person, project, COLOUR)


def test_a_machine_that_lost_its_access_scores_nothing_more(session: Session, project: Project, boss: User) -> None:
    tasks(project, 1)
    machine = machine_of(session, rounds.request_reward_round(session, boss, project, COLOUR))
    people.revoke(session, factories.admin(), machine)
    with pytest.raises(Conflict, match="colourfulness has no access any more"):
        rounds.request_reward_round(session, boss, project, COLOUR)


def test_nothing_lets_a_machine_sign_in(session: Session, project: Project, boss: User) -> None:
    tasks(project, 1)
    machine = machine_of(session, rounds.request_reward_round(session, boss, project, COLOUR))
    boss_of_all = factories.admin()
    ways = (
        lambda: people.issue_token(session, machine, "x"),
        lambda: people.start_session(session, machine),
        lambda: people.new_sign_in_link(session, machine),
        lambda: people.make_sign_in_link(session, boss_of_all, machine),
        lambda: people.set_password(session, machine, "hash"),
        lambda: invitations.invite(session, machine, project, "annotator"),
        lambda: invitations.join(session, invitations.invite(session, boss, project, "operator"), machine),
    )
    for way in ways:
        with pytest.raises(Conflict, match=r"colourfulness is a machine annotator.*nothing lets it sign in"):
            way()


def test_a_secret_that_was_there_before_lets_no_machine_in(session: Session) -> None:
    person = factories.user()
    token = people.issue_token(session, person, "x")
    person.reward = COLOUR.model_dump()
    session.flush()
    with pytest.raises(NotSignedIn, match="not valid"):
        people.user_of_token(session, token)
