"""Passwords: hashing them, checking them, and slowing down whoever guesses.

Argon2 takes a tenth of a second and 64 MiB. Call both verbs outside any transaction, so that nobody's vote waits for it;
one is computed at a time, and only a few may wait.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from threading import BoundedSemaphore, Lock

from argon2 import PasswordHasher
from argon2.exceptions import VerificationError
from sqlalchemy import select

from server.db import read_scope
from server.errors import Invalid, NotSignedIn, TooMany
from server.models import User, name_key

SHORTEST, LONGEST = 10, 200
AT_ONCE, WAITING = 1, 8

_argon2 = PasswordHasher()
_nobody = _argon2.hash("nobody has this password")
_places, _turns = BoundedSemaphore(AT_ONCE + WAITING), BoundedSemaphore(AT_ONCE)


@dataclass
class Throttle:
    """Wrong guesses of this process, by name, by address and by both: some are free, then each doubles the wait.

    Few are free to one address with one name; many to one address (an office shares it) and on one name (nobody is kept
    out by what strangers guess elsewhere).
    """

    free: tuple[int, int, int] = (5, 50, 100)
    longest_wait: float = 300.0
    forget_after: float = 900.0
    clock: Callable[[], float] = time.monotonic
    _failures: dict[tuple[str, str], tuple[int, float]] = field(default_factory=dict)
    _lock: Lock = field(default_factory=Lock)

    def seconds_left(self, name: str, address: str) -> float:
        """How long this guess must still wait; 0: go on."""
        with self._lock:
            return max(self._wait(*each) for each in self._each(name, address))

    def failed(self, name: str, address: str) -> None:
        with self._lock:
            self._forget()
            for key, _ in self._each(name, address):
                self._failures[key] = (self._failures.get(key, (0, 0.0))[0] + 1, self.clock())

    def succeeded(self, name: str, address: str) -> None:
        with self._lock:
            self._failures.pop((name, address), None)

    def _each(self, name: str, address: str) -> Iterator[tuple[tuple[str, str], int]]:
        return zip([(name, address), ("", address), (name, "")], self.free, strict=True)

    def _wait(self, key: tuple[str, str], free: int) -> float:
        count, last = self._failures.get(key, (0, 0.0))
        wait = min(2.0 ** min(count - free, 30), self.longest_wait) if count >= free else 0.0
        return max(0.0, last + wait - self.clock())

    def _forget(self) -> None:
        old = self.clock() - self.forget_after
        self._failures = {key: value for key, value in self._failures.items() if value[1] > old}


throttle = Throttle()


def hashed(password: str) -> str:
    """What the database keeps of a password."""
    if not SHORTEST <= len(password) <= LONGEST:
        raise Invalid(f"A password needs {SHORTEST} to {LONGEST} characters.")
    with _turn():
        return _argon2.hash(password)


def check(name: str, password: str, address: str) -> str:
    """The id of the person with this name and password. An unknown name takes as long as a wrong password."""
    key = name_key(name)[:LONGEST]
    if left := throttle.seconds_left(key, address):
        raise TooMany(f"Too many wrong passwords. Nothing was changed; wait {left:.0f} s, or open a sign-in link instead.")
    with read_scope() as session:
        user = session.scalar(select(User).where(User.name_key == key, User.revoked_at.is_(None)))
    try:
        with _turn():
            _argon2.verify((user and user.password_hash) or _nobody, password)
    except VerificationError:
        user = None
    if user is None or user.password_hash is None:
        throttle.failed(key, address)
        raise NotSignedIn("That name and password do not belong together.")
    throttle.succeeded(key, address)
    return user.id


@contextmanager
def _turn() -> Iterator[None]:
    if not _places.acquire(blocking=False):
        raise TooMany("Too many people are signing in at this moment. Nothing was changed; try again in a few seconds.")
    try:
        with _turns:
            yield
    finally:
        _places.release()
