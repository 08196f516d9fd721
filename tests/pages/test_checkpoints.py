from __future__ import annotations

import pytest

from d3po_core.params import DuelParams, Params, SamplingParams, TrainingParams
from server.models import Project, RoundVote, State, User
from server.pages.wording import LABELS
from tests import factories
from tests.factories.base import add
from tests.pages.conftest import Browse


def test_a_checkpoint_shows_same_seed_images_lineage_and_manifest(
    project: Project, alice: User, bob: User, browse: Browse
) -> None:
    parent = factories.checkpoint(project)
    vote = factories.vote(factories.task(project), bob)
    training = factories.round_(project, "training")
    add(RoundVote(round_id=training.id, vote_id=vote.id))
    manifest = {"weights": "abc123", "params": {"lora_rank": 8, "beta": 0.30000001192092896}}
    made = factories.checkpoint(project, round_id=training.id, parent_id=parent.id, manifest=manifest)
    pair = factories.group(project, round_id=training.id, images=2, drawn_by=[None, made.id], prompt="a blue cat")

    page = " ".join(browse(alice).get(f"/checkpoints/{made.id}").text.split())

    before, after = (page.index(f"/api/v1/images/{image.id}.webp?size=thumb") for image in pair.images)
    assert before < after
    assert f'<a href="/checkpoints/{parent.id}">checkpoint {parent.number}</a> → <strong>' in page
    assert "learned from the votes of Bob (1)." in page
    assert "<dt>LoRA rank</dt><dd>8</dd><dt>Beta</dt><dd>0.3</dd>" in page
    assert f'href="/api/v1/checkpoints/{made.id}/download"' in page
    assert f"Roll back to checkpoint {parent.number}" in page


@pytest.mark.parametrize("params", [SamplingParams, TrainingParams, DuelParams])
def test_every_setting_has_a_name_in_words(params: type[Params]) -> None:
    assert set(params.model_fields) <= set(LABELS)


def test_an_annotator_stays_blind(project: Project, bob: User, browse: Browse) -> None:
    made = factories.checkpoint(project)
    browser = browse(bob)

    assert browser.get(f"/checkpoints/{made.id}/events").status_code == 403
    assert "Checkpoints" not in browser.get(f"/p/{project.id}/vote").text


def test_pictures_that_are_still_being_drawn_arrive_by_themselves(project: Project, alice: User, browse: Browse) -> None:
    training = factories.round_(project, "training", state=State.RUNNING)
    made = factories.checkpoint(project, round_id=training.id, promoted_at=None)

    page = browse(alice).get(f"/checkpoints/{made.id}").text

    assert "Not in use yet: its round puts it into use at its end." in page
    assert 'data-live="use"' in page
    assert "The pictures are being drawn" in page
    assert f'data-events="/checkpoints/{made.id}/events"' in page
