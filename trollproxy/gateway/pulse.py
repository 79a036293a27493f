"""A sign of life for a client that waits on a silent stream: proxies and clients give up on dead connections."""

import asyncio
from collections.abc import Callable
from types import TracebackType


class Pulse:
    """Inside the context, `beat` is called before a silence is `silence_s` long. Who sends something sets `is_quiet`
    to False.

    It looks twice in that time and reads no clock, so that a word costs that one assignment.
    """

    __slots__ = ("_beat", "_period_s", "_timer", "is_quiet")

    def __init__(self, silence_s: float, beat: Callable[[], object]) -> None:
        self._period_s = silence_s / 2
        self._beat = beat
        self.is_quiet = False
        self._timer: asyncio.TimerHandle | None = None

    def __enter__(self) -> None:
        self._timer = asyncio.get_running_loop().call_later(self._period_s, self._look)

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None
        self._beat = _nothing  # who hears it holds it: a cycle would keep all that they know until the collector comes

    def _look(self) -> None:
        if self.is_quiet:
            self._beat()
        self.is_quiet = True
        self._timer = asyncio.get_running_loop().call_later(self._period_s, self._look)


def _nothing() -> None:
    """It has ended."""
