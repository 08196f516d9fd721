from __future__ import annotations

import re
from uuid import uuid4

from sqlalchemy import select
from sqlalchemy.orm import Session

from server.db import read_scope
from server.domain import people
from server.models import Lease, Outcome, Project, State, Task, User, Vote, now
from tests import factories
from tests.pages.conftest import Browse


def form_of(task: Task, choice: str, vote_id: str | None = None) -> dict[str, str]:
    shown = ",".join(image.id for image in task.group.images)
    seen = {"task_id": task.id, "shown_order": shown, "shown_at": now().isoformat()}
    return seen | {"choice": choice, "vote_id": vote_id or str(uuid4())}


def stored() -> list[Vote]:
    with read_scope() as session:
        return list(session.scalars(select(Vote).order_by(Vote.received_at)))


def test_the_page_leases_one_task_and_is_a_complete_form(project: Project, bob: User, browse: Browse) -> None:
    task = factories.task(project)

    page = browse(bob).get(f"/p/{project.id}/vote").text

    with read_scope() as session:
        assert [lease.task_id for lease in session.scalars(select(Lease))] == [task.id]
    assert f'name="task_id" value="{task.id}"' in page
    assert [page.count(f'name="choice" value="{value}"') for value in ("tie", "all_bad", "skip")] == [1, 1, 1]
    for image in task.group.images:
        assert f'name="choice" value="{image.id}"' in page
        assert f'src="/api/v1/images/{image.id}.webp?size=view"' in page


def test_a_form_vote_is_stored_and_leads_to_the_next_task(project: Project, bob: User, browse: Browse) -> None:
    task = factories.task(project)
    best = task.group.images[1].id
    form = form_of(task, best)

    answer = browse(bob).post(f"/p/{project.id}/vote", **form)

    assert (answer.status_code, answer.headers["location"]) == (303, f"/p/{project.id}/vote")
    [vote] = stored()
    assert (vote.id, vote.outcome, vote.best_image_id) == (form["vote_id"], Outcome.BEST, best)


def test_the_same_form_sent_twice_is_one_vote(project: Project, bob: User, browse: Browse) -> None:
    form = form_of(factories.task(project), "tie")
    browser = browse(bob)

    answers = [browser.post(f"/p/{project.id}/vote", **form) for _ in range(2)]

    assert [answer.status_code for answer in answers] == [303, 303]
    assert [vote.outcome for vote in stored()] == [Outcome.TIE]


def test_a_vote_that_comes_too_late_is_kept_and_told(project: Project, bob: User, browse: Browse) -> None:
    task = factories.task(project)
    form = form_of(task, "tie")
    factories.vote(task, factories.annotator(project))
    browser = browse(bob)

    answer = browser.post(f"/p/{project.id}/vote", **form)

    assert len(stored()) == 2
    sentence = "That group was decided or closed before your vote came. It is kept,"
    assert sentence in browser.get(answer.headers["location"]).text.partition("<template")[0]
    assert sentence not in browser.get(f"/p/{project.id}/vote").text.partition("<template")[0]


def test_undo_takes_the_vote_back_and_shows_its_task_again(project: Project, bob: User, browse: Browse) -> None:
    task, _ = factories.task(project), factories.task(project)
    form = form_of(task, "all_bad")
    browser = browse(bob)
    browser.post(f"/p/{project.id}/vote", **form)
    on_screen = re.search(r'name="task_id" value="(\w+)"', browser.get(f"/p/{project.id}/vote").text)[1]

    browser.post(f"/p/{project.id}/vote/undo", last_vote_id=form["vote_id"], task_id=on_screen)

    assert f'name="task_id" value="{task.id}"' in browser.get(f"/p/{project.id}/vote").text
    assert [vote.outcome for vote in stored()] == [Outcome.ALL_BAD, Outcome.RETRACTED]


def test_undo_goes_back_as_far_as_there_are_votes(project: Project, bob: User, browse: Browse) -> None:
    browser, vote_ids = browse(bob), []
    for _ in range(2):
        form = form_of(factories.task(project), "tie")
        factories.commit()
        browser.post(f"/p/{project.id}/vote", **form)
        vote_ids.insert(0, form["vote_id"])

    offered = []
    for _ in range(2):
        page = browser.get(f"/p/{project.id}/vote").text
        offered.append(re.search(r'name="last_vote_id" value="([\w-]+)"', page)[1])
        browser.post(f"/p/{project.id}/vote/undo", last_vote_id=offered[-1])

    assert offered == vote_ids
    assert 'name="last_vote_id" value=""' in browser.get(f"/p/{project.id}/vote").text


def test_a_form_carries_words_about_single_images(project: Project, bob: User, browse: Browse) -> None:
    task = factories.task(project)
    one, other, _ = (image.id for image in task.group.images)
    flags = [f"{one} distorted", f"{one} unsafe", f"{other} off-prompt"]
    browser = browse(bob)
    assert f'name="flag" value="{flags[0]}"' in browser.get(f"/p/{project.id}/vote").text

    browser.post(f"/p/{project.id}/vote", **form_of(task, "tie"), flag=flags)

    assert stored()[0].flags == {one: ["distorted", "unsafe"], other: ["off-prompt"]}


def test_a_form_ranks_by_places(project: Project, bob: User, browse: Browse) -> None:
    project.mode = "ranking"
    task = factories.task(project)
    a, b, c = (image.id for image in task.group.images)
    browser = browse(bob)

    refused = browser.post(f"/p/{project.id}/vote", **form_of(task, "ranking"), place=["2", "2", ""])
    browser.post(f"/p/{project.id}/vote", **form_of(task, "ranking"), place=["2", "3", "1"])

    assert (refused.status_code, "Give each image a place of its own, 1 (best) to 3." in refused.text) == (422, True)
    assert [vote.ranking for vote in stored()] == [[c, a, b]]


def test_a_form_marks_the_bad_images(project: Project, bob: User, browse: Browse) -> None:
    project.mode = "good_bad"
    tasks = [factories.task(project) for _ in range(3)]
    bad = tasks[0].group.images[1].id
    browser = browse(bob)
    page = browser.get(f"/p/{project.id}/vote").text
    assert (page.count('name="bad" value="'), page.count('data-mode="good_bad"')) == (3, 1)

    browser.post(f"/p/{project.id}/vote", **form_of(tasks[0], "rated"), bad=[bad])
    browser.post(f"/p/{project.id}/vote", **form_of(tasks[1], "rated"))
    browser.post(f"/p/{project.id}/vote", **form_of(tasks[2], "rated_bad"))

    marked, good, none = stored()
    assert marked.ratings == {image.id: [float(image.id != bad)] for image in tasks[0].group.images}
    assert [set(map(tuple, vote.ratings.values())) for vote in (good, none)] == [{(1.0,)}, {(0.0,)}]


def test_a_form_without_an_answer_is_told_what_to_do(project: Project, bob: User, browse: Browse) -> None:
    form = form_of(factories.task(project), "")

    answer = browse(bob).post(f"/p/{project.id}/vote", **form)

    assert (answer.status_code, "Choose an image, or say tie" in answer.text) == (422, True)


def test_a_foreign_image_is_refused_with_a_sentence(project: Project, bob: User, browse: Browse) -> None:
    task, other = factories.task(project), factories.task(project)

    answer = browse(bob).post(f"/p/{project.id}/vote", **form_of(task, other.group.images[0].id))

    assert answer.status_code == 422
    assert "which is not in this task" in answer.text
    assert stored() == []


def test_an_empty_queue_says_what_is_being_drawn(project: Project, bob: User, browse: Browse) -> None:
    drawing = factories.round_(project, state=State.RUNNING, params={"prompts": 4})
    factories.group(project, round_id=drawing.id)

    page = browse(bob).get(f"/p/{project.id}/vote").text

    assert f"Images are being drawn: 1 of 4 groups of round {drawing.number}." in page
    assert '<meta http-equiv="refresh" content="5">' in page


def test_an_annotator_is_not_offered_operators_pages(project: Project, bob: User, alice: User, browse: Browse) -> None:
    sample = "See what comes next"

    assert sample not in browse(bob).get(f"/p/{project.id}/vote/waiting").text
    assert sample in browse(alice).get(f"/p/{project.id}/vote/waiting").text


def test_a_revoked_annotator_is_sent_to_sign_in(project: Project, bob: User, browse: Browse, session: Session) -> None:
    browser = browse(bob)
    people.revoke(session, factories.admin(), bob)
    session.commit()

    assert browser.get(f"/p/{project.id}/vote").headers["location"].startswith("/sign-in?next=")
