from __future__ import annotations

from typing import Any

import pytest
from pydantic import ValidationError

from d3po_core.params import DuelParams, Params, SamplingParams, TrainingParams


@pytest.mark.parametrize("params", [SamplingParams(eta=0.3, seed=5), TrainingParams(beta=2.0), DuelParams(seeds=[4, 2])])
def test_params_survive_json(params: Params) -> None:
    assert type(params).model_validate_json(params.model_dump_json()) == params


@pytest.mark.parametrize("eta", [0.0, -0.1, 1.01, float("nan")])
@pytest.mark.parametrize("kind", [SamplingParams, DuelParams])
def test_an_eta_without_a_density_is_refused(kind: type[Params], eta: float) -> None:
    with pytest.raises(ValidationError, match="eta"):
        kind.model_validate({"eta": eta})


@pytest.mark.parametrize(
    ("kind", "values"),
    [
        (SamplingParams, {"images_per_prompt": 1}),
        (SamplingParams, {"num_inference_steps": 0}),
        (SamplingParams, {"seed": 2**31}),
        (SamplingParams, {"image_per_prompt": 4}),
        (TrainingParams, {"beta": 0}),
        (TrainingParams, {"clip": 1}),
        (TrainingParams, {"learning_rate": float("inf")}),
        (TrainingParams, {"max_kl": float("inf")}),
        (TrainingParams, {"max_grad_norm": float("inf")}),
        (TrainingParams, {"weight_decay": float("inf")}),
        (TrainingParams, {"algorithm": "ppo"}),
        (TrainingParams, {"ratio_clip": 0}),
        (TrainingParams, {"algorithm": "ddpo", "reference": "base"}),
        (DuelParams, {"seeds": []}),
    ],
)
def test_impossible_values_and_unknown_names_are_refused(kind: type[Params], values: dict[str, Any]) -> None:
    with pytest.raises(ValidationError):
        kind.model_validate(values)


def test_a_round_that_says_nothing_is_the_published_one_but_for_its_timesteps() -> None:
    params = TrainingParams()
    assert (params.learning_rate, params.adam_epsilon, params.weight_decay, params.max_grad_norm) == (3e-5, 1e-8, 1e-4, 1.0)
    assert (params.algorithm, params.beta, params.clip, params.lora_rank) == ("d3po", 0.1, 0.1, 4)
    assert (params.ratio_clip, params.max_advantage, params.kl_weight, params.reward_beta) == (1e-4, 5, 0.01, 0.2)
    assert (params.timesteps_per_update, params.max_kl) == (None, None)
    assert (params.timestep_fraction, params.step_weighting) == (0.8, "sensitivity")


def test_params_cannot_be_changed() -> None:
    with pytest.raises(ValidationError, match="frozen"):
        SamplingParams().eta = 0.5  # type: ignore[misc]
