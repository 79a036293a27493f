"""How many requests a provider is sent: by the minute, hour and day, at one time, and who waits for their turn.

Windows slide by slices: a slice counts until the whole window lies behind its end, so no period of a window's length
ever holds more than the limit, at the price of a sixtieth of it in which a request might have gone already. Whoever
finds no room lines up, and is let in first come first served; a line is bounded, and empties before a newcomer is
looked at. What a provider refuses as too much cuts the pace (multiplicative); time gives it back (additive).

Pure: time is passed in. Must not know: how one waits, nor what a request is.
"""

from collections import OrderedDict, deque
from typing import NamedTuple

from trollproxy.policy.status import ThrottleStatus
from trollproxy.records import Pace

_SLICES = 60  # of a window; with periods of whole minutes their length is a whole number, which floats keep exactly
MINUTE_S, HOUR_S, DAY_S = 60.0, 3600.0, 86_400.0
LOOK_S = 0.25  # when to look again where nobody knows: all are busy, or the pace is being given back

CUT = 0.7  # what a refusal leaves of the pace
CUT_EVERY_S = 5.0  # refusals come in bursts, and each burst is one
LEAST_SHARE = 0.1  # so that it is noticed when the provider takes more again
RECOVERY_PER_S = 0.01  # a cut is made good in half a minute, the deepest in a minute and a half


class _Window:
    """The requests of the last while, by slices of time; as many numbers as there are slices."""

    __slots__ = ("_slice_s", "_slices", "total")

    def __init__(self, period_s: float) -> None:
        self._slice_s = period_s / _SLICES
        self._slices: deque[list[int]] = deque()  # number of the slice, requests in it
        self.total = 0

    def count(self, now_s: float) -> int:
        oldest = int(now_s / self._slice_s) - _SLICES
        while self._slices and self._slices[0][0] < oldest:
            self.total -= self._slices.popleft()[1]
        return self.total

    def add(self, now_s: float) -> None:
        number = int(now_s / self._slice_s)
        if self._slices and self._slices[-1][0] == number:
            self._slices[-1][1] += 1
        else:
            self._slices.append([number, 1])
        self.total += 1

    def take_back(self, at_s: float) -> None:
        number = int(at_s / self._slice_s)
        for found in self._slices:
            if found[0] == number:
                found[1] -= 1
                self.total -= 1

    def free_at_s(self, limit: int, now_s: float) -> float:
        """When one more fits."""
        left = self.count(now_s)
        for number, requests in self._slices:
            if left < limit:
                break
            left -= requests
            now_s = (number + _SLICES + 1) * self._slice_s
        return now_s


class Pass(NamedTuple):
    """Leave to send one request. Ended by `give_back`, or by `undo` if nothing was sent."""

    at_s: float


class Ticket:
    """A place in the line."""

    __slots__ = ()


class Throttle:
    """One provider's."""

    def __init__(self, pace: Pace) -> None:
        self.pace = pace  # may be replaced at any time: what was counted stays
        self._minute, self._hour, self._day = _Window(MINUTE_S), _Window(HOUR_S), _Window(DAY_S)
        self._line: OrderedDict[Ticket, None] = OrderedDict()
        self._share = 1.0  # when it was cut last
        self._cut_at_s = float("-inf")
        self.in_flight = 0
        self.cuts = 0

    @property
    def waiting(self) -> int:
        return len(self._line)

    @property
    def is_full(self) -> bool:
        """Whether the line takes nobody more."""
        return len(self._line) >= self.pace.max_queue

    def share(self, now_s: float) -> float:
        return min(1.0, self._share + (now_s - self._cut_at_s) * RECOVERY_PER_S) if self.cuts else 1.0

    def has_room(self, now_s: float) -> bool:
        """For one more, if nobody waits."""
        if not self._fits_in_flight(now_s):
            return False
        return all(window.count(now_s) < limit for window, limit in self._limits(now_s))

    def enter(self, now_s: float) -> Pass | None:
        """Without waiting; None if somebody waits already, or there is no room."""
        return None if self._line or not self.has_room(now_s) else self._let_in(now_s)

    def line_up(self, *, is_retry: bool) -> Ticket | None:
        """None if the line is full. A retry has waited before, and stands before those who have not gone yet."""
        if self.is_full:
            return None
        ticket = Ticket()
        self._line[ticket] = None
        if is_retry:
            self._line.move_to_end(ticket, last=False)
        return ticket

    def leave(self, ticket: Ticket) -> None:
        """Wait no more; without effect for one that was let in."""
        self._line.pop(ticket, None)

    def first(self) -> Ticket | None:
        return next(iter(self._line), None)

    def admit(self, now_s: float) -> Pass | None:
        """Let in the first of the line, if there is one and room for it."""
        if not self._line or not self.has_room(now_s):
            return None
        self._line.popitem(last=False)
        return self._let_in(now_s)

    def give_back(self) -> None:
        self.in_flight -= 1

    def undo(self, leave: Pass) -> None:
        """Nothing was sent, so nothing counts."""
        self.in_flight -= 1
        for window in (self._minute, self._hour, self._day):
            window.take_back(leave.at_s)

    def cut(self, leave: Pass, now_s: float) -> None:
        """The provider had too much of it. What was sent before the last cut says nothing of the pace since."""
        if leave.at_s <= self._cut_at_s or now_s - self._cut_at_s < CUT_EVERY_S:
            return
        self._share = max(LEAST_SHARE, self.share(now_s) * CUT)
        self._cut_at_s = now_s
        self.cuts += 1

    def free_at_s(self, now_s: float) -> float:
        """When to look for room: now if there is some, else when the windows have it, or a moment that nobody knows."""
        if self.has_room(now_s):
            return now_s
        at_s = max((window.free_at_s(limit, now_s) for window, limit in self._limits(now_s)), default=now_s)
        if not self._fits_in_flight(now_s):
            at_s = max(at_s, now_s + LOOK_S)
        # A pace that comes back may have room before the cut one would.
        return min(at_s, now_s + LOOK_S) if self.share(now_s) < 1 else at_s

    def status(self, now_s: float) -> ThrottleStatus:
        return ThrottleStatus(
            in_flight=self.in_flight,
            waiting=self.waiting,
            share=self.share(now_s),
            last_minute=self._minute.count(now_s),
            last_hour=self._hour.count(now_s),
            last_day=self._day.count(now_s),
        )

    def _let_in(self, now_s: float) -> Pass:
        self.in_flight += 1
        for window in (self._minute, self._hour, self._day):
            window.count(now_s)
            window.add(now_s)
        return Pass(now_s)

    def _fits_in_flight(self, now_s: float) -> bool:
        most = self.pace.max_in_flight
        return most is None or self.in_flight < self._paced(most, now_s)

    def _limits(self, now_s: float) -> list[tuple[_Window, int]]:
        """A cut is of the pace: hour and day are quotas, which are not used up any sooner by it."""
        pace, limits = self.pace, []
        if pace.per_minute is not None:
            limits.append((self._minute, self._paced(pace.per_minute, now_s)))
        if pace.per_hour is not None:
            limits.append((self._hour, pace.per_hour))
        if pace.per_day is not None:
            limits.append((self._day, pace.per_day))
        return limits

    def _paced(self, limit: int, now_s: float) -> int:
        return max(1, int(limit * self.share(now_s)))
