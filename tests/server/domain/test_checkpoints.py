"""Which checkpoint is current, where it came from, what it changed."""

from __future__ import annotations

import pytest
from sqlalchemy.orm import Session

from server.domain import checkpoints
from server.errors import Denied, NotFound
from server.models import Project, RoundVote
from tests import factories
from tests.databases import on_both_databases

pytestmark = on_both_databases


@pytest.fixture
def project(session: Session) -> Project:
    return factories.project()


def test_the_one_promoted_last_is_current(session: Session, project: Project) -> None:
    operator = factories.operator(project)
    assert checkpoints.current(session, project) is None
    first, second = factories.checkpoint(project), factories.checkpoint(project)
    factories.checkpoint(factories.project())
    assert checkpoints.current(session, project) is second
    checkpoints.promote(session, operator, first.id)
    assert checkpoints.current(session, project) is first
    checkpoints.promote_base(session, operator, project)
    session.expire_all()
    assert checkpoints.current(session, project) is None
    checkpoints.promote(session, operator, second.id)
    assert checkpoints.current(session, project) is second


def test_names_of_policies(session: Session, project: Project) -> None:
    made = factories.checkpoint(project)
    assert [checkpoints.resolve(session, project, name) for name in ("base", None, "current", made.id)] == [
        None,
        None,
        made,
        made,
    ]
    for name in ("latest", factories.checkpoint(factories.project()).id):
        with pytest.raises(NotFound, match=f"no checkpoint {name}"):
            checkpoints.resolve(session, project, name)


def test_annotators_do_not_promote(session: Session, project: Project) -> None:
    made, annotator = factories.checkpoint(project), factories.annotator(project)
    with pytest.raises(Denied):
        checkpoints.promote(session, annotator, made.id)
    with pytest.raises(Denied):
        checkpoints.promote_base(session, annotator, project)


def test_lineage_leads_to_ancestors_and_voters(session: Session, project: Project) -> None:
    first = factories.checkpoint(project)
    second = factories.checkpoint(project, parent_id=first.id)
    third = factories.checkpoint(project, parent_id=second.id)
    alice, bob = factories.annotator(project, name="Alice"), factories.annotator(project, name="Bob")
    votes = [factories.vote(factories.task(project), voter) for voter in (alice, alice, bob)]
    factories.vote(factories.task(project), bob)
    for vote in votes:
        factories.add(RoundVote(round_id=third.round_id, vote_id=vote.id))
    lineage = checkpoints.lineage(session, third)
    assert (lineage.ancestors, lineage.votes_by_person) == ([first, second], {"Alice": 2, "Bob": 1})
    assert checkpoints.lineage(session, first) == checkpoints.Lineage([], {})


def test_the_gallery_pairs_base_and_tuned(session: Session, project: Project) -> None:
    made = factories.checkpoint(project)
    groups = [
        factories.group(project, round_id=made.round_id, prompt=prompt, position=position, drawn_by=[None, made.id])
        for position, prompt in enumerate(["a cat", "a dog"])
    ]
    assert [(shown.prompt, shown.base_image, shown.tuned_image) for shown in checkpoints.gallery(session, made)] == [
        (group.prompt, *group.images) for group in groups
    ]
