"""The voting page where each image is good or bad by itself, in a real browser."""

from __future__ import annotations

from typing import Any

import pytest
from playwright.sync_api import expect

from server.models import Outcome, Project, User
from server.storage import Storage
from tests.e2e.conftest import make_task
from tests.e2e.test_voting import image_ids, loaded, path, tasks, votes, wait_for_votes

__all__ = ["path", "tasks"]  # fixtures

pytestmark = pytest.mark.browser


@pytest.fixture
def good_bad(tasks: dict[str, Any], project: Project) -> dict[str, Any]:
    project.mode = "good_bad"
    for task in tasks.values():
        task.mode = "good_bad"
    return tasks


def test_each_image_is_marked_by_number_or_click_and_enter_sends(
    good_bad: dict[str, Any], path: str, bob: User, visitor: Any
) -> None:
    page = visitor(bob).open(path)
    prompt, (a, b, c) = loaded(page), image_ids(page)
    before = [pick.bounding_box() for pick in page.locator(".pick").all()]

    page.keyboard.press("1")
    page.keyboard.press("3")
    page.get_by_label("Image 2 of 3: bad").click()
    page.keyboard.press("3")
    expect(page.locator(".pick[aria-pressed=true] .rank")).to_have_text(["bad", "bad"])
    assert [pick.bounding_box() for pick in page.locator(".pick").all()] == before
    assert votes() == []
    page.keyboard.press("Enter")

    expect(page.locator("#prompt")).not_to_have_text(prompt)
    [vote] = wait_for_votes(page, 1)
    assert (vote.outcome, vote.ratings) == (Outcome.RATED, {a: [0.0], b: [0.0], c: [1.0]})
    loaded(page)
    assert page.locator(".pick[aria-pressed=true]").count() == 0
    page.keyboard.press("u")
    expect(page.locator("#prompt")).to_have_text(prompt)
    assert page.eval_on_selector_all(".pick", "(picks) => picks.map((pick) => pick.ariaPressed)") == ["true", "true", "false"]


def test_marked_by_keyboard_alone_with_the_button_and_all_at_once(
    good_bad: dict[str, Any], path: str, bob: User, visitor: Any
) -> None:
    page = visitor(bob).open(path)
    loaded(page)
    one, other, _ = image_ids(page)
    page.locator(".pick").nth(1).focus()
    page.keyboard.press("Space")
    page.get_by_role("button", name="Send").focus()
    page.keyboard.press("Enter")
    loaded(page)
    page.keyboard.press("0")  # a tie is no answer here
    page.keyboard.press("x")
    loaded(page)
    page.keyboard.press("s")

    marked, all_bad, skipped = wait_for_votes(page, 3)
    assert (marked.ratings[one], marked.ratings[other]) == ([1.0], [0.0])
    assert (all_bad.outcome, set(map(tuple, all_bad.ratings.values()))) == (Outcome.RATED, {(0.0,)})
    assert (skipped.outcome, skipped.ratings) == (Outcome.SKIP, {})


def test_marks_work_without_javascript(good_bad: dict[str, Any], path: str, bob: User, visitor: Any) -> None:
    page = visitor(bob, java_script_enabled=False).open(path)
    page.get_by_label("Image 2 of 3: bad").check(force=True)
    expect(page.get_by_role("button", name="Tie")).to_be_hidden()

    page.get_by_role("button", name="Send").click()
    expect(page.locator("#progress")).to_have_text("1 of 6")
    page.get_by_role("button", name="All bad").click()
    expect(page.locator("#progress")).to_have_text("2 of 6")

    marked, all_bad = votes()
    assert [marked.ratings[image_id] for image_id in marked.shown_order] == [[1.0], [0.0], [1.0]]
    assert [all_bad.ratings[image_id] for image_id in all_bad.shown_order] == [[0.0]] * 3


def test_large_images_on_a_phone_are_marked_where_they_are(
    storage: Storage, project: Project, path: str, bob: User, visitor: Any
) -> None:
    make_task(storage, project, "a cat", images=6, side=512).mode = "good_bad"
    page = visitor(bob, viewport={"width": 360, "height": 640}, has_touch=True).open(path)
    loaded(page)
    page.locator(".pick").nth(0).tap()
    page.locator(".pick").nth(1).scroll_into_view_if_needed()
    page.get_by_role("button", name="Good or bad").tap()
    expect(page.locator(".pick[aria-pressed=true]")).to_have_count(2)

    page.get_by_role("button", name="Send").tap()

    [vote] = wait_for_votes(page, 1)
    assert [vote.ratings[image_id] for image_id in vote.shown_order] == [[0.0], [0.0], *[[1.0]] * 4]


def test_a_study_in_between_asks_for_the_best(storage: Storage, project: Project, path: str, bob: User, visitor: Any) -> None:
    project.mode = "good_bad"
    make_task(storage, project, "a hand").mode = "best"
    make_task(storage, project, "a foot")
    page = visitor(bob).open(path)
    asked = {}
    for _ in range(2):
        prompt = loaded(page)
        asked[prompt] = page.locator(".ask").inner_text()
        page.keyboard.press("1")
        if prompt == "a foot":
            page.keyboard.press("Enter")
        expect(page.locator("#prompt")).not_to_have_text(prompt)

    assert asked == {"a hand": "Pick the best image, or say", "a foot": "Mark the bad images, then"}
    assert sorted(vote.outcome for vote in wait_for_votes(page, 2)) == [Outcome.BEST, Outcome.RATED]


def test_marks_fit_a_phone(storage: Storage, project: Project, path: str, bob: User, visitor: Any) -> None:
    project.mode = "good_bad"
    make_task(storage, project, "a hand", images=6)
    page = visitor(bob, viewport={"width": 360, "height": 640}).open(path)
    loaded(page)
    boxes = [box.bounding_box() for box in page.locator(".pick, .answers button:visible").all()]
    assert all(box["x"] >= 0 and box["x"] + box["width"] <= 360 for box in boxes)
    assert all(box["y"] >= 0 and box["y"] + box["height"] <= 640 for box in boxes)
