"""One try at a provider, as far as its key, its breaker and the exchange's facts are concerned."""

import logging

from trollproxy.errors import Failure, GatewayError
from trollproxy.gateway.exchange import Attempt, Exchange
from trollproxy.policy.breaker import Breaker, Permit
from trollproxy.policy.pool import Lease, Pool, Transition
from trollproxy.records import OutboundProxy, UpstreamKey

log = logging.getLogger(__name__)

_PROVIDER_FAILURES: frozenset[Failure] = frozenset({"overload", "network"})  # of all others it answered, and is there


class Way:
    """A key, and the proxy through which it is used if there is one. Both are lent."""

    __slots__ = ("_keys", "_proxies", "key", "proxy")

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

    def report(self, error: GatewayError | None, now_s: float) -> None:
        """A proxy is judged by its own failures; whatever a provider says has come through it."""
        if error is None:
            self.key.report("ok", now_s)
        elif error.origin == "upstream" and error.failure is not None:
            self.key.report(error.failure, now_s, error.retry_after_s)
        if self.proxy is None:
            return
        if error is not None and error.origin == "proxy":
            self.proxy.report(error.failure or "network", now_s)
        elif error is None or (error.origin == "upstream" and error.failure != "network"):
            self.proxy.report("ok", now_s)

    def release(self) -> None:
        self.key.release()
        if self.proxy is not None:
            self.proxy.release()

    def news(self) -> list[tuple[str, Transition]]:
        told = [("an upstream key changed", news) for news in self._keys.news()]
        if self._proxies is not None:
            told += [("an outbound proxy changed", news) for news in self._proxies.news()]
        return told


class Visit:
    """Begins with a way and a permit. `fail`, or `succeed` and in the end `close`."""

    __slots__ = ("_attempt", "_breaker", "_exchange", "_permit", "_way")

    def __init__(self, exchange: Exchange, way: Way, *, breaker: Breaker, permit: Permit) -> None:
        self._exchange = exchange
        self._way = way
        self._breaker = breaker
        self._permit = permit
        exchange.upstream_key = way.key.value
        self._attempt = Attempt(
            provider=exchange.provider,
            key_id=way.key.id,
            proxy_id=way.proxy.id if way.proxy is not None else "",
            started_s=exchange.clock.monotonic(),
        )

    @property
    def key(self) -> UpstreamKey:
        return self._way.key.value

    @property
    def proxy(self) -> OutboundProxy | None:
        return self._way.proxy.value if self._way.proxy is not None else None

    def succeed(self, chance: float) -> None:
        """The answer has begun: the key is good, and so is the provider."""
        self._way.report(None, self._note())
        self._leave(is_good=True, chance=chance)

    def fail(self, error: GatewayError | None, chance: float) -> None:
        """`error` None: it was given up, or a bug of ours ended it. Either says nothing of key or provider."""
        now_s, attempt = self._note(), self._attempt
        attempt.code = error.code if error is not None else "client_disconnected"
        attempt.outcome = "cancelled" if error is None else error.failure or "gateway"
        if error is not None:
            self._way.report(error, now_s)
        self._way.release()
        is_good = None
        if error is not None and error.failure is not None and error.origin != "proxy":
            is_good = error.failure not in _PROVIDER_FAILURES
        self._leave(is_good=is_good, chance=chance)

    def close(self) -> None:
        """The answer has been relayed, or broke off."""
        meter = self._exchange.meter
        if meter is not None and meter.error is not None:
            self._way.report(meter.error, self._exchange.clock.monotonic())
        self._way.release()
        self._tell()

    def _note(self) -> float:
        now_s = self._exchange.clock.monotonic()
        self._attempt.duration_ms = (now_s - self._attempt.started_s) * 1000
        self._exchange.attempts.append(self._attempt)
        return now_s

    def _leave(self, *, is_good: bool | None, chance: float) -> None:
        now_s = self._exchange.clock.monotonic()
        if self._breaker.leave(self._permit, is_good, now_s=now_s, chance=chance):
            fields = {"provider": self._attempt.provider, "state": self._breaker.state}
            log.warning("a breaker changed", extra={"fields": fields | {"model": self._exchange.upstream_model}})
        self._tell()

    def _tell(self) -> None:
        for text, news in self._way.news():
            fields = {"provider": self._attempt.provider, "id": news.member_id, "change": news.change}
            fields |= {"cause": news.cause or "", "rests_for_s": f"{news.rests_for_s:.1f}"}
            log.warning(text, extra={"fields": fields})
