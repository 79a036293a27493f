"""Names for requests: unique without asking anybody, not to be guessed, and in the order of their time.

    req_ | milliseconds since 1970, 12 hex digits | 80 random bits, 20 hex digits

They are primary keys in the stores, where what comes in order is put at an index's end instead of all over it: see
decision 10. Nothing relies on the order, so a clock that is set back does no harm.
"""

import os
import time
from collections.abc import Callable

_RANDOM_BYTES = 10
_AT_ONCE = 256  # ids for one system call; what a block leaves unused is thrown away with the process


class RequestIds:
    """Makes them, for one thread. A child process begins with random bytes of its own."""

    __slots__ = ("_at_ms", "_beginning", "_endings", "_random_bytes", "_wall")

    def __init__(
        self, wall: Callable[[], float] = time.time, random_bytes: Callable[[int], bytes] = os.urandom
    ) -> None:
        self._wall = wall
        self._random_bytes = random_bytes
        self._at_ms = -1
        self._beginning = ""  # shared by the ids of a millisecond
        self._endings: list[str] = []
        os.register_at_fork(after_in_child=self._endings.clear)

    def __call__(self) -> str:
        if not self._endings:
            self._refill()
        now_ms = int(self._wall() * 1000)
        if now_ms != self._at_ms:
            self._at_ms, self._beginning = now_ms, f"req_{now_ms:012x}"
        return self._beginning + self._endings.pop()

    def _refill(self) -> None:
        digits, size = self._random_bytes(_AT_ONCE * _RANDOM_BYTES).hex(), 2 * _RANDOM_BYTES
        self._endings += [digits[start : start + size] for start in range(0, len(digits), size)]
