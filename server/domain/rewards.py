"""Which rewards an operator may name: those of the library that take no parameters, and those that an admin registered.

What takes a path, a hub id or an address is registered in D3PO_REWARDS, so that none of them ever comes over HTTP.
"""

from __future__ import annotations

from typing import Any

from d3po_core.errors import BadParams
from d3po_core.rewards import KNOWN, ChosenReward, NoParams, RewardParams, validated
from server.errors import Invalid
from server.settings import get_settings

FREE = {name: known for name, known in KNOWN.items() if known.params is NoParams}


def known() -> dict[str, str]:
    """Names that can be scored by here, each with what it says."""
    registered = {name: _says(definition["reward"]) for name, definition in get_settings().rewards.items()}
    return {name: known.says for name, known in FREE.items()} | registered


def _says(kind: str) -> str:
    return KNOWN[kind].says if kind in KNOWN else f"The plug-in {kind}."


def checked(params: RewardParams) -> RewardParams:
    """With the parameters that the names stand for. Invalid for a name that stands for nothing here, or for others."""
    return params.model_copy(update={"rewards": [_checked(chosen) for chosen in params.rewards]})


def loadable(chosen: ChosenReward) -> tuple[str, dict[str, Any]]:
    """What d3po_core loads for it: (name, parameters). Invalid where the settings no longer say what was chosen."""
    parameters = dict(_checked(chosen).parameters)
    return parameters.pop("reward", chosen.name), parameters


def _checked(chosen: ChosenReward) -> ChosenReward:
    registered = get_settings().rewards.get(chosen.name)
    if registered is None and chosen.name not in FREE:
        raise Invalid(_unknown(chosen.name))
    if registered is None:
        try:
            return chosen.model_copy(update={"parameters": validated(chosen.name, chosen.parameters)})
        except BadParams as error:
            raise Invalid(str(error)) from error
    if chosen.parameters not in ({}, registered):
        raise Invalid(
            f"D3PO_REWARDS registers {chosen.name} with other parameters. Leave them out; a round that was requested before they "
            "were changed can be launched anew."
        )
    return chosen.model_copy(update={"parameters": registered})


def _unknown(name: str) -> str:
    told = f"{name} needs its parameters" if name in KNOWN else f"There is no reward {name[:80]} here"
    return f"{told}. An admin registers it in D3PO_REWARDS; there are {', '.join(known())}."
