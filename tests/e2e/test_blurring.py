"""Blurred images in a real browser: shown by a pointer, the focus, a tap, a key, and never by surprise."""

from __future__ import annotations

from typing import Any

import pytest
from playwright.sync_api import Page, expect

from server.models import Project, Score, User
from server.storage import Storage
from tests import factories
from tests.e2e.conftest import make_task
from tests.e2e.test_voting import image_ids, loaded, path, votes, wait_for_votes

__all__ = ["path"]  # a fixture

pytestmark = pytest.mark.browser
BLURRED = "(picks) => picks.map((pick) => getComputedStyle(pick.querySelector('img')).filter !== 'none')"


@pytest.fixture
def project(project: Project, storage: Storage) -> Project:
    """Two groups; of each the second image is safe by its score."""
    project.blur = True
    for prompt in ("a cat", "a dog"):
        image = make_task(storage, project, prompt).group.images[1]
        factories.add(Score(image_id=image.id, reward="safety", value=0.9))
    return project


def blurred(page: Page) -> list[bool]:
    return list(page.eval_on_selector_all(".pick", BLURRED))


def test_a_pointer_or_the_focus_shows_one_image_and_a_key_shows_all(project: Project, path: str, bob: User, visitor: Any) -> None:
    page = visitor(bob).open(path)
    prompt = loaded(page)
    page.mouse.move(1, 1)
    at_first = blurred(page)
    assert sum(at_first) == 2
    one = at_first.index(True)

    page.locator(".pick").nth(one).hover()
    assert blurred(page)[one] is False
    page.mouse.move(1, 1)
    page.locator(".pick").nth(one).focus()
    page.keyboard.press("Shift+Tab")
    page.keyboard.press("Tab")
    assert blurred(page)[one] is False
    page.locator("#prompt").focus()
    assert blurred(page) == at_first

    page.keyboard.press("b")
    expect(page.get_by_role("checkbox", name="Show")).to_be_checked()
    assert blurred(page) == [False] * 3
    page.keyboard.press("b")
    assert blurred(page) == at_first
    page.keyboard.press("b")
    page.keyboard.press("1")
    expect(page.locator("#prompt")).not_to_have_text(prompt)
    loaded(page)
    assert sum(blurred(page)) == 2
    expect(page.locator(".confirm")).to_have_count(0)


def test_the_first_tap_shows_and_the_second_votes(project: Project, path: str, bob: User, visitor: Any) -> None:
    page = visitor(bob, viewport={"width": 360, "height": 640}, has_touch=True, is_mobile=True).open(path)
    loaded(page)
    one = blurred(page).index(True)
    shown = image_ids(page)

    page.locator(".pick").nth(one).tap()
    page.wait_for_timeout(200)
    assert (blurred(page)[one], votes()) == (False, [])
    page.locator(".pick").nth(one).tap()

    [vote] = wait_for_votes(page, 1)
    assert vote.best_image_id == shown[one]


def test_without_javascript_a_box_shows_them(project: Project, path: str, bob: User, visitor: Any) -> None:
    page = visitor(bob, java_script_enabled=False).open(path)
    page.mouse.move(1, 1)
    assert sum(blurred(page)) == 2
    page.get_by_role("checkbox", name="Show").check()
    assert blurred(page) == [False] * 3


def test_galleries_are_blurred_too(project: Project, visitor: Any) -> None:
    row = factories.round_(project)
    image = factories.group(project, round_id=row.id).images[0]
    factories.add(Score(image_id=image.id, reward="safety", value=0.9))
    page = visitor(factories.operator(project, name="Alice")).open(f"/rounds/{row.id}")
    assert page.eval_on_selector_all(".groups .pair a", BLURRED) == [False, True, True]
    page.locator(".groups .pair a").nth(1).focus()
    page.keyboard.press("Shift+Tab")
    page.keyboard.press("Tab")
    assert page.eval_on_selector_all(".groups .pair a", BLURRED) == [False, False, True]
