"""A study in a real browser: ticked and launched, voted on by two people, and read while the votes come."""

from __future__ import annotations

from typing import Any

import pytest
from playwright.sync_api import expect
from sqlalchemy import select

from server.db import read_scope
from server.models import Project, Round, User
from server.storage import Storage
from tests import factories
from tests.e2e.conftest import COLOURS
from tests.e2e.test_voting import image_ids, loaded, wait_for_votes

pytestmark = pytest.mark.browser


def test_from_the_form_to_the_two_numbers(storage: Storage, project: Project, bob: User, visitor: Any) -> None:
    made = factories.checkpoint(project)
    alice, eve = factories.operator(project, name="Alice"), factories.annotator(project, name="Eve")
    page = visitor(alice).open(f"/p/{project.id}")
    form = page.locator("form[action$='/study-rounds']")
    expect(form.get_by_label("base model")).to_be_checked()
    form.get_by_label("Prompts", exact=True).fill("2")
    form.get_by_label("Votes an item").fill("2")
    form.get_by_role("button", name="Study").click()
    page.get_by_role("link", name="study").click()
    expect(page.get_by_text("Nobody has chosen an image yet.")).to_be_visible()

    with read_scope() as session:
        round_id = session.scalars(select(Round.id).where(Round.kind == "study")).one()
    tuned = set()
    for prompt in ("a cat", "a dog"):
        group = factories.group(project, round_id=round_id, drawn_by=[None, made.id], trajectory_key=None, prompt=prompt)
        for image, colour in zip(group.images, COLOURS, strict=False):
            image.sha256 = factories.stored_image(storage, colour)
        factories.task(project, group, mode="pairwise", votes_wanted=2)
        tuned.add(group.images[1].id)
    factories.commit()
    for person in (bob, eve):
        voting = visitor(person).open(f"/p/{project.id}/vote")
        for _ in range(2):
            prompt = loaded(voting)
            voting.keyboard.press("ArrowRight" if image_ids(voting)[1] in tuned else "ArrowLeft")
            expect(voting.locator("#prompt")).not_to_have_text(prompt)
    wait_for_votes(page, 4)

    expect(page.locator("svg.chart")).to_have_count(2)
    expect(page.get_by_text("2 of 2 items have all 2 votes.")).to_be_visible()
    expect(page.get_by_label(f"Share preferred: base model 0.0 %, checkpoint {made.number} 100.0 %")).to_be_visible()
    expect(
        page.get_by_label(f"Items with at least 2 of 2 votes: base model 0.0 %, checkpoint {made.number} 100.0 %")
    ).to_be_visible()
