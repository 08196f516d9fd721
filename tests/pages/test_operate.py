from __future__ import annotations

import json
from datetime import timedelta

from server.domain.exports import FORMATS
from server.models import Project, State, User, now
from tests import factories
from tests.pages.conftest import Browse


def plain(page: str) -> str:
    return " ".join(page.split())


def test_rounds_are_listed_newest_first_with_by_whom_and_what_to_do(project: Project, alice: User, browse: Browse) -> None:
    factories.round_(project, number=1, created_by=alice.id)
    full = "The disk is full. Free 2 GB, then Retry."
    broken = factories.round_(project, "training", number=2, state=State.FAILED, message=full)

    page = plain(browse(alice).get(f"/p/{project.id}").text)

    rows = page[page.index("<tbody>") : page.index("</tbody>")]
    assert rows.index("training round 2") < rows.index("sample round 1")
    assert full in rows
    assert f'action="/rounds/{broken.id}/retry"' in rows
    assert "<td>Alice</td>" in rows


def test_the_forms_offer_the_projects_own_values(project: Project, alice: User, browse: Browse) -> None:
    page = plain(browse(alice).get(f"/p/{project.id}").text)

    assert '<input type="number" name="guidance_scale" value="5.0" step="any" required min="0" max="100">' in page
    assert '<input type="number" name="lora_rank" value="4" step="1" required min="1" max="256">' in page
    assert '<input type="number" name="timesteps_per_update" placeholder="all" step="1" min="1" max="1000">' in page

    project.training = {"lora_rank": 16, "timesteps_per_update": 3}
    factories.commit()
    page = plain(browse(alice).get(f"/p/{project.id}").text)

    assert '<input type="number" name="lora_rank" value="16" step="1" required min="1" max="256">' in page
    assert '<input type="number" name="timesteps_per_update" value="3" step="1" required min="1" max="1000">' in page


def test_win_rates_against_the_base_model_are_drawn_and_downloadable(
    project: Project, alice: User, bob: User, browse: Browse
) -> None:
    checkpoint = factories.checkpoint(project)
    duel = factories.round_(project, "duel", number=700, checkpoint_id=checkpoint.id, params={"items": 10})
    for _ in range(10):
        group = factories.group(project, round_id=duel.id, images=2, drawn_by=[checkpoint.id, None])
        factories.vote(factories.task(project, group), bob, best=0)
    browser = browse(alice)

    page, table = browser.get(f"/p/{project.id}").text, browser.get(f"/p/{project.id}/win-rates.csv")

    assert f"People prefer checkpoint {checkpoint.number} to the base model" in page
    assert table.headers["content-type"].startswith("text/csv")
    header, line = table.text.splitlines()
    assert header == "round,checkpoint,opponent,wins,losses,ties,win_rate,low,high"
    assert line.startswith(f"700,{checkpoint.number},base,10,0,0,1.0,0.72")


def test_the_stream_sends_every_part_and_ends_with_the_server(project: Project, alice: User, browse: Browse) -> None:
    browser = browse(alice)
    browser.client.app.state.stopping.set()

    answer = browser.get(f"/p/{project.id}/events")

    assert answer.headers["content-type"].startswith("text/event-stream")
    name, data, *_ = answer.text.splitlines()
    assert name == "event: update"
    assert sorted(json.loads(data.removeprefix("data: "))) == ["loop", "rounds", "suggestion"]


def test_a_stream_is_for_operators(project: Project, bob: User, browse: Browse) -> None:
    assert browse(bob).get(f"/p/{project.id}/events").status_code == 403


def test_the_forms_tell_what_a_launch_will_cost(project: Project, alice: User, browse: Browse) -> None:
    browser, path = browse(alice), f"/p/{project.id}/estimate/sample"
    assert browser.get(f"/p/{project.id}").text.count("No round measured yet") == 3
    end = now()
    times = {"started_at": end - timedelta(seconds=40), "finished_at": end}
    params = {"prompts": 12, "images_per_prompt": 6, "num_inference_steps": 20}
    factories.job(
        factories.round_(project, number=3, params=params, **times), state=State.DONE, memory_bytes=1_200_000_000, **times
    )
    factories.commit()

    assert "About 40 s, 0.0 kB of disk and 1.2 GB of memory, judging by round 3." in browser.get(f"/p/{project.id}").text
    assert browser.get(f"{path}?count=36&images_per_prompt=6").text.startswith("About 2 min, 0.0 kB of disk and 1.2 GB")
    for count in ("", "many", "-5", "1" + "0" * 400):
        assert (told := browser.get(f"{path}?count={count}")).status_code == 200
        assert told.text == ""


def test_each_export_has_a_button(project: Project, alice: User, browse: Browse) -> None:
    page = browse(alice).get(f"/p/{project.id}").text

    for format in FORMATS:
        assert f'href="/api/v1/projects/{project.id}/export?format={format}" download' in page


def test_the_operator_sets_the_flags_that_people_vote_with(project: Project, alice: User, bob: User, browse: Browse) -> None:
    factories.task(project)
    operator, voter = browse(alice), browse(bob)
    assert ">distorted\nunsafe\noff-prompt</textarea>" in operator.get(f"/p/{project.id}").text

    answer = operator.post(f"/p/{project.id}/flags", flags="extra  fingers\r\n\r\nzu dunkel\r\nzu dunkel")

    assert (answer.status_code, answer.headers["location"]) == (303, f"/p/{project.id}#flags")
    page = voter.get(f"/p/{project.id}/vote").text
    assert [word in page for word in (" extra fingers<", " zu dunkel<", " distorted<")] == [True, True, False]
    assert browse(bob).post(f"/p/{project.id}/flags", flags="x").status_code == 403


def test_the_operator_gives_the_project_prompts_of_its_own(project: Project, alice: User, bob: User, browse: Browse) -> None:
    operator = browse(alice)

    answer = operator.post(f"/p/{project.id}/prompts", prompt_set="own", prompts="a town\r\na lake\t3\r\n")

    assert (answer.status_code, answer.headers["location"]) == (303, f"/p/{project.id}#prompts")
    page = operator.get(f"/p/{project.id}").text
    assert ">a town\na lake\t3</textarea>" in page
    assert "from the prompt set “own”" in page
    assert operator.post(f"/p/{project.id}/prompts", prompt_set="animals", prompts="").status_code == 303
    assert "from the prompt set “animals”" in operator.get(f"/p/{project.id}").text
    refused = operator.post(f"/p/{project.id}/prompts", prompt_set="own", prompts="a town\tmuch")
    assert (refused.status_code, "The list, line 1, has &#39;much&#39; after a tab" in refused.text) == (422, True)
    assert ">a town\tmuch</textarea>" in refused.text
    assert browse(bob).post(f"/p/{project.id}/prompts", prompt_set="animals").status_code == 403


def test_flags_that_do_not_fit_come_back_as_typed(project: Project, alice: User, browse: Browse) -> None:
    answer = browse(alice).post(f"/p/{project.id}/flags", flags="good\n" + "x" * 41)

    assert answer.status_code == 422
    assert "A flag is a word or a few, 1 to 40 characters long" in answer.text
    assert f">good\n{'x' * 41}</textarea>" in answer.text
