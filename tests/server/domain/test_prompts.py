"""A project's own prompts, and what rounds draw of them."""

from __future__ import annotations

import pytest
from sqlalchemy.orm import Session

from d3po_core.params import DuelParams, SamplingParams
from server.domain import projects, prompts, rounds
from server.errors import Denied, Invalid
from server.models import Project, User
from tests import factories

TOWNS = [f"a map of town {number}" for number in range(20)]


@pytest.fixture
def project() -> Project:
    return factories.project()


@pytest.fixture
def alice(project: Project) -> User:
    return factories.operator(project)


def test_rounds_draw_from_the_projects_own_prompts_and_duels_from_their_held_out_part(
    session: Session, project: Project, alice: User
) -> None:
    projects.set_prompts(session, alice, project, dict.fromkeys(TOWNS, 1.0))
    tuned = factories.checkpoint(project)
    sample = rounds.request_sample_round(session, alice, project, SamplingParams(), count=16)
    duel = rounds.request_duel_round(session, alice, project, DuelParams(), tuned.id, None, count=4)
    drawn = [prompt for job in sample.jobs for prompt in job.payload["prompts"]]
    held_out = [prompt for job in duel.jobs for prompt, _ in job.payload["items"]]
    assert set(drawn) | set(held_out) <= set(TOWNS)
    assert not set(drawn) & set(held_out)
    assert len(set(drawn)) == len(prompts.set_of(project).prompts)


def test_a_heavier_prompt_is_drawn_more_often(session: Session, project: Project, alice: User) -> None:
    heavy = prompts.set_of(factories.project(prompts=dict.fromkeys(TOWNS, 1.0), prompt_set="own")).prompts[0]
    projects.set_prompts(session, alice, project, dict.fromkeys(TOWNS, 1.0) | {heavy: 1000.0})
    assert prompts.draw(project, 50, seed=1).count(heavy) > 40


def test_a_named_set_can_be_chosen_again_and_the_own_one_is_kept(session: Session, project: Project, alice: User) -> None:
    projects.set_prompts(session, alice, project, dict.fromkeys(TOWNS, 1.0))
    projects.choose_prompt_set(session, alice, project, "animals")
    assert prompts.draw(project, 1, 0, "own")[0] in TOWNS
    projects.choose_prompt_set(session, alice, project, "own")
    assert project.prompt_set == "own"


@pytest.mark.parametrize(
    ("given", "sentence"),
    [
        ({}, "needs at least one prompt"),
        ({"a": 0.0}, "weight of the prompt 'a' is 0.0"),
        ({"a": 1.0, "x" * 2001: 1.0}, "Prompt 2 is 2,001 characters long"),
        ({"a\x00": 1.0}, "a character that is no text"),
    ],
)
def test_prompts_that_are_none_change_nothing(
    session: Session, project: Project, alice: User, given: dict[str, float], sentence: str
) -> None:
    with pytest.raises(Invalid, match=sentence):
        projects.set_prompts(session, alice, project, given)
    assert (project.prompts, project.prompt_set) == ({}, "demo")


def test_there_is_no_own_set_before_it_is_given(session: Session, project: Project, alice: User) -> None:
    with pytest.raises(Invalid, match="no prompt set called own"):
        projects.choose_prompt_set(session, alice, project, "own")


def test_only_operators_change_prompts(session: Session, project: Project) -> None:
    with pytest.raises(Denied):
        projects.set_prompts(session, factories.annotator(project), project, {"a": 1.0})


def test_a_text_and_back() -> None:
    weights = prompts.in_text(b"a cat\na dog\t2.5\r\na town\t0.123456789\n\n", "list")
    assert weights == {"a cat": 1, "a dog": 2.5, "a town": 0.123456789}
    assert prompts.in_text(prompts.to_text(weights).encode(), "list") == weights


@pytest.mark.parametrize("content", ["Kätzchen".encode("latin-1"), "a cat".encode("utf-16")])
def test_another_encoding_is_told(content: bytes) -> None:
    with pytest.raises(Invalid, match="Save it as UTF-8 and send it again"):
        prompts.in_text(content, "prompts.txt")
