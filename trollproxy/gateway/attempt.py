"""Getting one answer: whom to ask, with which key, and whom next where that fails, until something can be relayed.

Every refusal becomes our own error here, and every try a fact on its exchange. What a try says of its key and provider
is reported to the key's pool and to the breaker at once; the key is given back when its answer has been relayed. Once
an answer is handed on there is no other try. Whoever may be asked next is `policy.retrying`'s to say.
"""

import asyncio
import logging
import random
from collections.abc import Awaitable, Callable
from math import inf

import msgspec

from trollproxy import __version__
from trollproxy.errors import GatewayError, InvalidRequest, ProxyFailed, UpstreamUnavailable
from trollproxy.gateway.exchange import ClientRequest, Exchange
from trollproxy.gateway.passages import Passages, spoken_format, target_of
from trollproxy.gateway.peek import Peeked, peek
from trollproxy.gateway.snapshot import Snapshot
from trollproxy.gateway.visit import Visit, Way
from trollproxy.policy.retrying import Next, RetryBudget, RetryPolicy, Tries
from trollproxy.ports import Upstream, UpstreamCall, UpstreamReply
from trollproxy.records import Endpoint, Provider, UpstreamKey
from trollproxy.wire.format import Headers
from trollproxy.wire.passage import Passage

log = logging.getLogger(__name__)

MAX_BOUND_KEYS = 8  # looked at for one whose proxy is not resting
DEFAULT_BUDGET_SHARE = 1.2  # retries a request, on average over all: what it takes where every second call fails

Intend = Callable[[Exchange], None]


class Journey:
    """An exchange on its way to one of its model's suppliers, by their places in the model's order."""

    __slots__ = ("_closed", "body", "error", "exchange", "place", "snapshot", "step", "suppliers", "tries", "written")

    def __init__(self, exchange: Exchange, snapshot: Snapshot, body: bytes, *, policy: RetryPolicy) -> None:
        assert exchange.model is not None
        self.exchange = exchange
        self.snapshot = snapshot
        self.body = body  # the client's
        self.suppliers = exchange.model.suppliers
        self.tries = Tries(policy, len(self.suppliers), exchange.clock.monotonic())
        self.step = Next(0, 0.0)
        self.place = -1
        self.written = b""  # the body in the words of the supplier at that place
        self.error: GatewayError | None = None  # of the last try
        self._closed = {place for place in range(1, len(self.suppliers)) if not self._is_open(place)}

    def provider(self, place: int) -> Provider:
        return self.snapshot.providers[self.suppliers[place].provider]

    def wait_s(self, place: int) -> float:
        """Until the supplier can be asked."""
        if place in self._closed:
            return inf
        return max(self.free_at_s(place) - self.exchange.clock.monotonic(), 0.0)

    def free_at_s(self, place: int) -> float:
        now_s = self.exchange.clock.monotonic()
        name = self.suppliers[place].provider
        free_at_s = max(
            self.snapshot.keys[name].free_at_s(now_s), self.snapshot.breakers[name, self._model_id].free_at_s(now_s)
        )
        proxies = self.snapshot.proxies.get(name)
        return free_at_s if proxies is None else max(free_at_s, proxies.free_at_s(now_s))

    def close(self, place: int) -> None:
        """This request cannot go there."""
        self._closed.add(place)

    def visit(self) -> Visit | None:
        """A key of the supplier at hand and leave to use it; None if somebody else was quicker."""
        now_s = self.exchange.clock.monotonic()
        way = self._way(now_s)
        if way is None:
            return None
        breaker = self.snapshot.breakers[self.suppliers[self.place].provider, self._model_id]
        permit = breaker.enter(now_s)
        if permit is None:
            way.release()
            return None
        return Visit(self.exchange, way, breaker=breaker, permit=permit)

    def _way(self, now_s: float) -> Way | None:
        """A key, and where the provider has proxies, one that the key may be used through: never none."""
        provider, may_probe = self.provider(self.place), self.tries.is_first
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


class Attempts:
    """Sends exchanges to providers."""

    def __init__(
        self,
        upstream: Upstream,
        passages: Passages,
        *,
        policy: RetryPolicy | None = None,
        budget_share: float = DEFAULT_BUDGET_SHARE,
        chance: Callable[[], float] = random.random,
        sleep: Callable[[float], Awaitable[None]] = asyncio.sleep,
    ) -> None:
        self._upstream = upstream
        self._passages = passages
        self._policy = policy or RetryPolicy()
        self._budget_share = budget_share
        self._budgets: dict[str, RetryBudget] = {}  # by the provider that is asked first
        self._chance = chance
        self._sleep = sleep

    def refused_retries(self) -> dict[tuple[str, ...], float]:
        """How often a provider's budget was spent."""
        return {(name,): budget.refused for name, budget in self._budgets.items()}

    def begin(self, exchange: Exchange, snapshot: Snapshot, body: bytes) -> Journey:
        """Choose whom to ask first and write down what to ask. What cannot be sent now is not worth an intent."""
        journey = Journey(exchange, snapshot, body, policy=self._policy)
        self._turn(journey, journey.tries.first(journey.wait_s))
        return journey

    async def send(self, journey: Journey, intend: Intend, is_wanted: Callable[[], bool]) -> UpstreamReply:
        """A provider's answer that can be relayed. `intend` is told before another provider sees the request; what is
        wanted no more is not tried again.
        """
        exchange = journey.exchange
        budget = self._budget(journey)
        budget.add()
        while True:
            if journey.step.wait_s:
                await self._sleep(journey.step.wait_s)
            visit = journey.visit()
            if visit is None:
                self._turn(journey, journey.tries.instead(journey.wait_s, self._chance()), intend)
                continue
            try:
                return await self._try(journey, visit)
            except GatewayError as error:
                if not is_wanted():
                    raise
                journey.error = error
                now_s = exchange.clock.monotonic()
                wait, chance = journey.wait_s, self._chance()
                self._turn(journey, journey.tries.after(error, now_s, wait=wait, chance=chance, budget=budget), intend)
            fields = {"request_id": exchange.request_id, "provider": exchange.provider, "after": journey.error.code}
            log.info("trying again", extra={"fields": fields})

    async def _try(self, journey: Journey, visit: Visit) -> Peeked:
        """Once. However it ends, the visit knows."""
        exchange, reply = journey.exchange, None
        try:
            reply = await self._upstream.send(_call(journey, visit))
            pieces = await peek(reply, exchange)
        except BaseException as error:
            visit.fail(error if isinstance(error, GatewayError) else None, chance=self._chance())
            if reply is not None:
                reply.close()
            raise
        visit.succeed(chance=self._chance())
        return Peeked(reply, pieces, visit.close)

    def _turn(self, journey: Journey, step: Next | None, intend: Intend | None = None) -> None:
        """Make ready for the next try; if there is none, that is the end. A supplier whose format has no words for the
        request is passed over, unless it is the first: then the client is told.
        """
        while step is not None:
            try:
                self._write(journey, step.place, intend)
            except InvalidRequest:
                if not step.place:
                    raise
                journey.close(step.place)
                step = journey.tries.instead(journey.wait_s, self._chance())
            else:
                journey.step = step
                return
        raise journey.error or _nobody(journey)

    def _write(self, journey: Journey, place: int, intend: Intend | None) -> None:
        if place == journey.place:
            return
        exchange = journey.exchange
        before = exchange.supplier, exchange.upstream_model, exchange.passage
        self._passages.lead(exchange, journey.suppliers[place], journey.provider(place))
        assert exchange.passage is not None
        try:
            journey.written = exchange.passage.write_request(journey.body, target_of(exchange))
        except InvalidRequest:
            exchange.supplier, exchange.upstream_model, exchange.passage = before
            raise
        journey.place = place
        if intend is not None:
            intend(exchange)

    def _budget(self, journey: Journey) -> RetryBudget:
        provider = journey.suppliers[0].provider
        budget = self._budgets.get(provider)
        if budget is None:
            budget = self._budgets[provider] = RetryBudget(self._budget_share)
        return budget


def _nobody(journey: Journey) -> GatewayError:
    """Why nobody can be asked, and when somebody can."""
    assert journey.exchange.model is not None
    provider, model_id = journey.suppliers[0].provider, journey.exchange.model.model_id
    if not any(len(journey.snapshot.keys[supplier.provider]) for supplier in journey.suppliers):
        return UpstreamUnavailable("The provider has no key configured.", code="no_upstream_key", status=503)
    now_s = journey.exchange.clock.monotonic()
    wait_s = min(map(journey.wait_s, range(len(journey.suppliers))))
    retry_after_s = wait_s if wait_s < inf else None
    if journey.snapshot.keys[provider].free_at_s(now_s) > now_s:
        text = "Every key of the provider is resting."
        return UpstreamUnavailable(text, code="no_upstream_key", status=503, retry_after_s=retry_after_s)
    if provider in journey.snapshot.proxies and journey.snapshot.breakers[provider, model_id].free_at_s(now_s) <= now_s:
        return ProxyFailed("Every way to the provider is resting.", status=503, retry_after_s=retry_after_s)
    text = "The provider has failed for some time and is given a rest."
    return UpstreamUnavailable(text, code="upstream_breaker_open", status=503, retry_after_s=retry_after_s)


def _call(journey: Journey, visit: Visit) -> UpstreamCall:
    exchange, provider = journey.exchange, journey.provider(journey.place)
    assert visit.proxy is not None or not provider.proxies, "a provider behind proxies is never called directly"
    return UpstreamCall(
        endpoint=_endpoint(provider, exchange),
        headers=_headers(provider, exchange, visit.key),
        body=journey.written,
        timeouts=provider.timeouts,
        proxy=visit.proxy,
        when_sent=exchange.mark_sent,
    )


def _endpoint(provider: Provider, exchange: Exchange) -> Endpoint:
    assert exchange.passage is not None
    endpoint = provider.endpoints[exchange.passage.upstream.name]
    path = exchange.passage.upstream_path(endpoint.path, target_of(exchange))
    return msgspec.structs.replace(endpoint, path=path) if path != endpoint.path else endpoint


def _headers(provider: Provider, exchange: Exchange, key: UpstreamKey) -> tuple[tuple[str, str], ...]:
    """A tuple, by which the upstream client finds the head it has written for the same headers before."""
    assert exchange.passage is not None
    accept = "text/event-stream" if exchange.ask is not None and exchange.ask.stream else "application/json"
    return (
        ("content-type", "application/json"),
        ("accept", accept),
        ("accept-encoding", "identity"),  # usage must be read on the way through
        ("user-agent", f"trollproxy/{__version__}"),
        *exchange.passage.upstream.auth_headers(key.secret),
        *_of_dialect(exchange.passage, exchange.request),
        *provider.headers,
    )


def _of_dialect(passage: Passage, request: ClientRequest) -> Headers:
    headers = passage.upstream_headers(request.headers)
    for name, value in headers:
        if not (value.isascii() and value.isprintable()):
            raise InvalidRequest(f"The header {name} holds characters that cannot be sent on.", param=name)
    return headers
