from __future__ import annotations

from datetime import timedelta

from sqlalchemy.orm import Session

from server.models import Metric, Project, State, User, now
from server.storage import Storage
from tests import factories
from tests.pages.conftest import Browse


def test_a_failed_round_is_a_sentence_and_a_button(project: Project, alice: User, browse: Browse) -> None:
    row = factories.round_(project, "training", state=State.FAILED, message="The memory was full. The votes are kept.")

    page = browse(alice).get(f"/rounds/{row.id}").text

    assert "The memory was full. The votes are kept." in page
    assert f'action="/rounds/{row.id}/retry"' in page
    assert f'action="/rounds/{row.id}/cancel"' not in page


def test_a_log_is_a_click_away_where_something_broke(project: Project, alice: User, browse: Browse, storage: Storage) -> None:
    row = factories.round_(project, "training", state=State.FAILED)
    job = factories.job(row, state=State.FAILED)
    browser, path = browse(alice), f"/rounds/{row.id}/log"
    assert (browser.get(path).status_code, path in browser.get(f"/rounds/{row.id}").text) == (404, False)

    storage.log(job.id).parent.mkdir(parents=True)
    storage.log(job.id).write_text("Traceback: line 7")

    assert path in browser.get(f"/rounds/{row.id}").text
    assert browser.get(path).text == "Traceback: line 7"


def test_settings_are_told_in_words(project: Project, alice: User, browse: Browse) -> None:
    votes = {"round_ids": ["abc"]}
    params = {"lora_targets": list("abcdef"), "one_sided_clip": False, "height": None, "votes": votes}
    row = factories.round_(project, "training", params=params)

    page = browse(alice).get(f"/rounds/{row.id}").text

    assert "<dt>LoRA layers</dt><dd>a, b, c, d and 2 more</dd><dt>Clips on one side only</dt><dd>no</dd>" in page
    assert "<dt>Votes</dt><dd>of 1 round</dd>" in page
    assert "None" not in page


def test_who_voted_how_reliably_is_told(project: Project, alice: User, bob: User, browse: Browse) -> None:
    people = {user.id: {"votes": 9, "shared": 8, "reliability": r} for user, r in ((alice, 0.52), (bob, 0.914))}
    params = {"pair_weights": "reliability", "reliability": {"population": 0.7, "people": people}}
    row = factories.round_(project, "training", params=params)

    page = browse(alice).get(f"/rounds/{row.id}").text

    assert "<dt>Weights of pairs</dt><dd>reliability</dd>" in page
    assert "population" not in page
    first, second = (
        page.index(f"<td>{user.name}</td><td>9</td><td>8</td><td>{r} %</td>") for user, r in ((bob, 91), (alice, 52))
    )
    assert first < second


def test_a_running_round_shows_how_far_it_is(project: Project, alice: User, browse: Browse) -> None:
    row = factories.round_(project, "training", state=State.RUNNING)
    factories.job(row, state=State.RUNNING, progress_done=30, progress_total=80, progress_unit="updates")

    page = browse(alice).get(f"/rounds/{row.id}").text

    assert "30 of 80 updates" in page
    assert '<progress max="80" value="30" aria-label="30 of 80 updates">' in page
    assert f'action="/rounds/{row.id}/cancel"' in page


def test_training_is_drawn_and_downloadable(project: Project, alice: User, browse: Browse, session: Session) -> None:
    row = factories.round_(project, "training")
    session.add_all(Metric(round_id=row.id, step=step, values={"loss": 0.7, "kl": 0.5 * step}) for step in (1, 2))
    browser = browse(alice)

    page, table = browser.get(f"/rounds/{row.id}"), browser.get(f"/rounds/{row.id}/metrics.csv")

    assert page.text.count("<svg") == 1
    assert f'href="/rounds/{row.id}/metrics.csv"' in page.text
    assert table.text.splitlines() == ["step,kl,loss", "1,0.5,0.7", "2,1.0,0.7"]


def test_a_duel_tells_wins_losses_and_the_interval(project: Project, alice: User, bob: User, browse: Browse) -> None:
    checkpoint = factories.checkpoint(project)
    duel = factories.round_(project, "duel", checkpoint_id=checkpoint.id, params={"items": 3})
    tasks = [
        factories.task(project, factories.group(project, round_id=duel.id, images=2, drawn_by=[checkpoint.id, None]))
        for _ in range(3)
    ]
    factories.vote(tasks[0], bob, best=0)
    factories.vote(tasks[1], bob, best=1)

    page = browse(alice).get(f"/rounds/{duel.id}").text

    assert "50 % [9, 91]" in page
    assert f"Checkpoint {checkpoint.number} won 1 and lost 1 comparisons with the base model; 1 wait for a vote." in page
    for task in tasks:
        assert all(image.id not in page for image in task.group.images)  # the duel stays blind for an operator who votes


def test_a_sample_round_shows_its_groups(project: Project, alice: User, browse: Browse) -> None:
    row = factories.round_(project)
    group = factories.group(project, round_id=row.id, prompt="a very red apple")

    page = browse(alice).get(f"/rounds/{row.id}").text

    assert "a very red apple" in page
    assert all(f"/api/v1/images/{image.id}.webp?size=thumb" in page for image in group.images)


def test_a_prompt_is_text_and_not_markup(project: Project, alice: User, browse: Browse) -> None:
    row = factories.round_(project)
    factories.group(project, round_id=row.id, prompt="<script>alert(1)</script>")

    assert "<script>alert" not in browse(alice).get(f"/rounds/{row.id}").text


def test_no_cell_of_a_table_is_a_formula(project: Project, alice: User, browse: Browse, session: Session) -> None:
    row = factories.round_(project, "training")
    session.add(Metric(round_id=row.id, step=1, values={"=1+1": -0.5, "note": "@SUM(A1)"}))

    table = browse(alice).get(f"/rounds/{row.id}/metrics.csv").text

    assert table.splitlines() == ["step,'=1+1,note", "1,-0.5,'@SUM(A1)"]


def test_a_running_round_tells_its_worker_and_when_that_one_is_silent(project: Project, alice: User, browse: Browse) -> None:
    row = factories.round_(project, state=State.RUNNING)
    job = factories.job(row, state=State.RUNNING, worker="gpu1:4711", lease_expires_at=now() + timedelta(seconds=20))
    browser = browse(alice)
    page = browser.get(f"/rounds/{row.id}").text
    assert ("On worker gpu1:4711." in page, "Nothing was heard" in page) == (True, False)

    job.lease_expires_at = now() - timedelta(seconds=1)
    factories.commit()

    assert (
        "Nothing was heard of its worker (gpu1:4711) for a while. What is finished is kept;"
        in browser.get(f"/rounds/{row.id}").text
    )


def test_voting_on_a_round_is_closed_and_reopened(project: Project, alice: User, browse: Browse) -> None:
    row = factories.round_(project)
    factories.task(project, factories.group(project, round_id=row.id))
    browser = browse(alice)
    assert "1 group waits for votes." in browser.get(f"/rounds/{row.id}").text

    assert browser.post(f"/rounds/{row.id}/close").status_code == 303
    page = browser.get(f"/rounds/{row.id}").text
    assert ("0 groups wait for votes, 1 closed." in page, "Reopen the voting on sample round" in page) == (True, True)

    assert browser.post(f"/rounds/{row.id}/reopen").status_code == 303
    assert "1 group waits for votes." in browser.get(f"/rounds/{row.id}").text
