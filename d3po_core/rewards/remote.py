"""A scorer anywhere, over HTTP: images and prompts go out as JSON, scores come back.

    POST url   {"images": [base64 of a PNG, ...], "prompts": ["...", ...]}
    200        {"scores": [1.5, ...]}

One request a batch. What cannot be reached, times out or answers 429 or 5xx is asked again, each time after twice the pause;
a redirect is refused, so that images go nowhere but to the address that was given.
"""

from __future__ import annotations

import base64
import json
import time
from io import BytesIO
from typing import Any

import httpx
from PIL import Image

from d3po_core.errors import BadReward, RewardUnavailable
from d3po_core.rewards.base import Scorer

MAX_ANSWER = 1_000_000
"""Bytes of an answer that are read."""
MAX_PAUSE = 30.0
"""Seconds."""


def scorer(device: str, url: str, timeout: float, attempts: int, pause: float) -> Scorer:
    def score(images: list[Image.Image], prompts: list[str]) -> Any:
        body = {"images": [png(image) for image in images], "prompts": prompts}
        return scores_in(url, ask(url, body, timeout, attempts, pause))

    return score


def png(image: Image.Image) -> str:
    """The stored pixels, without loss, in base64."""
    buffer = BytesIO()
    image.convert("RGB").save(buffer, format="PNG")
    return base64.b64encode(buffer.getvalue()).decode()


def ask(url: str, body: dict[str, Any], timeout: float, attempts: int, pause: float) -> bytes:
    """The body of the first good answer. Raises RewardUnavailable after the last attempt, BadReward for a refusal."""
    fault = ""
    with httpx.Client(timeout=timeout, follow_redirects=False) as client:
        for attempt in range(attempts):
            if attempt:
                time.sleep(min(pause * 2 ** (attempt - 1), MAX_PAUSE))
            try:
                status, content = _post(client, url, body, time.monotonic() + timeout)
            except httpx.TransportError as error:
                fault = f"{type(error).__name__}: {error}"
                continue
            if status == 200:
                return content
            if status != 429 and status < 500:
                raise BadReward(f"The scorer {url} refused the images with {status}: {content[:200].decode(errors='replace')}")
            fault = f"it answered {status}"
    raise RewardUnavailable(f"The scorer {url} gave no scores in {attempts} attempts of {timeout:g} s; the last time {fault}.")


def _post(client: httpx.Client, url: str, body: dict[str, Any], deadline: float) -> tuple[int, bytes]:
    """Status and content, read until the deadline whatever the pace of the answer."""
    with client.stream("POST", url, json=body) as response:
        if response.is_redirect:
            elsewhere = response.headers.get("location", "nowhere")
            raise BadReward(f"The scorer {url} redirects to {elsewhere}; name the address itself.")
        content = b""
        for chunk in response.iter_bytes():
            content += chunk
            if len(content) > MAX_ANSWER:
                raise BadReward(f"The scorer {url} answers with more than {MAX_ANSWER:,} bytes; scores are shorter.")
            if time.monotonic() > deadline:
                raise httpx.ReadTimeout("the answer took too long")
        return response.status_code, content


def scores_in(url: str, content: bytes) -> Any:
    """What stands under "scores"; whether it is one number an image is checked as for every reward."""
    try:
        answer = json.loads(content)
    except ValueError as error:
        raise BadReward(f"The scorer {url} answered {content[:60]!r}, which is no JSON.") from error
    if not isinstance(answer, dict) or not isinstance(answer.get("scores"), list):
        raise BadReward(f'The scorer {url} answered {content[:60]!r}; expected is {{"scores": [one number an image]}}.')
    return answer["scores"]
