"""One try at a provider, as far as its key, its breaker and the exchange's facts are concerned."""

import logging
from collections.abc import Iterable

from trollproxy.chat import Usage
from trollproxy.errors import Failure, GatewayError, UpstreamTimeout
from trollproxy.gateway.exchange import Attempt, Exchange
from trollproxy.gateway.stops import Stop
from trollproxy.gateway.turnstile import Slot
from trollproxy.money.settle import Seen, lost_cost_nusd
from trollproxy.policy.breaker import Permit
from trollproxy.policy.pool import Lease, Pool, Transition
from trollproxy.ports import UpstreamReply
from trollproxy.records import OutboundProxy, UpstreamKey
from trollproxy.wire.format import Target, Whole
from trollproxy.wire.passage import Passage

log = logging.getLogger(__name__)

_PROVIDER_FAILURES: frozenset[Failure] = frozenset({"overload", "network"})  # of all others it answered, and is there


class Leg:
    """What an exchange asks one of its model's suppliers, in that one's own words."""

    __slots__ = ("body", "passage", "stop", "target")

    def __init__(self, stop: Stop, passage: Passage, target: Target, *, body: bytes) -> None:
        self.stop = stop
        self.passage = passage
        self.target = target
        self.body = body


class Way:
    """A key, the proxy through which it is used if there is one, and the turnstile's slot if there is one. All lent."""

    __slots__ = ("_keys", "_proxies", "key", "proxy", "slot")

    def __init__(
        self,
        keys: Pool[UpstreamKey],
        key: Lease[UpstreamKey],
        proxies: Pool[OutboundProxy] | None = None,
        *,
        proxy: Lease[OutboundProxy] | None = None,
    ) -> None:
        self._keys = keys
        self._proxies = proxies
        self.key = key
        self.proxy = proxy
        self.slot: Slot | None = None

    def report(self, error: GatewayError | None, now_s: float) -> None:
        """A proxy is judged by its own failures; whatever a provider says has come through it."""
        if error is None:
            self.key.report("ok", now_s)
        elif error.origin == "upstream" and error.failure is not None:
            self.key.report(error.failure, now_s, error.retry_after_s)
        if self.slot is not None and error is not None:
            self.slot.report(error)
        if self.proxy is None:
            return
        if error is not None and error.origin == "proxy":
            self.proxy.report(error.failure or "network", now_s)
        elif error is None or (error.origin == "upstream" and error.failure != "network"):
            self.proxy.report("ok", now_s)

    def release(self, *, is_sent: bool = True) -> None:
        self.key.release()
        if self.proxy is not None:
            self.proxy.release()
        if self.slot is not None:
            self.slot.release() if is_sent else self.slot.undo()

    def has_news(self) -> bool:
        return bool(self._keys.untold) or (self._proxies is not None and bool(self._proxies.untold))

    def news(self) -> list[tuple[str, Transition]]:
        told = [("an upstream key changed", news) for news in self._keys.news()]
        if self._proxies is not None:
            told += [("an outbound proxy changed", news) for news in self._proxies.news()]
        return told


class Visit:
    """Begins with a way and a permit. `fail`, or `succeed` and in the end `close`; `lose` at any time. What comes after
    its end is without effect.
    """

    __slots__ = (
        "_attempt", "_exchange", "_is_noted", "_is_over", "_is_sent", "_permit", "_usage", "_way",
        "leg", "meter", "reply",
    )  # fmt: skip

    def __init__(self, exchange: Exchange, leg: Leg, way: Way, *, permit: Permit, now_s: float) -> None:
        assert exchange.ask is not None
        self.leg = leg
        self.meter = leg.passage.meter() if exchange.ask.stream else None
        self.reply: UpstreamReply | None = None
        self._usage: Usage | None = None  # of a whole answer
        self._is_sent = self._is_noted = self._is_over = False
        self._exchange = exchange
        self._way = way
        self._permit = permit
        exchange.upstream_key = way.key.value
        self._attempt = Attempt(
            provider=leg.stop.provider.name,
            key_id=way.key.id,
            proxy_id=way.proxy.id if way.proxy is not None else "",
            started_s=now_s,
        )

    @property
    def key(self) -> UpstreamKey:
        return self._way.key.value

    @property
    def proxy(self) -> OutboundProxy | None:
        return self._way.proxy.value if self._way.proxy is not None else None

    def mark_sent(self) -> None:
        self._is_sent = True
        self._exchange.mark_sent()

    def read_whole(self, body: bytes) -> tuple[Whole | None, bytes]:
        """What a whole answer says, and what the client gets of it; UpstreamBroken if it is not of its format."""
        if not self._exchange.generates:
            return None, body
        whole, written = self.leg.passage.read_whole(body)
        self._usage = whole.usage
        return whole, written

    def succeed(self, chance: float) -> None:
        """The answer has begun: the key is good, and so is the provider."""
        if self._is_over:
            return
        self._way.report(None, self._note())
        self._leave(is_good=True, chance=chance)

    def fail(self, error: GatewayError | None, chance: float) -> None:
        """`error` None: it was given up, or a bug of ours ended it. Either says nothing of key or provider."""
        if self._is_over:
            return
        if self._is_noted:
            self._end()
            return
        now_s, attempt = self._note(), self._attempt
        attempt.code = error.code if error is not None else "client_disconnected"
        attempt.outcome = "cancelled" if error is None else error.failure or "gateway"
        if error is not None:
            self._way.report(error, now_s)
            self._count_lost(is_estimated=isinstance(error, UpstreamTimeout))  # who is only slow bills us all the same
        self._end()
        is_good = None
        if error is not None and error.failure is not None and error.origin != "proxy":
            is_good = error.failure not in _PROVIDER_FAILURES
        self._leave(is_good=is_good, chance=chance)

    def close(self) -> None:
        """The answer has been relayed, or broke off."""
        meter = self._exchange.meter
        if meter is not None and meter.error is not None:
            self._way.report(meter.error, self._exchange.clock.monotonic())
        self._end()
        self._tell()

    def undo(self) -> None:
        """It did not take place."""
        self._is_over = True
        self._way.release(is_sent=False)
        self.leg.stop.breaker.leave(self._permit, None, now_s=self._attempt.started_s, chance=0.0)
        self._exchange.upstream_key = None

    def lose(self) -> None:
        """Somebody else's answer counts. That says nothing of key and provider, who may have been about to answer."""
        if self._is_over:
            return
        if not self._is_noted:
            self._note()
            self._leave(is_good=None, chance=0.0)
        self._attempt.code, self._attempt.outcome = "race_lost", "lost"
        self._count_lost(is_estimated=True)
        self._end()
        self._tell()

    def _end(self) -> None:
        self._is_over = True
        if self.reply is not None:
            self.reply.close()
        self._way.release(is_sent=self._is_sent)

    def _count_lost(self, *, is_estimated: bool) -> None:
        """By the provider's usage if it gave one, else by size where it is likely to bill us. Refusals are free."""
        seen = self._seen()
        if self._is_sent and (seen.usage is not None or is_estimated):
            self._exchange.lost_cost_nusd += lost_cost_nusd(seen, self.leg.stop.supplier.upstream_price)

    def _seen(self) -> Seen:
        size, meter = len(self.leg.body), self.meter
        if meter is None:
            return Seen(usage=self._usage, is_final=True, input_bytes=size, output_bytes=0)
        return Seen(usage=meter.usage, is_final=meter.is_usage_final, input_bytes=size, output_bytes=meter.text_bytes)

    def _note(self) -> float:
        now_s = self._exchange.clock.monotonic()
        self._attempt.duration_ms = (now_s - self._attempt.started_s) * 1000
        self._exchange.attempts.append(self._attempt)
        self._is_noted = True
        return now_s

    def _leave(self, *, is_good: bool | None, chance: float) -> None:
        breaker, now_s = self.leg.stop.breaker, self._exchange.clock.monotonic()
        if breaker.leave(self._permit, is_good, now_s=now_s, chance=chance):
            fields = {"provider": self._attempt.provider, "state": breaker.state}
            log.warning("a breaker changed", extra={"fields": fields | {"model": self.leg.target.model}})
        self._tell()

    def _tell(self) -> None:
        if self._way.has_news():
            tell_changes(self._attempt.provider, self._way.news())


def tell_changes(provider: str, told: Iterable[tuple[str, Transition]]) -> None:
    for text, news in told:
        fields = {"provider": provider, "id": news.member_id, "change": news.change}
        fields |= {"cause": news.cause or "", "rests_for_s": f"{news.rests_for_s:.1f}"}
        log.warning(text, extra={"fields": fields})
