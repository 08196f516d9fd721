"""The voting page in a real browser, against a real server."""

from __future__ import annotations

import re
from datetime import timedelta
from typing import Any

import pytest
from playwright.sync_api import Page, Route, expect
from sqlalchemy import select

from server.db import read_scope
from server.models import Lease, Outcome, Project, User, Vote, now
from server.storage import Storage
from tests import factories
from tests.e2e.conftest import ALL_PAINTED, intercept, make_task, until

pytestmark = pytest.mark.browser


@pytest.fixture
def path(project: Project) -> str:
    return f"/p/{project.id}/vote"


@pytest.fixture
def tasks(storage: Storage, project: Project) -> dict[str, Any]:
    return {prompt: make_task(storage, project, prompt) for prompt in ("a cat", "a dog", "an apple", "a pear", "a fig", "a hen")}


def votes() -> list[Vote]:
    """What the server has stored, read without holding up its writers."""
    with read_scope() as session:
        return list(session.scalars(select(Vote).order_by(Vote.received_at)))


def leases() -> int:
    with read_scope() as session:
        return len(session.scalars(select(Lease)).all())


def wait_for_votes(page: Page, count: int) -> list[Vote]:
    """The votes that the server has, once they are `count`."""
    for _ in range(100):
        if len(found := votes()) == count:
            return found
        page.wait_for_timeout(50)
    raise AssertionError(f"The server has {len(votes())} votes, not {count}.")


def loaded(page: Page) -> str:
    """The prompt on screen, once all images of its group are painted."""
    until(page, "document.querySelectorAll('.measured .pick img').length > 0")
    until(page, ALL_PAINTED)
    return page.locator("#prompt").inner_text()


def held_ahead(page: Page) -> None:
    """Waits until the images of the next groups are here too, and decoded: four groups of three are held."""
    loads = "performance.getEntriesByType('resource').map(({ name }) => name).filter((name) => name.includes('/images/'))"
    until(page, f"new Set({loads}).size === 12")
    page.wait_for_timeout(200)


def image_ids(page: Page) -> list[str]:
    return page.eval_on_selector_all(".pick", "(picks) => picks.map((pick) => pick.value)")


def test_one_key_votes_and_shows_the_next_group(tasks: dict[str, Any], path: str, bob: User, visitor: Any) -> None:
    page = visitor(bob).open(path)
    prompt, shown = loaded(page), image_ids(page)

    page.keyboard.press("2")

    expect(page.locator("#prompt")).not_to_have_text(prompt)
    expect(page.locator("#progress")).to_have_text("1 of 6")
    [vote] = wait_for_votes(page, 1)
    assert (vote.task_id, vote.outcome, vote.best_image_id) == (tasks[prompt].id, Outcome.BEST, shown[1])
    assert vote.shown_order == shown
    assert vote.shown_at is not None
    assert vote.decided_at >= vote.shown_at


def test_the_next_group_is_painted_without_waiting_for_the_server(
    tasks: dict[str, Any], path: str, bob: User, visitor: Any
) -> None:
    page = visitor(bob).open(path)
    prompts = [loaded(page)]
    held_ahead(page)
    intercept(page, "**/api/**", lambda route: None)  # from here on nothing is answered

    for _ in range(3):
        complete = page.evaluate(
            """() => {
                dispatchEvent(new KeyboardEvent("keydown", { key: "1" }));
                return [...document.querySelectorAll(".pick img")].map((image) => image.complete && image.naturalWidth > 0);
            }"""
        )
        prompts.append(page.locator("#prompt").inner_text())
        assert complete == [True, True, True]

    assert len(set(prompts)) == 4


def test_a_click_votes(tasks: dict[str, Any], path: str, bob: User, visitor: Any) -> None:
    page = visitor(bob).open(path)
    prompt, shown = loaded(page), image_ids(page)

    page.get_by_label("Image 3 of 3").click()

    expect(page.locator("#prompt")).not_to_have_text(prompt)
    [vote] = wait_for_votes(page, 1)
    assert vote.best_image_id == shown[2]


@pytest.mark.parametrize(("key", "outcome"), [("0", Outcome.TIE), ("x", Outcome.ALL_BAD), ("s", Outcome.SKIP)])
def test_other_answers(key: str, outcome: Outcome, tasks: dict[str, Any], path: str, bob: User, visitor: Any) -> None:
    page = visitor(bob).open(path)
    prompt = loaded(page)

    page.keyboard.press(key)

    expect(page.locator("#prompt")).not_to_have_text(prompt)
    [vote] = wait_for_votes(page, 1)
    assert (vote.outcome, vote.best_image_id) == (outcome, None)


def test_arrows_choose_between_two(storage: Storage, project: Project, path: str, bob: User, visitor: Any) -> None:
    make_task(storage, project, "a cat", images=2)
    page = visitor(bob).open(path)
    loaded(page)
    _, right = image_ids(page)
    boxes = [page.locator(".pick").nth(place).bounding_box() for place in (0, 1)]
    assert boxes[0]["x"] < boxes[1]["x"]

    page.keyboard.press("ArrowRight")

    [vote] = wait_for_votes(page, 1)
    assert vote.best_image_id == right


def test_flags_by_keys_and_by_click_travel_with_the_vote_and_move_nothing(
    tasks: dict[str, Any], project: Project, path: str, bob: User, visitor: Any
) -> None:
    project.flags = ["distorted", "unsafe", "extra fingers"]
    page = visitor(bob).open(path)
    loaded(page)
    shown, before = image_ids(page), [pick.bounding_box() for pick in page.locator(".pick").all()]

    for key in "f21":
        page.keyboard.press(key)
    page.get_by_role("button", name="Flag").click()
    page.get_by_label("extra fingers, image 3").check()
    assert [pick.bounding_box() for pick in page.locator(".pick").all()] == before
    page.keyboard.press("f")
    page.keyboard.press("1")

    [vote] = wait_for_votes(page, 1)
    assert (vote.best_image_id, vote.flags) == (shown[0], {shown[1]: ["distorted"], shown[2]: ["extra fingers"]})
    page.keyboard.press("u")
    expect(page.locator(".word:has(:checked)")).to_have_text(["distorted", "extra fingers"])


def test_a_project_without_flags_offers_none(tasks: dict[str, Any], project: Project, path: str, bob: User, visitor: Any) -> None:
    project.flags = []
    page = visitor(bob).open(path)
    loaded(page)

    page.keyboard.press("f")
    page.keyboard.press("1")

    expect(page.get_by_role("button", name="Flag")).to_be_hidden()
    [vote] = wait_for_votes(page, 1)
    assert vote.flags == {}


def test_all_images_are_ranked_by_number_and_click(
    tasks: dict[str, Any], project: Project, path: str, bob: User, visitor: Any
) -> None:
    for task in tasks.values():
        task.mode = "ranking"
    project.mode = "ranking"
    page = visitor(bob).open(path)
    prompt, (a, b, c) = loaded(page), image_ids(page)

    page.keyboard.press("1")
    page.keyboard.press("2")
    page.keyboard.press("Backspace")
    page.get_by_label("Image 3 of 3").click()
    expect(page.locator(".rank:not(:empty)")).to_have_text(["1", "2"])
    page.keyboard.press("2")

    expect(page.locator("#prompt")).not_to_have_text(prompt)
    [vote] = wait_for_votes(page, 1)
    assert (vote.outcome, vote.ranking) == (Outcome.RANKING, [a, c, b])


def test_each_person_chooses_their_keys(tasks: dict[str, Any], path: str, bob: User, visitor: Any) -> None:
    page = visitor(bob).open(path)
    loaded(page)
    page.keyboard.press("?")
    page.get_by_role("button", name="tie: no difference").click()
    page.keyboard.press("x")  # the key of all bad, which gets 0 in exchange
    page.keyboard.press("Escape")
    expect(page.get_by_role("button", name="Tie")).to_have_text("Tiex")

    page.reload()
    prompt = loaded(page)
    page.keyboard.press("x")
    expect(page.locator("#prompt")).not_to_have_text(prompt)
    loaded(page)
    page.keyboard.press("0")

    assert [vote.outcome for vote in wait_for_votes(page, 2)] == [Outcome.TIE, Outcome.ALL_BAD]


def test_a_group_with_a_missing_image_is_only_skipped(tasks: dict[str, Any], path: str, bob: User, visitor: Any) -> None:
    window = visitor(bob)
    gone: list[str] = []

    def lose_one(route: Route) -> None:
        gone.append(route.request.url)
        route.fulfill(status=410) if len(gone) == 1 or route.request.url == gone[0] else route.continue_()

    window.page.route("**/images/**", lose_one)
    page = window.open(path)
    prompt = page.locator("#prompt").inner_text()
    expect(page.locator(".tile.missing")).to_contain_text("This image is missing. Skip the group")
    page.keyboard.press("1")
    page.keyboard.press("0")
    expect(page.locator("#prompt")).to_have_text(prompt)
    expect(page.locator("#notices")).to_contain_text("Not every image of this group is here yet, so that did not count.")

    page.keyboard.press("s")

    [vote] = wait_for_votes(page, 1)
    assert vote.outcome == Outcome.SKIP
    expect(page.locator("#notices")).to_be_empty()


def test_an_answer_before_every_image_is_there_is_told_until_they_are(
    tasks: dict[str, Any], path: str, bob: User, visitor: Any
) -> None:
    window = visitor(bob)
    held: list[Route] = []

    def hold_one(route: Route) -> None:
        if not held or route.request.url == held[0].request.url:
            held.append(route)
        else:
            route.continue_()

    window.page.route("**/images/**", hold_one)
    page = window.page
    page.goto(window.address + path, wait_until="commit")  # an image that does not come holds up the rest of the loading
    until(page, "document.querySelectorAll('.measured .pick img').length > 0")
    page.keyboard.press("1")
    expect(page.locator("#notices")).to_contain_text("Answer once they are, or skip.")

    for route in held:
        route.continue_()

    loaded(page)
    expect(page.locator("#notices")).to_be_empty()
    page.keyboard.press("1")
    wait_for_votes(page, 1)


def test_two_tabs_of_one_person_hold_different_tasks(tasks: dict[str, Any], path: str, bob: User, visitor: Any) -> None:
    window = visitor(bob)
    first = window.open(path)
    loaded(first)
    second = window.context.new_page()
    second.goto(window.address + path)
    loaded(second)
    assert first.locator("#prompt").inner_text() != second.locator("#prompt").inner_text()
    second.wait_for_timeout(500)
    assert leases() == 6

    second.close(run_before_unload=True)
    first.wait_for_timeout(500)

    assert leases() == 4


def test_undo_reopens_the_last_vote_and_keeps_history(tasks: dict[str, Any], path: str, bob: User, visitor: Any) -> None:
    page = visitor(bob).open(path)
    prompt, shown = loaded(page), image_ids(page)
    page.keyboard.press("1")
    expect(page.locator("#prompt")).not_to_have_text(prompt)

    page.keyboard.press("u")

    expect(page.locator("#prompt")).to_have_text(prompt)
    assert image_ids(page) == shown
    expect(page.locator("#progress")).to_have_text("0 of 6")
    page.keyboard.press("3")
    first, retraction, second = wait_for_votes(page, 3)
    assert (first.best_image_id, second.best_image_id) == (shown[0], shown[2])
    assert (retraction.outcome, retraction.supersedes) == (Outcome.RETRACTED, first.id)


def test_a_held_key_votes_once(tasks: dict[str, Any], path: str, bob: User, visitor: Any) -> None:
    page = visitor(bob).open(path)
    loaded(page)

    for _ in range(4):
        page.keyboard.down("1")  # without an up between them the browser reports repeats

    wait_for_votes(page, 1)
    page.wait_for_timeout(300)
    assert len(votes()) == 1


def test_votes_survive_a_lost_network_and_a_reload(tasks: dict[str, Any], path: str, bob: User, visitor: Any) -> None:
    page = visitor(bob).open(path)
    loaded(page)
    held_ahead(page)
    down = re.compile(r"/api/v1/(tasks|votes|projects)/")
    intercept(page, down, lambda route: route.abort())
    page.keyboard.press("1")
    loaded(page)
    page.keyboard.press("2")
    expect(page.locator("#notices")).to_contain_text("2 votes are kept on this device")
    assert votes() == []

    page.unroute(down)
    page.reload()

    first, second = wait_for_votes(page, 2)
    assert first.task_id != second.task_id
    expect(page.locator("#notices")).to_be_empty()
    expect(page.locator("#progress")).to_have_text("2 of 6")


def test_a_vote_whose_answer_was_lost_is_sent_again_and_stored_once(
    tasks: dict[str, Any], path: str, bob: User, visitor: Any
) -> None:
    page = visitor(bob).open(path)
    loaded(page)
    lost: list[str] = []

    def lose_first_answer(route: Route) -> None:
        if not lost:
            lost.append(route.request.url)
            route.fetch()
            route.abort()
        else:
            route.continue_()

    intercept(page, "**/votes", lose_first_answer)
    page.keyboard.press("1")

    until(page, "Object.keys(localStorage).every((key) => !key.startsWith('d3po.outbox'))")
    assert len(lost) == 1
    assert len(votes()) == 1


def test_a_refused_vote_is_a_sentence_and_is_not_thrown_away(tasks: dict[str, Any], path: str, bob: User, visitor: Any) -> None:
    page = visitor(bob).open(path)
    loaded(page)
    refusal = '{"error": "conflict", "detail": "The moon is in the way."}'
    intercept(page, "**/votes", lambda route: route.fulfill(status=409, content_type="application/json", body=refusal))
    page.keyboard.press("1")
    expect(page.locator("#notices")).to_contain_text("A vote was not accepted: The moon is in the way.")

    page.unroute("**/votes")
    page.get_by_role("button", name="Try again").click()

    wait_for_votes(page, 1)
    expect(page.locator("#notices")).to_be_empty()


def test_a_vote_that_comes_too_late_is_kept_and_told(
    tasks: dict[str, Any], project: Project, path: str, bob: User, visitor: Any
) -> None:
    page = visitor(bob).open(path)
    prompt = loaded(page)
    factories.vote(tasks[prompt], factories.annotator(project), slot_taken_at=now() - timedelta(minutes=1))
    factories.commit()

    page.keyboard.press("1")

    expect(page.locator("#notices")).to_contain_text("That group was decided or closed before your vote came. It is kept,")
    wait_for_votes(page, 2)
    loaded(page)
    page.keyboard.press("1")
    expect(page.locator("#notices")).to_be_empty()


def test_votes_wait_for_a_reload_when_somebody_signed_in_again_elsewhere(
    tasks: dict[str, Any], path: str, bob: User, visitor: Any
) -> None:
    window = visitor(bob)
    page = window.open(path)
    loaded(page)
    window.sign_in()
    page.keyboard.press("1")
    expect(page.locator("#notices")).to_contain_text("1 vote is kept on this device and is sent once this page is loaded again.")
    expect(page.locator("#notices")).not_to_contain_text("not accepted")

    page.get_by_role("button", name="Load it again").first.click()

    wait_for_votes(page, 1)
    expect(page.locator("#notices")).to_be_empty()


def test_a_page_that_somebody_else_answers_with_is_no_answer(tasks: dict[str, Any], path: str, bob: User, visitor: Any) -> None:
    page = visitor(bob).open(path)
    loaded(page)
    intercept(page, "**/api/**", lambda route: route.fulfill(status=200, content_type="text/html", body="<h1>Hotel Wi-Fi</h1>"))

    page.keyboard.press("1")

    expect(page.locator("#notices")).to_contain_text("The server cannot be reached. 1 vote is kept on this device")
    page.unroute("**/api/**")
    wait_for_votes(page, 1)


def test_a_connection_that_says_nothing_is_given_up_and_told(tasks: dict[str, Any], path: str, bob: User, visitor: Any) -> None:
    window = visitor(bob)
    window.page.add_init_script(
        "const timeout = AbortSignal.timeout; AbortSignal.timeout = (ms) => timeout.call(AbortSignal, ms / 10);"
    )
    page = window.open(path)
    loaded(page)
    intercept(page, "**/votes", lambda route: None)  # a black hole: neither an answer nor an end

    page.keyboard.press("1")

    expect(page.locator("#notices")).to_contain_text("The server cannot be reached. 1 vote is kept on this device")
    page.unroute("**/votes")
    wait_for_votes(page, 1)


def test_an_empty_queue_continues_by_itself(storage: Storage, project: Project, path: str, bob: User, visitor: Any) -> None:
    page = visitor(bob).open(path)
    expect(page.locator("#waiting")).to_contain_text("There is nothing to vote on yet")

    make_task(storage, project, "a late cat")
    factories.commit()

    expect(page.locator("#prompt")).to_have_text("a late cat")
    expect(page.locator("#waiting")).to_be_hidden()
    loaded(page)


def test_leaving_gives_the_leases_back(tasks: dict[str, Any], path: str, bob: User, visitor: Any) -> None:
    page = visitor(bob).open(path)
    loaded(page)
    page.wait_for_timeout(500)
    assert leases() == 4

    page.goto("about:blank")
    page.wait_for_timeout(500)

    assert leases() == 0


def test_it_works_without_javascript(tasks: dict[str, Any], path: str, bob: User, visitor: Any) -> None:
    page = visitor(bob, java_script_enabled=False).open(path)
    prompt = page.locator("#prompt").inner_text()

    page.get_by_label("Image 2 of 3").click()

    expect(page.locator("#progress")).to_have_text("1 of 6")
    [vote] = votes()
    assert (vote.task_id, vote.best_image_id) == (tasks[prompt].id, vote.shown_order[1])
    page.get_by_role("button", name="Undo").click()
    expect(page.locator("#prompt")).to_have_text(prompt)
    page.get_by_role("button", name="Tie").click()
    expect(page.locator("#progress")).to_have_text("1 of 6")
    assert [vote.outcome for vote in votes()] == [Outcome.BEST, Outcome.RETRACTED, Outcome.TIE]


@pytest.mark.parametrize("size", [(1280, 800), (360, 640), (800, 360)])
@pytest.mark.parametrize("images", [2, 6])
def test_everything_fits_without_scrolling(
    size: tuple[int, int], images: int, storage: Storage, project: Project, path: str, bob: User, visitor: Any
) -> None:
    make_task(storage, project, "a cat", images)
    width, height = size
    page = visitor(bob, viewport={"width": width, "height": height}).open(path)
    loaded(page)

    boxes = [pick.bounding_box() for pick in page.locator(".pick, .answers button:visible").all()]

    assert all(box["x"] >= 0 and box["x"] + box["width"] <= width for box in boxes)
    assert all(box["y"] >= 0 and box["y"] + box["height"] <= height for box in boxes)
    assert max(box["width"] for box in boxes[:images]) <= 4 * 64


def test_large_images_on_a_phone_are_one_a_swipe(storage: Storage, project: Project, path: str, bob: User, visitor: Any) -> None:
    make_task(storage, project, "a cat", images=6, side=512)
    page = visitor(bob, viewport={"width": 360, "height": 640}, has_touch=True).open(path)
    loaded(page)
    page.locator(".pick").nth(1).scroll_into_view_if_needed()
    expect(page.get_by_role("button", name="This one (2 of 6)")).to_be_visible()
    shown = image_ids(page)

    page.get_by_role("button", name="This one").click()

    [vote] = wait_for_votes(page, 1)
    assert vote.best_image_id == shown[1]
