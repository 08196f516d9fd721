"""What a request for a round refuses before it does any work, and whose settings it takes."""

from __future__ import annotations

import pytest
from sqlalchemy.orm import Session

from d3po_core.demo_model import recipe
from d3po_core.params import DuelParams, SamplingParams, TrainingParams
from server.domain import launching, projects, rounds
from server.errors import TooLarge
from server.settings import get_settings
from tests import factories


def test_a_duel_that_is_too_large_is_counted_and_not_built(session: Session, monkeypatch: pytest.MonkeyPatch) -> None:
    project = factories.project()
    boss, made = factories.operator(project), factories.checkpoint(project)
    monkeypatch.setattr(launching, "product", lambda *_: pytest.fail("The comparisons were built before they were counted."))
    prompts, seeds = [f"cat {number}" for number in range(11)], list(range(1_000))
    with pytest.raises(TooLarge, match="at most 10,000 comparisons, this is 11,000"):
        rounds.request_duel_round(session, boss, project, DuelParams(seeds=seeds), made.id, "base", prompts)


def test_a_new_project_of_the_embedded_model_has_its_recipe_and_others_the_published_settings(
    session: Session, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("D3PO_BASE_MODELS", '{"sd15": "/models/sd15"}')
    get_settings.cache_clear()
    boss = factories.admin()
    demo, other = (projects.create(session, boss, name, name, mode="pairwise") for name in ("demo", "sd15"))
    assert TrainingParams.model_validate(demo.training) == recipe.TRAINING
    assert TrainingParams.model_validate(other.training) == TrainingParams()
    assert [made.sampling["num_inference_steps"] for made in (demo, other)] == [10, 20]
    assert [made.sampling["images_per_prompt"] for made in (demo, other)] == [2, 2]
    own = projects.create(
        session, boss, "own", "demo", sampling=SamplingParams(eta=0.5), training=TrainingParams(learning_rate=3e-5)
    )
    assert TrainingParams.model_validate(own.training) == recipe.TRAINING.model_copy(update={"learning_rate": 3e-5})
    assert (own.sampling["num_inference_steps"], own.sampling["eta"], own.sampling["images_per_prompt"]) == (10, 0.5, 6)


def test_what_a_request_names_wins_over_the_project_and_that_over_the_defaults(session: Session) -> None:
    project = factories.project(
        sampling=SamplingParams(num_inference_steps=8, eta=0.5, height=512, seed=5).model_dump(),
        training={"learning_rate": 0.1, "epochs": 3},
    )
    boss = factories.operator(project)
    factories.vote(factories.task(project), boss)
    asked = TrainingParams(learning_rate=3e-5)  # the default, but named
    trained = rounds.request_training_round(session, boss, project, asked).params
    assert {name: trained[name] for name in TrainingParams.model_fields} == TrainingParams(
        learning_rate=3e-5, epochs=3
    ).model_dump(mode="json") | {"lora_targets": trained["lora_targets"]}
    made = factories.checkpoint(project)
    duel = rounds.request_duel_round(session, boss, project, DuelParams(eta=1.0, seeds=[1]), made.id, "base", ["a cat"]).params
    assert (duel["num_inference_steps"], duel["eta"], duel["height"], duel["seeds"]) == (8, 1.0, 512, [1])
    drawn = [rounds.request_sample_round(session, boss, project, SamplingParams(), ["a cat"]).params for _ in range(2)]
    assert [(row["num_inference_steps"], row["eta"], row["height"]) for row in drawn] == [(8, 0.5, 512)] * 2
    assert drawn[0]["seed"] != drawn[1]["seed"]


def test_a_lora_goes_on_in_its_shape_unless_told_otherwise(session: Session) -> None:
    project = factories.project(training=recipe.TRAINING.model_dump(mode="json"))
    shape = {"weights": "lora", "lora_rank": 8, "lora_alpha": None, "lora_targets": ["to_q", "to_v"]}
    made = factories.checkpoint(project, manifest={"params": shape | {"learning_rate": 0.5}})
    taken = launching.training_of(project, made)
    assert taken == recipe.TRAINING.model_copy(update=shape | {"lora_targets": ("to_q", "to_v")})
    assert launching.training_of(project, made, TrainingParams(lora_rank=4)).lora_rank == 4
    assert launching.training_of(project, None) == recipe.TRAINING
