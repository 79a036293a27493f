"""An exchange on its way: whom it can go to, what it asks them in their own words, and what it has been lent for that.

Whoever is asked next is `policy.retrying`'s to say; what a place needs to be asked (a key, a proxy, a breaker that lets
through, room at its turnstile) is looked at here, all at one moment.
"""

from collections.abc import Iterator
from math import inf
from typing import NamedTuple

from trollproxy.errors import GatewayError, ProxyFailed, UpstreamUnavailable
from trollproxy.gateway.exchange import Exchange
from trollproxy.gateway.passages import spoken_format
from trollproxy.gateway.snapshot import Snapshot
from trollproxy.gateway.stops import Stop
from trollproxy.gateway.turnstile import Slot, Turnstile
from trollproxy.gateway.visit import Leg, Visit, Way
from trollproxy.policy.retrying import SET_OUT, RetryPolicy, Tries

MAX_BOUND_KEYS = 8  # looked at for one whose proxy is not resting
IN_LINE_S = 0.001  # one where there is a line comes after those that can be asked now, and before those that cannot


class Lent(NamedTuple):
    """A turnstile's slot, got in line for a place before it is asked."""

    place: int
    slot: Slot


class Journey:
    """An exchange on its way to one of its model's suppliers, by their places in the model's order."""

    __slots__ = (
        "_closed", "_lent", "_ready", "body", "error", "exchange", "leg", "snapshot", "step", "stops", "tries",
    )  # fmt: skip

    def __init__(self, exchange: Exchange, snapshot: Snapshot, body: bytes, *, policy: RetryPolicy) -> None:
        assert exchange.model is not None
        self.exchange = exchange
        self.snapshot = snapshot
        self.body = body  # the client's
        self.stops = snapshot.stops(exchange.model)
        self.tries = Tries(policy, len(self.stops), exchange.started_s)
        self.step = SET_OUT
        self.leg: Leg | None = None  # to the place of the step: the one that the intent names
        self.error: GatewayError | None = None  # of the last try
        self._ready: Visit | None = None  # the first, where it could begin at once
        self._lent: Lent | None = None
        self._closed: set[int] | None = None  # places that this request cannot go to; None: nobody has looked

    def set_out(self, leg: Leg) -> bool:
        """Take what the first try needs, if all of it can be had at this moment and nobody stands in line for it."""
        if leg.stop.turnstile is not None:
            return False
        self.tries.set_out()
        self._ready = self.visit(leg)
        if self._ready is None:
            self.tries.undo()
            return False
        self.leg = leg
        return True

    @property
    def goes_at_once(self) -> bool:
        """Whether the first try begins without a wait. In a race each has a task of its own."""
        return self._ready is not None and not self.may_race

    def take_ready(self) -> Visit | None:
        ready, self._ready = self._ready, None
        return ready

    def wait_s(self, place: int) -> float:
        """Until the supplier can be asked."""
        if place in self._closed_places():
            return inf
        now_s = self.exchange.clock.monotonic()
        wait_s = max(self.stops[place].free_at_s(now_s) - now_s, 0.0)
        turnstile = self.stops[place].turnstile
        if turnstile is None or turnstile.has_room(now_s):
            return wait_s
        return inf if turnstile.throttle.is_full else max(wait_s, IN_LINE_S)

    def close(self, place: int) -> None:
        """This request cannot go there."""
        self._closed_places().add(place)

    def _closed_places(self) -> set[int]:
        if self._closed is None:
            self._closed = {stop.place for stop in self.stops[1:] if not self._is_open(stop)}
        return self._closed

    @property
    def may_race(self) -> bool:
        """Once, at the beginning; what follows a race that nobody has won is one try after the other."""
        assert self.exchange.model is not None
        return self.exchange.model.race > 1 and self.exchange.generates and self.tries.is_first

    def rivals(self) -> Iterator[int]:
        """The later places that can be asked now."""
        return (place for place in range(self.tries.place + 1, len(self.stops)) if self.wait_s(place) <= 0)

    async def line_up(self) -> None:
        """Have room at the next place, if need be after a wait."""
        turnstile, now = self.stops[self.step.place].turnstile, self.exchange.clock.monotonic
        if turnstile is None or self._lent is not None:
            return
        is_retry = not self.tries.is_first
        slot = turnstile.enter(now) or await turnstile.wait(now, is_retry=is_retry)
        self._lent = Lent(self.step.place, slot)
        if not is_retry:
            self.tries.begin(now())

    def visit(self, leg: Leg) -> Visit | None:
        """A key of the leg's supplier and leave to use it; None if somebody else was quicker."""
        now_s = self.exchange.clock.monotonic()
        way = self._way(leg.stop, now_s)
        if way is None:
            return None
        permit = leg.stop.breaker.enter(now_s)
        if permit is None:
            way.release(is_sent=False)
            return None
        return Visit(self.exchange, leg, way, permit=permit, now_s=now_s)

    def give_back(self) -> None:
        """What was lent and not used."""
        lent, self._lent = self._lent, None
        if lent is not None:
            lent.slot.undo()
        ready = self.take_ready()
        if ready is not None:
            ready.undo()

    def _way(self, stop: Stop, now_s: float) -> Way | None:
        """Room at the turnstile where there is one, and a key; where the provider has proxies, one that the key may be
        used through: never none.
        """
        if stop.turnstile is None:
            return self._keyed(stop, now_s)
        slot = self._slot(stop.place, stop.turnstile)
        if slot is None:
            return None
        way = self._keyed(stop, now_s)
        if way is None:
            slot.undo()
        else:
            way.slot = slot
        return way

    def _slot(self, place: int, turnstile: Turnstile) -> Slot | None:
        lent = self._lent
        if lent is not None and lent.place == place:
            self._lent = None
            return lent.slot
        return turnstile.enter(self.exchange.clock.monotonic)

    def _keyed(self, stop: Stop, now_s: float) -> Way | None:
        keys, proxies, may_probe = stop.keys, stop.proxies, self.tries.is_first
        for _ in range(MAX_BOUND_KEYS):
            key = keys.pick(now_s, may_probe=may_probe)
            if key is None or proxies is None:
                return Way(keys, key) if key is not None else None
            bound = key.value.proxy_id
            proxy = proxies.pick_named(bound, now_s) if bound else proxies.pick(now_s, may_probe=may_probe)
            if proxy is not None:
                return Way(keys, key, proxies, proxy=proxy)
            key.release()
        return None

    def _is_open(self, stop: Stop) -> bool:
        """Only what generates is translated; another question goes to those who speak the client's format."""
        client = self.exchange.request.format
        return self.exchange.generates or spoken_format(stop.provider, client) == client.name

    def nobody(self) -> GatewayError:
        """Why nobody can be asked, and when somebody can."""
        first = self.stops[0]
        if not any(len(stop.keys) for stop in self.stops):
            return UpstreamUnavailable("The provider has no key configured.", code="no_upstream_key", status=503)
        now_s, turnstile = self.exchange.clock.monotonic(), first.turnstile
        if turnstile is not None and not turnstile.has_room(now_s) and first.free_at_s(now_s) <= now_s:
            return turnstile.refusal("full", now_s)
        wait_s = min(map(self.wait_s, range(len(self.stops))))
        retry_after_s = wait_s if wait_s < inf else None
        if first.keys.free_at_s(now_s) > now_s:
            text = "Every key of the provider is resting."
            return UpstreamUnavailable(text, code="no_upstream_key", status=503, retry_after_s=retry_after_s)
        if first.proxies is not None and first.breaker.free_at_s(now_s) <= now_s:
            return ProxyFailed("Every way to the provider is resting.", status=503, retry_after_s=retry_after_s)
        text = "The provider has failed for some time and is given a rest."
        return UpstreamUnavailable(text, code="upstream_breaker_open", status=503, retry_after_s=retry_after_s)
