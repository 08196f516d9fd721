"""Rewards by name: those that come with the library, and plug-ins of other packages. Each is imported when it is loaded."""

from __future__ import annotations

from dataclasses import dataclass
from importlib import import_module
from importlib.metadata import EntryPoint, entry_points
from typing import Any

from pydantic import ValidationError

from d3po_core.errors import BadParams, BadReward, CoreError
from d3po_core.params import Params
from d3po_core.rewards.base import Reward
from d3po_core.rewards.params import AestheticParams, ClipParams, HttpParams, ImageRewardParams, NoParams, PickScoreParams

PLUG_INS = "d3po.rewards"
"""Entry point group of plug-ins: each names a callable that takes `device` and its parameters and returns a Scorer."""


@dataclass(frozen=True)
class Known:
    """place: module and factory inside d3po_core.rewards; the factory takes `device` and the fields of `params`."""

    place: str
    says: str
    params: type[Params] = NoParams


KNOWN = {
    "compressibility": Known("pixels:compressibility_scorer", "Minus the size of the image as a JPEG of quality 95, kB."),
    "incompressibility": Known("pixels:incompressibility_scorer", "Size of the image as a JPEG of quality 95, kB."),
    "colourfulness": Known("pixels:colourfulness_scorer", "Hasler and Suesstrunk's colourfulness: 0 is grey, above 80 vivid."),
    "background": Known("pixels:background_scorer", "How near the border is to the background colour that a demo prompt names."),
    "clip_score": Known("clip:clip_score_scorer", "Cosine of CLIP's embeddings of image and prompt.", ClipParams),
    "pick_score": Known("clip:pick_score_scorer", "PickScore: what people picked, by a tuned CLIP-H.", PickScoreParams),
    "aesthetic": Known("clip:aesthetic_scorer", "LAION's aesthetic score on CLIP ViT-L/14, about 1 to 10.", AestheticParams),
    "image_reward": Known("image_reward:scorer", "ImageReward: how people would rank it, about -2 to 2.", ImageRewardParams),
    "safety": Known("safety:scorer", "Probability that the image is safe for work, by open_nsfw."),
    "http": Known("remote:scorer", "Whatever a scorer at an address says.", HttpParams),
}


def names() -> list[str]:
    """Names of all rewards that can be loaded here."""
    return sorted({*KNOWN, *_plug_ins()})


def validated(name: str, parameters: dict[str, Any]) -> dict[str, Any]:
    """The parameters of a reward of this library, with its defaults; those of a plug-in as they are, for it alone knows them.

    Raises BadParams, naming the reward and each fault.
    """
    if name not in KNOWN:
        return parameters
    try:
        return KNOWN[name].params(**parameters).model_dump()
    except ValidationError as error:
        faults = "; ".join(f"{'.'.join(map(str, fault['loc']))}: {fault['msg']}" for fault in error.errors())
        raise BadParams(f"The reward {name} cannot be loaded with these parameters. {faults}.") from error


def is_light(name: str) -> bool:
    """Whether it holds no model of its own on the device."""
    return name in KNOWN and KNOWN[name].params in (NoParams, HttpParams)


def load_reward(name: str, device: str = "cpu", batch_size: int = 16, **parameters: Any) -> Reward:
    """The reward of that name, its weights on `device`, scoring `batch_size` images at once.

    Raises BadParams for an unknown name, parameters that it does not take and a device that is not there, ModelMissing if
    its weights are not there, LibraryMissing if its package is not, BadReward if a plug-in fails to load.
    """
    if batch_size < 1:
        raise BadParams(f"A reward scores at least 1 image at once, not {batch_size}.")
    if name in KNOWN:
        known = KNOWN[name]
        given = validated(name, parameters)
        module, _, factory = known.place.partition(":")
        make = getattr(import_module(f"d3po_core.rewards.{module}"), factory)
        try:
            return Reward(name, make(device=device, **given), batch_size)
        except (RuntimeError, AssertionError) as error:  # torch's for a device that is not there or too small
            raise BadParams(f"The reward {name} cannot be loaded on the device {device}: {error}") from error
    plug_ins = _plug_ins()
    if name not in plug_ins:
        raise BadParams(f"There is no reward {name!r}; there are {', '.join(names())}.")
    return Reward(name, _plugged(name, plug_ins[name], device, parameters), batch_size)


def _plug_ins() -> dict[str, EntryPoint]:
    """A plug-in cannot take the name of a reward of this library: a name means the same everywhere."""
    return {point.name: point for point in entry_points(group=PLUG_INS) if point.name not in KNOWN}


def _plugged(name: str, point: EntryPoint, device: str, parameters: dict[str, Any]) -> Any:
    try:
        return point.load()(device=device, **parameters)
    except CoreError:
        raise
    except Exception as error:
        raise BadReward(f"The plug-in {name} ({point.value}) cannot be loaded: {type(error).__name__}: {error}") from error
