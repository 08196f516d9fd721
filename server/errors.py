"""Everything that can go wrong for a person, as sentences.

    D3poError
     ├── NotSignedIn 401   who are you?
     ├── Denied      403   you may not
     │    └── StaleForm   the form was made for another session; reload it
     ├── NotFound    404   there is no such thing
     ├── MethodNotAllowed 405   this address does something else
     ├── Conflict    409   it cannot be done in the present state
     ├── Gone        410   it was there once
     ├── TooLarge    413   more than is taken at once
     ├── Invalid     422   what was sent makes no sense
     ├── TooMany     429   too often; wait
     └── Unavailable 503   not now; try again

`str(error)` is the sentence: what happened, what was kept, what to do.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, ClassVar, TypeVar

from pydantic import BaseModel, ValidationError

Model = TypeVar("Model", bound=BaseModel)


class D3poError(Exception):
    status: ClassVar[int] = 500
    code: ClassVar[str] = "error"


class NotSignedIn(D3poError):
    status, code = 401, "not_signed_in"


class Denied(D3poError):
    status, code = 403, "denied"


class StaleForm(Denied):
    """Its own code: whoever sent the form keeps what it says and sends it again after a reload."""

    code = "stale_form"


class NotFound(D3poError):
    status, code = 404, "not_found"


class MethodNotAllowed(D3poError):
    status, code = 405, "method_not_allowed"


class Conflict(D3poError):
    status, code = 409, "conflict"


class Gone(D3poError):
    status, code = 410, "gone"


class TooLarge(D3poError):
    status, code = 413, "too_large"


class Invalid(D3poError):
    status, code = 422, "invalid"


class TooMany(D3poError):
    status, code = 429, "too_many"


class Unavailable(D3poError):
    status, code = 503, "unavailable"


HINTS = {
    "eta": "At 0 the chain is not random, so there is nothing to train on; above 1 it is not defined.",
    "images_per_prompt": "A choice needs at least two images.",
    "num_inference_steps": "Without denoising steps there is no image.",
}


def parse(model: type[Model], values: Mapping[str, Any], labels: Mapping[str, str] = {}) -> Model:
    """`model` built from what a person sent; Invalid with a sentence where it does not fit. `labels`: what a form calls its
    fields."""
    try:
        return model.model_validate(dict(values))
    except ValidationError as error:
        raise Invalid(describe(error.errors(), labels)) from error


def describe(faults: Sequence[Any], labels: Mapping[str, str] = {}) -> str:
    """Pydantic's list of faults as sentences for a person."""
    return " ".join(dict.fromkeys(_sentence(fault, labels) for fault in faults))


def _sentence(fault: Mapping[str, Any], labels: Mapping[str, str]) -> str:
    inside = () if fault["type"] == "json_invalid" else fault["loc"]
    path = [str(part) for part in inside if part not in ("body", "query", "path", "header")]
    name = labels.get(path[-1] if path else "", ".".join(path)) or "The request"
    told = f"{name} {_rule(fault)}."
    hint = HINTS.get(path[-1]) if path else None
    return f"{told} {hint}" if hint and fault["type"] not in ("missing", "extra_forbidden") else told


def _rule(fault: Mapping[str, Any]) -> str:
    context, kind = fault.get("ctx") or {}, fault["type"]
    bounds = {
        "greater_than": "must be greater than {gt:g}",
        "greater_than_equal": "must be at least {ge:g}",
        "less_than": "must be less than {lt:g}",
        "less_than_equal": "must be at most {le:g}",
        "literal_error": "must be {expected}",
        "enum": "must be {expected}",
        "too_short": "needs at least {min_length}",
        "too_long": "takes at most {max_length}",
        "string_too_short": "needs at least {min_length} character(s)",
        "string_too_long": "takes at most {max_length} characters",
    }
    if kind in bounds:
        return bounds[kind].format(**context) + _sent(fault.get("input"))
    if kind == "missing":
        return "is missing"
    if kind == "extra_forbidden":
        return "is not a known field"
    if kind == "json_invalid":
        return "is not valid JSON"
    if kind == "model_attributes_type":
        return "must be a JSON object"
    message = str(fault["msg"]).removeprefix("Value error, ").removeprefix("Input ")
    return message[:1].lower() + message[1:].rstrip(".")


def _sent(value: Any) -> str:
    if isinstance(value, list | dict):
        return f", you sent {len(value)}"
    if isinstance(value, str) and len(value) > 40:
        return f", you sent {len(value):,} characters"
    return f", you sent {value}"
