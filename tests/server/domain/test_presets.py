"""The paper's experiments as beginnings of projects, and who wins over them."""

from __future__ import annotations

import pytest
from sqlalchemy.orm import Session

from d3po_core import prompts
from d3po_core.demo_model import recipe
from d3po_core.params import SamplingParams, TrainingParams
from server.domain import presets, projects
from server.errors import Invalid
from server.models import User
from server.settings import get_settings
from tests import factories

PAPER = {"learning_rate": 3e-5, "weight_decay": 1e-4, "max_grad_norm": 1.0, "lora_rank": 4, "beta": 0.1, "clip": 0.1}


@pytest.fixture
def boss(session: Session, monkeypatch: pytest.MonkeyPatch) -> User:
    monkeypatch.setenv("D3PO_BASE_MODELS", '{"sd15": "/models/sd15"}')
    get_settings.cache_clear()
    return factories.admin()


@pytest.mark.parametrize(
    ("name", "mode", "images", "blur"),
    [("distortion", "good_bad", 7, False), ("safety", "good_bad", 7, True), ("alignment", "pairwise", 2, False)],
)
def test_a_preset_follows_the_paper(session: Session, boss: User, name: str, mode: str, images: int, blur: bool) -> None:
    made = projects.create(session, boss, name, "sd15", preset=name)
    assert (made.mode, made.blur, made.votes_per_task) == (mode, blur, 1)
    sampling = SamplingParams(num_inference_steps=20, eta=1.0, guidance_scale=5.0, images_per_prompt=images)
    assert made.sampling == sampling.model_dump(mode="json")
    assert {key: made.training[key] for key in PAPER} == PAPER
    assert (made.training["timestep_fraction"], made.training["step_weighting"]) == (1.0, "uniform")
    assert made.guideline
    assert made.prompt_set in prompts.names()
    assert len(made.flags) == len(presets.PRESETS[name].flags)


def test_what_the_caller_names_wins(session: Session, boss: User) -> None:
    own = projects.create(
        session, boss, "own", "sd15", preset="safety", mode="pairwise", guideline="", votes_per_task=3, prompt_set="animals",
        flags=[], blur=False, sampling=SamplingParams(eta=0.5), training=TrainingParams(learning_rate=1e-4),
    )  # fmt: skip
    assert (own.mode, own.guideline, own.votes_per_task, own.prompt_set) == ("pairwise", "", 3, "animals")
    assert (own.flags, own.blur) == ([], False)
    assert [own.sampling[key] for key in ("eta", "num_inference_steps", "images_per_prompt")] == [0.5, 20, 2]
    assert [own.training[key] for key in ("learning_rate", "lora_rank", "step_weighting")] == [1e-4, 4, "uniform"]


def test_the_embedded_model_keeps_its_recipe(session: Session, boss: User) -> None:
    made = projects.create(session, boss, "emoji", "demo", preset="distortion", prompt_set="demo")
    kept = recipe.TRAINING.model_dump(mode="json", exclude_unset=True)
    assert {key: made.training[key] for key in kept} == kept
    assert [made.sampling[key] for key in ("num_inference_steps", "images_per_prompt")] == [10, 7]


def test_without_a_preset_nothing_of_it_is_there(session: Session, boss: User) -> None:
    made = projects.create(session, boss, "plain", "sd15")
    assert (made.mode, made.prompt_set, made.guideline, made.blur) == ("best", "demo", "", False)
    assert TrainingParams.model_validate(made.training) == TrainingParams()


def test_an_unknown_preset_is_told_with_those_there_are(session: Session, boss: User) -> None:
    with pytest.raises(Invalid, match=r"no preset called beauty\. Known: distortion, safety, alignment\."):
        projects.create(session, boss, "no", preset="beauty")


def test_no_prompt_of_a_preset_asks_for_anything_unsafe() -> None:
    said = " ".join(" ".join((*each.prompts, *each.reserved)) for each in map(prompts.prompt_set, ("hands", "people"))).lower()
    assert not {"nude", "naked", "blood", "gore", "sexy", "child", "girl", "boy"} & set(said.replace(",", " ").split())
    assert "1 hand" in said
