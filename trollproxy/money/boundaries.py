"""The named steps between which a crash must lose and double nothing; the fault tests die at each of them.

In service the hook does nothing. `crash_at` makes it end the process at once, as a power cut would, at the n-th passing
of a boundary.
"""

import os
from collections.abc import Callable

Boundary = Callable[[str], None]

BOUNDARIES = (
    "before_intent",
    "before_charge",
    "before_put_down",
    "after_put_down",
    "before_flush",
    "after_flush",
    "after_acknowledge",
    "before_recovery",
    "after_recovery",
)
CRASHED = 70  # EX_SOFTWARE, told apart from every exit code of our own


def pass_by(_boundary: str) -> None:
    """What service does at a boundary."""


def crash_at(text: str) -> Boundary:
    """From `name` or `name:n`; an unknown name is refused, since it would test nothing."""
    name, _, count = text.partition(":")
    if name not in BOUNDARIES:
        raise ValueError(f"{name!r} is none of {', '.join(BOUNDARIES)}")
    left = int(count or 1)
    if left < 1:
        raise ValueError(f"{text!r} would never happen")

    def at(boundary: str) -> None:
        nonlocal left
        if boundary == name:
            left -= 1
            if left == 0:
                os._exit(CRASHED)

    return at
