"""Error shapes for the OpenAPI document."""

from __future__ import annotations

from typing import Any

from server.api.shapes import Problem

EXAMPLES = {
    401: ("not_signed_in", "Sign in first; with the API, send `Authorization: Bearer TOKEN`."),
    403: ("denied", "You are not a member of this project. Ask one of its operators for an invitation."),
    404: ("not_found", "There is no such project."),
    409: ("conflict", "Round 3 is done already; there is nothing to cancel."),
    410: ("gone", "You no longer hold this task; somebody else may have it. Ask for the next one."),
    413: ("too_large", "A round takes at most 10,000 prompts, you sent 12,000. Split them over several rounds."),
    422: ("invalid", "images_per_prompt must be at least 2, you sent 1. A choice needs at least two images."),
    503: ("unavailable", "The database is busy or does not answer. Nothing was changed; try again in a moment."),
}


Responses = dict[int | str, dict[str, Any]]


def problems(*statuses: int) -> Responses:
    return {status: _problem(status) for status in statuses}


def gives(media_type: str, *statuses: int) -> Responses:
    """An answer that is not JSON, and the problems it may have instead."""
    return problems(*statuses) | {200: {"content": {media_type: {}}}}


def _problem(status: int) -> dict[str, Any]:
    error, detail = EXAMPLES[status]
    content = {"application/json": {"example": {"error": error, "detail": detail}}}
    return {"model": Problem, "description": detail, "content": content}
