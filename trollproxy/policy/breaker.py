"""Whether a provider is worth asking for a model: closed, open, half-open.

Closed, it counts answers and failures over a sliding window, and opens when enough requests were counted and too large
a share of them failed. Open, nobody asks. Half-open, one request at a time may, and what it finds out decides.

A breaker is for a provider that is down, not for one that has a bad day: retries look after that one, and shutting it
out would take from its clients what it still answers. Hence the high default share. Time and randomness are passed in.
"""

from typing import Literal, NamedTuple

State = Literal["closed", "open", "half_open"]

_SLICES = 10  # of the window; a slice is forgotten whole
_MAX_DOUBLINGS = 32


class BreakerPolicy(NamedTuple):
    """When it opens, and for how long: twice as long after each probe that fails, up to a bound."""

    window_s: float = 30.0
    min_requests: int = 20  # at half failing, 18 failures of 20 happen once in 5,000 times
    failure_share: float = 0.9
    open_s: float = 5.0
    longest_open_s: float = 60.0
    jitter_share: float = 0.2  # so that many gateways do not ask again at one moment
    probe_patience_s: float = 10.0  # a probe that is silent for longer lets another one pass


class Permit:
    """Leave to send one request. It is given back by `leave`."""

    __slots__ = ("is_probe", "term")

    def __init__(self, term: int, *, is_probe: bool) -> None:
        self.term = term
        self.is_probe = is_probe


class _Window:
    """Answers and failures of the last while, by slices of time."""

    __slots__ = ("_failed", "_good", "_newest", "_slice_s")

    def __init__(self, window_s: float) -> None:
        self._slice_s = window_s / _SLICES
        self._good = [0] * _SLICES
        self._failed = [0] * _SLICES
        self._newest = 0

    def add(self, now_s: float, *, is_failure: bool) -> None:
        (self._failed if is_failure else self._good)[self._forget(now_s)] += 1

    def counts(self, now_s: float) -> tuple[int, int]:
        """All of them, and the failed."""
        self._forget(now_s)
        failed = sum(self._failed)
        return failed + sum(self._good), failed

    def _forget(self, now_s: float) -> int:
        """Empty the slices that have become too old; the place of the current one."""
        current = int(now_s / self._slice_s)
        if current == self._newest:
            return current % _SLICES
        for stale in range(max(self._newest + 1, current - _SLICES + 1), current + 1):
            self._good[stale % _SLICES] = self._failed[stale % _SLICES] = 0
        self._newest = max(self._newest, current)
        return current % _SLICES


class Breaker:
    """One provider and one model."""

    __slots__ = (
        "_opened_in_row",
        "_permit",
        "_policy",
        "_probe_until_s",
        "_term",
        "_until_s",
        "_window",
        "changes",
        "state",
    )

    def __init__(self, policy: BreakerPolicy) -> None:
        self._policy = policy
        self._window = _Window(policy.window_s)
        self._until_s = 0.0
        self._probe_until_s = 0.0
        self._opened_in_row = 0
        self._permit = Permit(0, is_probe=False)  # while it is closed, for all
        self._term = 0  # grows with each change: what was sent before it says nothing of the time after it
        self.state: State = "closed"
        self.changes: dict[State, int] = {}

    def free_at_s(self, now_s: float) -> float:
        """When a request may pass; now if one may."""
        if self.state == "open":
            return max(now_s, self._until_s)
        return max(now_s, self._probe_until_s) if self.state == "half_open" else now_s

    def enter(self, now_s: float) -> Permit | None:
        if self.state == "closed":
            return self._permit
        if self.free_at_s(now_s) > now_s:
            return None
        if self.state == "open":
            self._turn("half_open")
        self._probe_until_s = now_s + self._policy.probe_patience_s
        return Permit(self._term, is_probe=True)

    def leave(self, permit: Permit, is_good: bool | None, *, now_s: float, chance: float) -> bool:
        """`is_good` None: nothing was learnt. `chance` is a random number below 1. Whether the state changed."""
        before = self.state
        if permit.term == self._term:
            if self.state == "closed" and is_good is not None:
                self._count(now_s, is_good=is_good, chance=chance)
            elif self.state == "half_open":
                self._judge(is_good, now_s, chance)
        return self.state != before

    def _count(self, now_s: float, *, is_good: bool, chance: float) -> None:
        self._window.add(now_s, is_failure=not is_good)
        if is_good:
            return
        counted, failed = self._window.counts(now_s)
        if counted >= self._policy.min_requests and failed >= counted * self._policy.failure_share:
            self._open(now_s, chance)

    def _judge(self, is_good: bool | None, now_s: float, chance: float) -> None:
        if is_good is None:
            self._probe_until_s = now_s
        elif is_good:
            self._opened_in_row = 0
            self._window = _Window(self._policy.window_s)
            self._turn("closed")
        else:
            self._open(now_s, chance)

    def _open(self, now_s: float, chance: float) -> None:
        policy = self._policy
        open_s = min(policy.open_s * 2 ** min(self._opened_in_row, _MAX_DOUBLINGS), policy.longest_open_s)
        self._until_s = now_s + open_s * (1 + policy.jitter_share * chance)
        self._opened_in_row += 1
        self._turn("open")

    def _turn(self, state: State) -> None:
        self.state = state
        self._term += 1
        self._permit = Permit(self._term, is_probe=False)
        self.changes[state] = self.changes.get(state, 0) + 1
