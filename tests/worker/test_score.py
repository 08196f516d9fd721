"""Scoring jobs with real rewards on stored pixels, and what each way of failing leaves behind."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest
from sqlalchemy import select
from sqlalchemy.orm import Session

from d3po_core.rewards import ChosenReward, RewardParams, colourfulness, stored_image
from server.db import read_scope, session_scope
from server.domain import pairs, rounds
from server.models import Group, Job, Project, Round, Score, State, Task, User, Vote
from server.settings import get_settings
from server.storage import Storage
from tests import factories
from tests.factories.scorer_server import ScorerServer, scorer_server
from tests.worker.conftest import ended, jobs_of
from worker import gpu, score, tasks

COLOURS = ("red", "grey", "navy")
PLUG_IN = """
import itertools
_calls = itertools.count()

def width(device, times):
    return lambda images, prompts: [times * image.width + len(prompt) for image, prompt in zip(images, prompts)]

def moody(device):
    return lambda images, prompts: [next(_calls) for _ in images]
"""
ENTRY_POINTS = "[d3po.rewards]\nwidth = machine_plug_in:width\nmoody = machine_plug_in:moody\n"


@pytest.fixture(autouse=True)
def _nothing_loaded() -> Iterator[None]:
    gpu.release()
    yield
    gpu.release()


@pytest.fixture
def server() -> Iterator[ScorerServer]:
    with scorer_server() as server:
        yield server


@pytest.fixture
def plugged_in(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    info = tmp_path / "plugs" / "machine_plug_in-1.0.dist-info"
    info.mkdir(parents=True)
    (info / "METADATA").write_text("Metadata-Version: 2.1\nName: machine-plug-in\nVersion: 1.0\n", encoding="utf-8")
    (info / "entry_points.txt").write_text(ENTRY_POINTS, encoding="utf-8")
    (info.parent / "machine_plug_in.py").write_text(PLUG_IN, encoding="utf-8")
    monkeypatch.syspath_prepend(info.parent)


@pytest.fixture
def project(session: Session) -> Project:
    return factories.project()


@pytest.fixture
def boss(project: Project) -> User:
    return factories.operator(project)


@pytest.fixture
def groups(project: Project, storage: Storage) -> list[Group]:
    """Three groups of three images each, one after the other in batches of one group."""
    of = factories.round_(project)
    return [drawn(project, of, storage, position) for position in range(3)]


@pytest.fixture(autouse=True)
def _a_group_at_a_time(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(score, "BATCH", 3)


def drawn(project: Project, of: Round, storage: Storage, position: int) -> Group:
    """Three images, each of its own width."""
    group = factories.group(project, round_id=of.id, position=position)
    for image, colour in zip(group.images, COLOURS, strict=True):
        image.sha256 = factories.stored_image(storage, colour, width=64 + 8 * position + image.position)
    factories.task(project, group)
    return group


def requested(session: Session, boss: User, project: Project, *names: str) -> Round:
    params = RewardParams(rewards=[ChosenReward(name=name) for name in names])
    round_ = rounds.request_reward_round(session, boss, project, params)
    factories.commit()
    return round_


def perform(round_: Round) -> None:
    for job in jobs_of(round_):
        tasks.score(job.id)


def retry(round_: Round, boss: User) -> None:
    with session_scope() as session:
        rounds.retry(session, session.get_one(User, boss.id), session.get_one(Round, round_.id))
    perform(round_)


def scores() -> dict[tuple[str, str], float]:
    with read_scope() as session:
        return {(row.image_id, row.reward): row.value for row in session.scalars(select(Score))}


def votes() -> dict[str, tuple[str, dict[str, list[float]]]]:
    """By group: the vote's id and its ratings."""
    with read_scope() as session:
        cast = session.execute(select(Task.group_id, Vote).join(Task, Task.id == Vote.task_id)).tuples()
        return {group_id: (vote.id, vote.ratings) for group_id, vote in cast}


def register(monkeypatch: pytest.MonkeyPatch, setting: str) -> None:
    monkeypatch.setenv("D3PO_REWARDS", setting)
    get_settings.cache_clear()


def test_the_stored_pixels_are_scored_and_the_machine_votes(
    session: Session, project: Project, boss: User, groups: list[Group], storage: Storage
) -> None:
    round_ = requested(session, boss, project, "colourfulness", "compressibility")
    perform(round_)
    assert ended(round_) == (State.DONE, "")
    images = [image for group in groups for image in group.images]
    measured = {image.id: colourfulness(stored_image(storage.image(image.sha256))) for image in images}
    assert {image_id: value for (image_id, key), value in scores().items() if key == "colourfulness"} == measured
    for group in groups:
        _, ratings = votes()[group.id]
        assert [ratings[image.id][0] for image in group.images] == [measured[image.id] for image in group.images]
    [job] = jobs_of(round_)
    assert (job.progress_done, job.progress_total, job.progress_unit) == (9, 9, "images")
    with read_scope() as other:
        usable = pairs.usable_pairs(other, other.get_one(Project, project.id))
    assert (usable.votes, usable.pairs > 0) == (3, True)


def test_a_redelivered_message_changes_nothing(session: Session, project: Project, boss: User, groups: list[Group]) -> None:
    round_ = requested(session, boss, project, "colourfulness")
    perform(round_)
    before = scores(), votes()
    perform(round_)
    assert (scores(), votes()) == before
    assert [job.attempt for job in jobs_of(round_)] == [1]


def test_a_scorer_that_fails_in_the_middle_fails_the_round_with_its_reason_and_a_retry_goes_on(
    session: Session, project: Project, boss: User, groups: list[Group], server: ScorerServer, monkeypatch: pytest.MonkeyPatch
) -> None:
    register(monkeypatch, f'{{"helpful": {{"reward": "http", "url": "{server.url}", "pause": 0, "attempts": 2}}}}')
    server.answer(content={"scores": [1, 2, 3]})
    server.answer(content=b'{"scores": [1, NaN, 3]}')
    round_ = requested(session, boss, project, "helpful")
    perform(round_)
    state, message = ended(round_)
    assert state == State.FAILED
    assert message == (
        "The reward helpful answered nan for image 1 of its batch; scores are finite numbers, at most 1e100 in size. "
        "3 of 9 images are scored and kept, with the votes that follow. Retry runs the rest."
    )
    [landed] = votes()
    server.answer(content={"scores": [1, 2]})
    retry(round_, boss)
    assert "answered 2 scores for 3 images" in ended(round_)[1]
    server.answer(503)
    server.answer(503)
    retry(round_, boss)
    assert f"The scorer {server.url} gave no scores in 2 attempts of 60 s; the last time it answered 503." in ended(round_)[1]
    before = votes()[landed]
    retry(round_, boss)
    assert ended(round_) == (State.DONE, "")
    assert len(votes()) == 3
    assert votes()[landed] == before
    assert [len(asked["images"]) for asked in server.asked] == [3] * len(server.asked)


def test_a_plug_in_of_another_package_votes(
    session: Session, project: Project, boss: User, groups: list[Group], plugged_in: None, monkeypatch: pytest.MonkeyPatch
) -> None:
    register(monkeypatch, '{"wide": {"reward": "width", "times": 2}}')
    round_ = requested(session, boss, project, "wide")
    perform(round_)
    assert ended(round_) == (State.DONE, "")
    first = groups[0]
    told = [2 * (64 + place) + len(first.prompt) for place in range(3)]
    assert [votes()[first.id][1][image.id] for image in first.images] == [[value] for value in told]
    assert {key for _, key in scores()} == {'wide {"reward":"width","times":2}'}


def test_a_scorer_that_never_says_the_same_twice_breaks_no_retry(
    session: Session, project: Project, boss: User, groups: list[Group], plugged_in: None, monkeypatch: pytest.MonkeyPatch
) -> None:
    register(monkeypatch, '{"moody": {"reward": "moody"}}')
    round_ = requested(session, boss, project, "moody")
    perform(round_)
    before = scores(), votes()
    with session_scope() as other:
        other.get_one(Job, jobs_of(round_)[0].id).state = State.FAILED
        other.get_one(Round, round_.id).state = State.FAILED
    retry(round_, boss)
    assert ended(round_) == (State.DONE, "")
    assert (scores(), votes()) == before


@pytest.mark.parametrize(
    ("setting", "sentence"),
    [
        ('{"judge": {"reward": "clip_score", "model": "/nowhere/clip"}}', "/nowhere/clip"),
        ('{"judge": {"reward": "http", "url": "http://127.0.0.1:9/", "attempts": 1}}', "gave no scores in 1 attempts"),
        ('{"judge": {"reward": "unheard_of"}}', "There is no reward 'unheard_of'"),
    ],
)
def test_what_cannot_be_loaded_or_reached_fails_the_round_with_its_reason(
    session: Session,
    project: Project,
    boss: User,
    groups: list[Group],
    monkeypatch: pytest.MonkeyPatch,
    setting: str,
    sentence: str,
) -> None:
    register(monkeypatch, setting)
    round_ = requested(session, boss, project, "judge")
    perform(round_)
    state, message = ended(round_)
    assert state == State.FAILED
    assert sentence in message
    assert "0 of 9 images are scored and kept" in message
    assert jobs_of(round_)[0].failures == 1


def test_a_worker_whose_settings_say_something_else_scores_nothing(
    session: Session, project: Project, boss: User, groups: list[Group], monkeypatch: pytest.MonkeyPatch
) -> None:
    register(monkeypatch, '{"judge": {"reward": "http", "url": "http://127.0.0.1:9/"}}')
    round_ = requested(session, boss, project, "judge")
    register(monkeypatch, '{"judge": {"reward": "http", "url": "http://127.0.0.1:10/"}}')
    perform(round_)
    assert "D3PO_REWARDS registers judge with other parameters" in ended(round_)[1]


def test_rewards_are_loaded_once_and_given_back(
    session: Session, project: Project, boss: User, groups: list[Group], plugged_in: None, monkeypatch: pytest.MonkeyPatch
) -> None:
    register(monkeypatch, '{"wide": {"reward": "width", "times": 2}}')
    chosen = [ChosenReward(name="colourfulness"), ChosenReward(name="wide", parameters=get_settings().rewards["wide"])]
    loaded = gpu.rewards(chosen)
    assert [reward.name for reward in loaded] == ["colourfulness", "wide"]
    assert all(again is before for again, before in zip(gpu.rewards(chosen), loaded, strict=True))
    gpu.release()
    assert gpu.rewards(chosen[1:])[0] is not loaded[1]
