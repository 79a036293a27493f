"""After a failed try: whether there is another, where, and how long to wait before it.

The tries of one request go along its providers in their order, round after round. Another key or provider is tried at
once; who has been through all of them waits, twice as long before each new round. There is an end to the tries, to the
time in which they may begin, and to what all requests together may add to the traffic (`RetryBudget`).

Pure: time, randomness and the state of the providers are passed in. Must not know: what a try is, nor keys and pools.
"""

from collections.abc import Callable
from typing import NamedTuple

from trollproxy.errors import GatewayError, UpstreamTimeout

_QUICKER_S = 0.05  # of the patience, so that it comes to an end


class RetryPolicy(NamedTuple):
    """The bounds of one request's tries. Eight pass 99.6 % of requests where every second call fails."""

    max_tries: int = 8
    max_rounds: int = 4
    max_keys: int = 3  # at one provider in a row: its keys fail alike, and one refusal of all must not rest them all
    deadline_s: float = 60.0  # no try begins later; one that has begun has its own deadlines
    first_wait_s: float = 0.1
    longest_wait_s: float = 2.0
    patience_s: float = 2.0  # how long in all a request waits for a key that rests, before it is refused


class RetryBudget:
    """Every request adds a share of a retry and each retry takes a whole one, so an outage is not multiplied.

    `burst` is where it begins and the most that it holds: so many requests may be retried without the traffic to
    pay for it.
    """

    __slots__ = ("_burst", "_share", "left", "refused")

    def __init__(self, share: float, burst: float = 100.0) -> None:
        self._share = share
        self._burst = burst
        self.left = burst
        self.refused = 0

    def add(self) -> None:
        self.left += self._share
        if self.left > self._burst:  # noqa: PLR1730 - with every request, and `min` costs four times as much
            self.left = self._burst

    def take(self) -> bool:
        if self.left < 1:
            self.refused += 1
            return False
        self.left -= 1
        return True


class Next(NamedTuple):
    """A try: at which of the providers, after how long a wait."""

    place: int
    wait_s: float


SET_OUT = Next(0, 0.0)  # where every request begins, if it can

Wait = Callable[[int], float]  # seconds until the provider at this place can be asked; infinite if it never can


class Tries:
    """The tries of one request."""

    __slots__ = (
        "_in_row", "_patience_s", "_places", "_policy", "_rounds", "_silent", "_started_s",
        "count", "place",
    )  # fmt: skip

    def __init__(self, policy: RetryPolicy, places: int, started_s: float) -> None:
        self._policy = policy
        self._places = places
        self._started_s = started_s
        self._patience_s = policy.patience_s
        self.place = -1
        self.count = 0
        self._rounds = 1
        self._in_row = 0  # tries at this place
        self._silent: tuple[int, ...] = ()  # places that were asked and said nothing: each costs its whole deadline

    @property
    def is_first(self) -> bool:
        return self.count == 1

    def begin(self, now_s: float) -> None:
        """Count the time from here: what came before was a wait, and no try."""
        self._started_s = now_s

    def also(self, place: int) -> None:
        """A later provider is asked at the same time."""
        self.count += 1
        self._in_row = 1
        self.place = place

    def silence(self, place: int) -> None:
        """It let a deadline pass."""
        self._silent = (*self._silent, place)

    def set_out(self) -> None:
        """Ask the first provider, at once: it can be asked now."""
        self.place, self.count, self._in_row = SET_OUT.place, 1, 1

    def undo(self) -> None:
        """It could not."""
        self.place, self.count, self._in_row = -1, 0, 0

    def first(self, wait: Wait) -> Next | None:
        """None: nobody can be asked in time."""
        return self._go(self._soonest(range(self._places), wait))

    def instead(self, wait: Wait, chance: float) -> Next | None:
        """The try did not take place: somebody else was quicker, or the request cannot go there."""
        self.count -= 1
        self._patience_s -= _QUICKER_S
        return self._go(self._onward(self.place + 1, wait, chance))

    def after(
        self, error: GatewayError, now_s: float, *, wait: Wait, chance: float, budget: RetryBudget
    ) -> Next | None:
        """What to try after this error, if anything. `chance` is a random number below 1."""
        if error.retry == "never" or self.count >= self._policy.max_tries:
            return None
        if isinstance(error, UpstreamTimeout):
            self.silence(self.place)
        # The same provider if another key or proxy may help, then the later ones, then all of them anew.
        stays = error.retry != "other_provider" and self._in_row < self._policy.max_keys
        found = self._onward(self.place if stays else self.place + 1, wait, chance)
        is_late = found is not None and now_s + found.wait_s - self._started_s > self._policy.deadline_s
        return None if found is None or is_late or not budget.take() else self._go(found)

    def _onward(self, start: int, wait: Wait, chance: float) -> Next | None:
        later = range(start, self._places)
        found = next((Next(place, 0.0) for place in self._open(later) if wait(place) <= 0), None)
        if found is not None or self._rounds >= self._policy.max_rounds:
            return found
        found = self._soonest(self._open(range(self._places)), wait)
        if found is None:
            return None
        longest_s = min(self._policy.first_wait_s * 2 ** (self._rounds - 1), self._policy.longest_wait_s)
        self._rounds += 1
        self._in_row = 0
        return Next(found.place, max(found.wait_s, longest_s * (1 + chance) / 2))

    def _open(self, places: range) -> list[int]:
        return [place for place in places if place not in self._silent]

    def _soonest(self, places: range | list[int], wait: Wait) -> Next | None:
        """The first that can be asked now, else the one that can be soonest, if that is within the patience."""
        waits = [(max(0.0, wait(place)), place) for place in places]
        wait_s, place = min(waits, default=(float("inf"), 0))
        return Next(place, wait_s) if wait_s <= max(0.0, self._patience_s) else None

    def _go(self, found: Next | None) -> Next | None:
        if found is not None:
            self._in_row = self._in_row + 1 if found.place == self.place else 1
            self.place = found.place
            self.count += 1
            self._patience_s -= found.wait_s
        return found
