"""Passwords open, guessing slows down, and nothing waits for a hash."""

from __future__ import annotations

import threading
from concurrent.futures import ThreadPoolExecutor

import pytest
from sqlalchemy.orm import Session

from server.domain import passwords, people
from server.domain.passwords import Throttle
from server.errors import Invalid, NotSignedIn, TooMany
from tests import factories

PASSWORD = "correct horse battery"


class Clock:
    def __init__(self) -> None:
        self.seconds = 0.0

    def __call__(self) -> float:
        return self.seconds


@pytest.fixture
def clock(monkeypatch: pytest.MonkeyPatch) -> Clock:
    clock = Clock()
    monkeypatch.setattr(passwords, "throttle", Throttle(clock=clock))
    return clock


def test_the_right_one_opens(session: Session, clock: Clock) -> None:
    alice = factories.user(name="Alice", password_hash=passwords.hashed(PASSWORD))
    factories.commit()
    assert passwords.check(" alice ", PASSWORD, "here") == alice.id
    assert (alice.password_hash or "").startswith("$argon2id$")


def test_wrong_unknown_missing_and_revoked_sound_the_same(session: Session, clock: Clock) -> None:
    kept = passwords.hashed(PASSWORD)
    factories.user(name="Alice", password_hash=kept)
    factories.user(name="Bob")
    people.revoke(session, factories.admin(), factories.user(name="Carol", password_hash=kept))
    factories.commit()
    for name, password in (("Alice", "wrong"), ("Nobody", PASSWORD), ("Bob", ""), ("Carol", PASSWORD)):
        with pytest.raises(NotSignedIn, match="do not belong together"):
            passwords.check(name, password, "here")


@pytest.mark.parametrize("password", ["", "short", "x" * 201])
def test_it_has_a_decent_length(password: str) -> None:
    with pytest.raises(Invalid, match="10 to 200 characters"):
        passwords.hashed(password)


def test_guesses_wait_longer_and_longer() -> None:
    clock = Clock()
    throttle, waits = Throttle(clock=clock), []
    for _ in range(16):
        waits.append(throttle.seconds_left("alice", "there"))
        clock.seconds += waits[-1]
        throttle.failed("alice", "there")
    assert waits[:8] == [0, 0, 0, 0, 0, 1, 2, 4]
    assert waits[-1] == 300
    assert throttle.seconds_left("alice", "elsewhere") == throttle.seconds_left("bob", "there") == 0
    throttle.succeeded("alice", "there")
    assert throttle.seconds_left("alice", "there") == 0


def test_one_address_does_not_try_everybody() -> None:
    throttle = Throttle(clock=Clock())
    for number in range(50):
        throttle.failed(f"person {number}", "there")
    assert throttle.seconds_left("alice", "there") > 0
    assert throttle.seconds_left("alice", "elsewhere") == 0


def test_too_many_guesses_are_told_to_wait(session: Session, clock: Clock) -> None:
    factories.user(name="Alice", password_hash=passwords.hashed(PASSWORD))
    factories.commit()
    for _ in range(5):
        with pytest.raises(NotSignedIn):
            passwords.check("Alice", "wrong", "there")
    with pytest.raises(TooMany, match="wait 1 s, or open a sign-in link"):
        passwords.check("Alice", PASSWORD, "there")
    assert passwords.check("Alice", PASSWORD, "elsewhere")
    clock.seconds += 1
    assert passwords.check("Alice", PASSWORD, "there")


def test_few_wait_for_their_turn(monkeypatch: pytest.MonkeyPatch) -> None:
    """A thread that waits for a hash is one that takes no vote."""
    places = passwords.AT_ONCE + passwords.WAITING
    go_on, inside = threading.Event(), threading.Semaphore(0)

    class Slow:
        def hash(self, password: str) -> str:
            inside.release()
            go_on.wait(10)
            return password

    monkeypatch.setattr(passwords, "_argon2", Slow())
    with ThreadPoolExecutor(places) as pool:
        first = pool.submit(passwords.hashed, PASSWORD)
        inside.acquire(timeout=10)
        waiting = [pool.submit(passwords.hashed, PASSWORD) for _ in range(places - 1)]
        while passwords._places._value:
            threading.Event().wait(0.01)
        assert not inside.acquire(timeout=0.1)
        with pytest.raises(TooMany, match="Too many people are signing in"):
            passwords.hashed(PASSWORD)
        go_on.set()
        assert [job.result(10) for job in [first, *waiting]] == [PASSWORD] * places
