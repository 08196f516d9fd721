"""Auto rounds: sample, score, train and evaluate by themselves, for many epochs."""

from server.domain.auto.advancing import follow, launched
from server.domain.auto.params import MAX_EPOCHS, AutoOptions, AutoParams, params_of
from server.domain.auto.progress import Epochs, epochs_of
from server.domain.auto.requesting import latest, request_auto_round

__all__ = [
    "MAX_EPOCHS", "AutoOptions", "AutoParams", "Epochs", "epochs_of", "follow", "latest", "launched", "params_of",
    "request_auto_round",
]  # fmt: skip
