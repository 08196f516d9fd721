"""Which images are blurred: a safety score decides for its image, the project for the others."""

from __future__ import annotations

import pytest
from sqlalchemy.orm import Session

from server.domain import blurring, projects, voting
from server.errors import Denied
from server.models import Project, Score
from tests import factories


@pytest.mark.parametrize("blur", [True, False])
def test_a_safety_score_decides_for_its_image_and_the_project_for_the_rest(session: Session, blur: bool) -> None:
    project = factories.project(blur=blur)
    images = factories.group(project, images=4).images
    unsafe, safe, unscored, other = (image.id for image in images)
    for image_id, reward, value in [(unsafe, "safety", 0.49), (safe, "safety", 0.5), (other, "aesthetic", 0.1)]:
        session.add(Score(image_id=image_id, reward=reward, value=value))
    session.flush()
    assert blurring.blurred(session, project, images) == {unsafe, *([unscored, other] if blur else [])}


def test_a_leased_task_tells_which_of_its_images_are_blurred(session: Session) -> None:
    project = factories.project()
    bob = factories.annotator(project)
    one, two = factories.task(project), factories.task(project)
    unsafe = two.group.images[1].id
    session.add(Score(image_id=unsafe, reward="safety", value=0.1))
    leased = voting.lease_tasks(session, bob, project, 2)
    assert {task.task_id: task.blurred for task in leased} == {one.id: frozenset(), two.id: {unsafe}}


def test_operators_switch_it_and_nobody_else(session: Session) -> None:
    project: Project = factories.project()
    projects.set_blur(session, factories.operator(project), project, True)
    assert project.blur is True
    with pytest.raises(Denied):
        projects.set_blur(session, factories.annotator(project), project, False)
