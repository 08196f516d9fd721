"""Who may open which page: Alice operates, Bob annotates, Charlie is denied, strangers are sent to sign in."""

from __future__ import annotations

import pytest

from server.models import Project, State, User
from tests import factories
from tests.pages.conftest import Browse

FOR_OPERATORS = [
    "/p/{project}",
    "/p/{project}/people",
    "/p/{project}/win-rates.csv",
    "/rounds/{round}",
    "/rounds/{round}/metrics.csv",
    "/p/{project}/checkpoints",
    "/p/{project}/estimate/sample",
    "/checkpoints/{checkpoint}",
]
FOR_MEMBERS = ["/p/{project}/vote", "/p/{project}/vote/waiting"]
OPERATOR_FORMS = [
    "/p/{project}/sample-rounds", "/p/{project}/training-rounds", "/p/{project}/duel-rounds", "/p/{project}/reward-rounds",
    "/p/{project}/people/invite",
    "/p/{project}/promote", "/p/{project}/flags", "/rounds/{round}/cancel", "/rounds/{round}/retry",
    "/rounds/{round}/close", "/rounds/{round}/reopen",
]  # fmt: skip


@pytest.fixture
def fill(project: Project) -> dict[str, str]:
    checkpoint = factories.checkpoint(project)
    return {"project": project.id, "round": factories.round_(project).id, "checkpoint": checkpoint.id}


@pytest.mark.parametrize("path", FOR_OPERATORS)
def test_page_for_operators(path: str, fill: dict[str, str], alice: User, bob: User, charlie: User, browse: Browse) -> None:
    answers = [browse(person).get(path.format(**fill)).status_code for person in (alice, bob, charlie)]

    assert answers == [200, 403, 403]


@pytest.mark.parametrize("path", FOR_MEMBERS)
def test_page_for_members(path: str, fill: dict[str, str], alice: User, bob: User, charlie: User, browse: Browse) -> None:
    answers = [browse(person).get(path.format(**fill)).status_code for person in (alice, bob, charlie)]

    assert answers == [200, 200, 403]


@pytest.mark.parametrize("path", ["/", "/account", *FOR_OPERATORS, *FOR_MEMBERS])
def test_head_is_get_without_a_body(path: str, fill: dict[str, str], alice: User, bob: User, browse: Browse) -> None:
    for person in (alice, bob, None):
        client, url = browse(person).client, path.format(**fill)
        got, head = (client.request(verb, url, headers={"Accept": "text/html"}) for verb in ("GET", "HEAD"))

        assert (head.status_code, head.headers.get("location")) == (got.status_code, got.headers.get("location"))
        assert head.headers.get("content-type") == got.headers.get("content-type")


@pytest.mark.parametrize("path", FOR_OPERATORS + FOR_MEMBERS)
def test_a_stranger_signs_in_and_comes_back(path: str, fill: dict[str, str], browse: Browse) -> None:
    answer = browse(None).get(path.format(**fill))

    assert (answer.status_code, answer.headers["location"]) == (303, f"/sign-in?next={path.format(**fill)}")


@pytest.mark.parametrize("path", OPERATOR_FORMS)
def test_form_for_operators(path: str, fill: dict[str, str], bob: User, charlie: User, browse: Browse) -> None:
    fields = {"role": "annotator", "checkpoint_id": "base"}

    answers = [browse(person).post(path.format(**fill), **fields).status_code for person in (bob, charlie)]

    assert answers == [403, 403]


@pytest.mark.parametrize("path", OPERATOR_FORMS)
def test_a_form_without_its_token_changes_nothing(path: str, fill: dict[str, str], alice: User, browse: Browse) -> None:
    browser = browse(alice)
    browser.csrf_token = "guessed"

    answer = browser.post(path.format(**fill), role="annotator", checkpoint_id="base")

    assert answer.status_code == 403
    assert "Reload the page and try again" in answer.text


def test_home_lists_only_own_projects(project: Project, bob: User, charlie: User, browse: Browse) -> None:
    factories.project(name="Secret")

    assert "Emoji" in browse(bob).get("/").text
    assert "Secret" not in browse(bob).get("/").text
    assert "You belong to no project yet" in browse(charlie).get("/").text


def test_an_error_is_a_page_with_the_sentence_of_the_api(alice: User, browse: Browse) -> None:
    browser = browse(alice)

    page, json = browser.get("/rounds/nothing"), browser.client.get("/api/v1/rounds/nothing")

    assert (page.status_code, json.status_code) == (404, 404)
    assert json.json()["detail"] in page.text
    assert page.headers["content-type"] == "text/html; charset=utf-8"
    assert "Alice" in page.text
    assert f'name="csrf_token" value="{browser.csrf_token}"' in page.text


@pytest.mark.parametrize("referer", ["http://[", "http://testserver//evil.example/x", "http://testserver/\\evil.example"])
def test_no_referer_leads_elsewhere_or_breaks_a_page(referer: str, project: Project, alice: User, browse: Browse) -> None:
    row = factories.round_(project, state=State.RUNNING)
    factories.job(row, state=State.RUNNING)
    browser = browse(alice)
    browser.client.headers["Referer"] = referer

    assert browser.get("/nothing").status_code == 404
    assert browser.post(f"/rounds/{row.id}/cancel").headers["location"] == f"/rounds/{row.id}"


def test_pages_load_nothing_from_elsewhere_and_run_no_inline_script(project: Project, alice: User, browse: Browse) -> None:
    factories.round_(project, state=State.FAILED, message="It broke.")
    browser = browse(alice)

    for path in ("/", f"/p/{project.id}", f"/p/{project.id}/vote", f"/p/{project.id}/people", "/nothing"):
        page = browser.get(path)
        assert "default-src 'self'" in page.headers["content-security-policy"]
        assert "<script>" not in page.text
        assert " onclick=" not in page.text
        assert " style=" not in page.text
        assert "https://" not in page.text
