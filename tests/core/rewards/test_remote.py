"""The HTTP reward against a real server on this machine: what it sends, when it asks again, and what it refuses."""

from __future__ import annotations

import base64
import socket
import time
from collections.abc import Iterator
from io import BytesIO
from typing import Any

import numpy as np
import pytest
from PIL import Image

from d3po_core.errors import BadParams, BadReward, RewardUnavailable
from d3po_core.rewards import Reward, load_reward
from tests.factories.scorer_server import ScorerServer, scorer_server

PROMPTS = ["a cat", "zwölf Boxkämpfer", "an owl"]


@pytest.fixture
def server() -> Iterator[ScorerServer]:
    with scorer_server() as server:
        yield server


def reward(server: ScorerServer, **parameters: Any) -> Reward:
    return load_reward("http", url=server.url, **{"pause": 0.0, "timeout": 5.0, **parameters})


def pictures() -> list[Image.Image]:
    rng = np.random.default_rng(0)
    return [Image.fromarray(rng.integers(0, 256, (8, 6, 3), dtype=np.uint8)) for _ in range(3)]


def test_pixels_and_prompts_arrive_as_they_are_and_scores_come_back(server: ScorerServer) -> None:
    server.answer(content={"scores": [1, -2.5, 3e2]})
    assert reward(server).score(pictures(), PROMPTS) == [1.0, -2.5, 300.0]
    (asked,) = server.asked
    assert asked["prompts"] == PROMPTS
    received = [Image.open(BytesIO(base64.b64decode(text))) for text in asked["images"]]
    assert all((np.asarray(a) == np.asarray(b)).all() for a, b in zip(received, pictures(), strict=True))


def test_a_request_holds_a_batch(server: ScorerServer) -> None:
    assert reward(server, batch_size=2).score(pictures(), PROMPTS) == [0.5, 0.5, 0.5]
    assert [len(asked["images"]) for asked in server.asked] == [2, 1]


@pytest.mark.parametrize("status", [429, 500, 503])
def test_a_busy_scorer_is_asked_again(status: int, server: ScorerServer) -> None:
    server.answer(status)
    server.answer(status)
    assert reward(server, attempts=3).score(pictures(), PROMPTS) == [0.5, 0.5, 0.5]
    assert len(server.asked) == 3


def test_the_pause_doubles(server: ScorerServer, monkeypatch: pytest.MonkeyPatch) -> None:
    pauses: list[float] = []
    monkeypatch.setattr(time, "sleep", pauses.append)
    for _ in range(8):
        server.answer(503)
    with pytest.raises(RewardUnavailable):
        reward(server, attempts=8, pause=1.0).score(pictures(), PROMPTS)
    assert pauses == [1, 2, 4, 8, 16, 30, 30]


def test_a_scorer_that_stays_busy_is_given_up(server: ScorerServer) -> None:
    server.answer(503)
    server.answer(502)
    with pytest.raises(RewardUnavailable, match=r"/score gave no scores in 2 attempts of 5 s; the last time it answered 502"):
        reward(server, attempts=2).score(pictures(), PROMPTS)


def test_a_scorer_that_cannot_be_reached_is_named() -> None:
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        url = f"http://127.0.0.1:{free.getsockname()[1]}/score"
    unreachable = load_reward("http", url=url, attempts=2, pause=0.0)
    with pytest.raises(
        RewardUnavailable, match=f"The scorer {url} gave no scores in 2 attempts of 60 s; the last time ConnectError"
    ):
        unreachable.score(pictures(), PROMPTS)


def test_an_answer_that_never_ends_is_timed_out(server: ScorerServer) -> None:
    server.slow = True
    server.answer(content=b" " * 10_000)
    started = time.monotonic()
    with pytest.raises(RewardUnavailable, match=r"1 attempts of 0\.3 s; the last time ReadTimeout: the answer took too long"):
        reward(server, attempts=1, timeout=0.3).score(pictures(), PROMPTS)
    assert time.monotonic() - started < 2


@pytest.mark.parametrize("status", [301, 302, 307, 308])
def test_a_redirect_is_not_followed(status: int, server: ScorerServer) -> None:
    with scorer_server() as elsewhere:
        server.answer(status, location=elsewhere.url)
        with pytest.raises(BadReward, match=f"redirects to {elsewhere.url}; name the address itself"):
            reward(server).score(pictures(), PROMPTS)
        assert elsewhere.asked == []


def test_a_redirect_to_nowhere_is_refused_too(server: ScorerServer) -> None:
    server.answer(304)
    with pytest.raises(BadReward, match="redirects to nowhere"):
        reward(server).score(pictures(), PROMPTS)


def test_a_refusal_is_told_and_not_repeated(server: ScorerServer) -> None:
    server.answer(400, b"images must be square")
    with pytest.raises(BadReward, match="refused the images with 400: images must be square"):
        reward(server).score(pictures(), PROMPTS)
    assert len(server.asked) == 1


@pytest.mark.parametrize(
    ("content", "says"),
    [
        (b"", "answered b'', which is no JSON"),
        (b"<html>", "answered b'<html>', which is no JSON"),
        ([1, 2, 3], "expected is"),
        ({"score": [1, 2, 3]}, "expected is"),
        ({"scores": 1}, "expected is"),
        ({"scores": [1, 2]}, "The reward http answered 2 scores for 3 images"),
        ({"scores": []}, "The reward http answered 0 scores for 3 images"),
        ({"scores": [1, None, 3]}, "The reward http answered None for image 1"),
        ({"scores": [1, "2", 3]}, "The reward http answered '2' for image 1"),
        (b'{"scores": [1, 2, NaN]}', "The reward http answered nan for image 2"),
        (b'{"scores": [1, 2, 1e999]}', "The reward http answered inf for image 2"),
        (b" " * 1_000_001, "answers with more than 1,000,000 bytes"),
    ],
)
def test_an_answer_that_is_no_list_of_scores_is_refused(content: Any, says: str, server: ScorerServer) -> None:
    server.answer(content=content)
    with pytest.raises(BadReward, match=says):
        reward(server).score(pictures(), PROMPTS)
    assert len(server.asked) == 1


@pytest.mark.parametrize(
    ("url", "says"),
    [
        ("ftp://scorer.example/", "URL scheme should be 'http' or 'https'"),
        ("scorer.example", "url: "),
        ("http://", "url: "),
        ("http://ann:secret@scorer.example/", "carries no user name and no password"),
    ],
)
def test_an_address_that_is_none_is_refused(url: str, says: str) -> None:
    with pytest.raises(BadParams, match=says) as caught:
        load_reward("http", url=url)
    assert "secret" not in str(caught.value)
