"""An exchange on its way: whom it can go to, what it asks them in their own words, and what it has been lent for that.

Whoever is asked next is `policy.retrying`'s to say; what a place needs to be asked (a key, a proxy, a breaker that lets
through, room at its turnstile) is looked at here, all at one moment.
"""

from collections.abc import Iterator
from math import inf

import msgspec

from trollproxy.errors import GatewayError, ProxyFailed, UpstreamUnavailable
from trollproxy.gateway.exchange import Exchange
from trollproxy.gateway.passages import spoken_format
from trollproxy.gateway.snapshot import Snapshot
from trollproxy.gateway.turnstile import Slot, Turnstile
from trollproxy.gateway.visit import Leg, Visit, Way
from trollproxy.policy.retrying import Next, RetryPolicy, Tries
from trollproxy.records import Provider

MAX_BOUND_KEYS = 8  # looked at for one whose proxy is not resting
IN_LINE_S = 0.001  # one where there is a line comes after those that can be asked now, and before those that cannot


class Lent(msgspec.Struct, frozen=True):
    """A turnstile's slot, got in line for a place before it is asked."""

    place: int
    slot: Slot


class Journey:
    """An exchange on its way to one of its model's suppliers, by their places in the model's order."""

    __slots__ = ("_closed", "_lent", "body", "error", "exchange", "leg", "snapshot", "step", "suppliers", "tries")

    def __init__(self, exchange: Exchange, snapshot: Snapshot, body: bytes, *, policy: RetryPolicy) -> None:
        assert exchange.model is not None
        self.exchange = exchange
        self.snapshot = snapshot
        self.body = body  # the client's
        self.suppliers = exchange.model.suppliers
        self.tries = Tries(policy, len(self.suppliers), exchange.clock.monotonic())
        self.step = Next(0, 0.0)
        self.leg: Leg | None = None  # to the place of the step: the one that the intent names
        self.error: GatewayError | None = None  # of the last try
        self._lent: Lent | None = None
        self._closed = {place for place in range(1, len(self.suppliers)) if not self._is_open(place)}

    def provider(self, place: int) -> Provider:
        return self.snapshot.providers[self.suppliers[place].provider]

    def wait_s(self, place: int) -> float:
        """Until the supplier can be asked."""
        if place in self._closed:
            return inf
        wait_s = max(self.free_at_s(place) - self.exchange.clock.monotonic(), 0.0)
        turnstile = self.turnstile(place)
        if turnstile is None or turnstile.has_room(self.exchange.clock.monotonic()):
            return wait_s
        return inf if turnstile.throttle.is_full else max(wait_s, IN_LINE_S)

    def free_at_s(self, place: int) -> float:
        """By its keys, proxies and breaker."""
        now_s = self.exchange.clock.monotonic()
        name = self.suppliers[place].provider
        free_at_s = max(
            self.snapshot.keys[name].free_at_s(now_s), self.snapshot.breakers[name, self._model_id].free_at_s(now_s)
        )
        proxies = self.snapshot.proxies.get(name)
        return free_at_s if proxies is None else max(free_at_s, proxies.free_at_s(now_s))

    def turnstile(self, place: int) -> Turnstile | None:
        return self.snapshot.turnstiles.get(self.suppliers[place].provider)

    def close(self, place: int) -> None:
        """This request cannot go there."""
        self._closed.add(place)

    @property
    def may_race(self) -> bool:
        """Once, at the beginning; what follows a race that nobody has won is one try after the other."""
        assert self.exchange.model is not None
        return self.exchange.model.race > 1 and self.exchange.generates and self.tries.is_first

    def rivals(self) -> Iterator[int]:
        """The later places that can be asked now."""
        return (place for place in range(self.tries.place + 1, len(self.suppliers)) if self.wait_s(place) <= 0)

    async def line_up(self) -> None:
        """Have room at the next place, if need be after a wait."""
        turnstile, now = self.turnstile(self.step.place), self.exchange.clock.monotonic
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
        way = self._way(leg.place, now_s)
        if way is None:
            return None
        breaker = self.snapshot.breakers[leg.supplier.provider, self._model_id]
        permit = breaker.enter(now_s)
        if permit is None:
            way.release(is_sent=False)
            return None
        return Visit(self.exchange, leg, way, breaker=breaker, permit=permit)

    def give_back(self) -> None:
        """What was lent and not used."""
        lent, self._lent = self._lent, None
        if lent is not None:
            lent.slot.undo()

    def _way(self, place: int, now_s: float) -> Way | None:
        """Room at the turnstile where there is one, and a key; where the provider has proxies, one that the key may be
        used through: never none.
        """
        slot, turnstile = None, self.turnstile(place)
        if turnstile is not None:
            slot = self._slot(place, turnstile)
            if slot is None:
                return None
        way = self._keyed(place, now_s)
        if way is not None:
            way.slot = slot
        elif slot is not None:
            slot.undo()
        return way

    def _slot(self, place: int, turnstile: Turnstile) -> Slot | None:
        lent = self._lent
        if lent is not None and lent.place == place:
            self._lent = None
            return lent.slot
        return turnstile.enter(self.exchange.clock.monotonic)

    def _keyed(self, place: int, now_s: float) -> Way | None:
        provider, may_probe = self.provider(place), self.tries.is_first
        keys, proxies = self.snapshot.keys[provider.name], self.snapshot.proxies.get(provider.name)
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

    @property
    def _model_id(self) -> str:
        assert self.exchange.model is not None
        return self.exchange.model.model_id

    def _is_open(self, place: int) -> bool:
        """Only what generates is translated; another question goes to those who speak the client's format."""
        client = self.exchange.request.format
        return self.exchange.generates or spoken_format(self.provider(place), client) == client.name

    def nobody(self) -> GatewayError:
        """Why nobody can be asked, and when somebody can."""
        provider = self.suppliers[0].provider
        if not any(len(self.snapshot.keys[supplier.provider]) for supplier in self.suppliers):
            return UpstreamUnavailable("The provider has no key configured.", code="no_upstream_key", status=503)
        now_s, turnstile = self.exchange.clock.monotonic(), self.turnstile(0)
        if turnstile is not None and not turnstile.has_room(now_s) and self.free_at_s(0) <= now_s:
            return turnstile.refusal("full", now_s)
        wait_s = min(map(self.wait_s, range(len(self.suppliers))))
        retry_after_s = wait_s if wait_s < inf else None
        if self.snapshot.keys[provider].free_at_s(now_s) > now_s:
            text = "Every key of the provider is resting."
            return UpstreamUnavailable(text, code="no_upstream_key", status=503, retry_after_s=retry_after_s)
        is_let_through = self.snapshot.breakers[provider, self._model_id].free_at_s(now_s) <= now_s
        if provider in self.snapshot.proxies and is_let_through:
            return ProxyFailed("Every way to the provider is resting.", status=503, retry_after_s=retry_after_s)
        text = "The provider has failed for some time and is given a rest."
        return UpstreamUnavailable(text, code="upstream_breaker_open", status=503, retry_after_s=retry_after_s)
