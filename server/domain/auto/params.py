"""What an auto round is asked for, as its row holds it."""

from __future__ import annotations

from pydantic import Field

from d3po_core.params import Params, SamplingParams, TrainingParams
from d3po_core.rewards import RewardParams
from server.models import Round

MAX_EPOCHS = 10_000


class AutoOptions(Params):
    """`sampling` and `training` name what differs from the project's own settings."""

    evaluate_every: int = Field(default=1, ge=1, le=MAX_EPOCHS, description="A held-out evaluation after every so many epochs.")
    count: int = Field(default=40, ge=1, le=10_000, description="Prompts of an epoch.")
    evaluation_prompts: int = Field(
        default=64, ge=2, le=10_000, description="Held-out prompts of an evaluation, one image each; the same in every one."
    )
    stop_on_regression: bool = Field(
        default=True, description="End when the held-out reward is below the best so far by more than chance explains."
    )
    stop_kl: float | None = Field(
        default=None,
        gt=0.0,
        description="End when a training round ends further than this from the policy that it began with, nats a latent "
        "dimension; null: never.",
    )
    prompt_set: str | None = Field(default=None, description="null: the project's own.")
    seed: int = Field(default=0, ge=0, lt=2**31, description="Of prompts, noise and evaluations.")
    sampling: SamplingParams = SamplingParams()
    training: TrainingParams = TrainingParams()


class AutoParams(AutoOptions):
    """With the rewards that it learns from and is measured by."""

    reward: RewardParams
    epochs: int = Field(default=10, ge=1, le=MAX_EPOCHS, description="How often to sample, score and train.")

    @property
    def score_names(self) -> list[str]:
        """Under what the scores of its rewards are kept."""
        return [chosen.key for chosen in self.reward.rewards]

    @property
    def weights(self) -> dict[str, float] | None:
        """Of the rewards, by the same names; None where dominance combines them."""
        given = self.reward.weights
        return None if given is None else dict(zip(self.score_names, given, strict=True))


def params_of(auto: Round) -> AutoParams:
    return AutoParams.model_validate({name: value for name, value in auto.params.items() if name in AutoParams.model_fields})
