"""The limits of time: the sliding window and the day.

A window admits at most so many requests in any period of its length, exactly. It remembers the time of each admitted
request of the last period, so memory follows traffic: an idle caller costs nothing, a busy one at most its own limit.
"""

from collections import deque
from datetime import UTC, datetime
from functools import lru_cache
from itertools import islice

PERIOD_S = 60.0
DAY_S = 86_400


class Verdict:
    """What the window says of a request at a moment."""

    __slots__ = ("allowed", "limit", "remaining", "reset_s", "retry_after_s")

    def __init__(
        self, limit: int, remaining: int, *, allowed: bool, reset_s: float, retry_after_s: float = 0.0
    ) -> None:
        self.allowed = allowed
        self.limit = limit
        self.remaining = remaining
        self.reset_s = reset_s  # until the whole allowance is free again
        self.retry_after_s = retry_after_s  # until one more request fits; 0 if one fits now


class Window:
    """The requests of one caller."""

    __slots__ = ("_times",)

    def __init__(self) -> None:
        self._times: deque[float] = deque()

    def __len__(self) -> int:
        return len(self._times)

    def take(self, limit: int, now_s: float) -> Verdict:
        """Admit a request if it fits, and say where that leaves the caller."""
        times = self._forget(now_s)
        used = len(times)
        if used >= limit:
            free_at = times[used - limit] + PERIOD_S if limit > 0 else now_s + PERIOD_S
            return Verdict(limit, 0, allowed=False, reset_s=self._reset(now_s), retry_after_s=free_at - now_s)
        times.append(now_s)
        return Verdict(limit, limit - used - 1, allowed=True, reset_s=PERIOD_S)

    def is_full(self, limit: int, now_s: float) -> bool:
        return len(self._forget(now_s)) >= limit

    def _forget(self, now_s: float) -> deque[float]:
        times = self._times
        horizon = now_s - PERIOD_S
        while times and times[0] <= horizon:
            times.popleft()
        return times

    def _reset(self, now_s: float) -> float:
        return self._times[-1] + PERIOD_S - now_s if self._times else 0.0


class Windows:
    """Windows by caller, bounded: when there are too many, the idle ones go, then the oldest."""

    __slots__ = ("_bound", "_windows")

    def __init__(self, bound: int = 200_000) -> None:  # an empty window is about 700 bytes: 140 MB at the very most
        self._bound = bound
        self._windows: dict[str, Window] = {}

    def __len__(self) -> int:
        return len(self._windows)

    def of(self, caller: str, now_s: float) -> Window:
        window = self._windows.get(caller)
        if window is None:
            if len(self._windows) >= self._bound:
                self._make_room(now_s)
            window = self._windows[caller] = Window()
        return window

    def _make_room(self, now_s: float) -> None:
        """Room for many at once, so that going through all of them is rare."""
        self._windows = {caller: window for caller, window in self._windows.items() if window.is_full(1, now_s)}
        for caller in list(islice(self._windows, max(0, len(self._windows) - self._bound * 9 // 10))):
            del self._windows[caller]


def utc_day(wall_s: float) -> str:
    """The day that daily limits count against, as 2026-11-21."""
    return _name_of(int(wall_s // DAY_S))


@lru_cache(maxsize=2)  # every request asks, and nearly all for today
def _name_of(day: int) -> str:
    return datetime.fromtimestamp(day * DAY_S, UTC).strftime("%Y-%m-%d")
