"""The life of a request: authenticate, limit, route, hold, translate, forward, relay, price, settle, log.

`_run` is the policy; its order is the order of the checks. Admission and settlement are synchronous and read memory
only. However an exchange ends (answer, error, disconnect, cancellation, a bug of ours), it is settled exactly once and
nothing stays held.
"""

import asyncio
import logging
from functools import partial
from typing import NamedTuple

from trollproxy.errors import ClientGone, GatewayError, NotFound, RateLimited
from trollproxy.gateway.attempt import Attempts
from trollproxy.gateway.billing import Billing
from trollproxy.gateway.callers import Callers
from trollproxy.gateway.exchange import Body, Carrier, ClientRequest, Exchange
from trollproxy.gateway.gate import Gate
from trollproxy.gateway.observer import Observer
from trollproxy.gateway.passages import Passages
from trollproxy.gateway.refusal import refuse
from trollproxy.gateway.relay import Relay
from trollproxy.gateway.snapshot import Live, Snapshot
from trollproxy.ports import ClientStream
from trollproxy.wire.edited import Edited
from trollproxy.wire.format import Headers, LimitState
from trollproxy.wire.translation import Translation

log = logging.getLogger(__name__)


class Carriers(NamedTuple):
    """What takes a request out to its provider and the answer back."""

    passages: Passages
    attempts: Attempts
    ping_s: float  # after how long a silence a streaming client is told that it still runs


class Pipeline:
    """Carries requests through the house."""

    def __init__(
        self,
        *,
        gate: Gate,
        callers: Callers,
        live: Live,
        billing: Billing,
        carriers: Carriers,
        observer: Observer,
    ) -> None:
        self._gate = gate
        self._callers = callers
        self._live = live
        self._billing = billing
        self._carriers = carriers
        self._observer = observer

    async def serve(
        self, request: ClientRequest, client: ClientStream, body: Body, *, task: Carrier | None = None
    ) -> None:
        """Serve one request to its end, in this task. Raises nothing but cancellation."""
        task = task or asyncio.current_task()
        assert task is not None
        exchange = self._gate.enter(request, task)
        client.when_gone(task.cancel)
        try:
            await self._run(exchange, client, body)
        except GatewayError as error:
            self._fail(exchange, client, error)
        except asyncio.CancelledError:
            exchange.error = ClientGone("The client hung up.")
            raise
        except Exception:  # the outermost edge: what is not of our taxonomy is our own bug
            log.exception("bug", extra={"fields": {"request_id": exchange.request_id}})
            self._fail(exchange, client, GatewayError("The gateway failed. Its log knows more by the request id."))
        finally:
            client.when_gone(None)
            try:
                self._billing.settle(exchange)
            finally:
                self._gate.leave(task)
                self._observer.ended(exchange)

    async def _run(self, exchange: Exchange, client: ClientStream, source: Body) -> None:
        request = exchange.request
        self._gate.check()
        exchange.caller = self._callers.known(
            request.credential, wall_s=exchange.started_at_s, now_s=exchange.started_s
        ) or await self._callers.authenticate(
            request.credential, request.peer, wall_s=exchange.started_at_s, now_s=exchange.started_s
        )
        self._limit(exchange)
        body = source if isinstance(source, bytes) else await source()
        snapshot = self._live.snapshot
        self._route(exchange, snapshot, body)
        if isinstance(exchange.passage, Translation) and not exchange.generates:
            self._count_here(exchange.passage, exchange, client, body=body)
            return
        self._billing.hold(exchange)
        journey = self._carriers.attempts.begin(exchange, snapshot, body)
        try:
            if snapshot.turnstiles:
                await journey.line_up()
            self._billing.intend(exchange, at_once=not journey.goes_at_once)
            client.when_gone(partial(self._hang_up, exchange))
            reply = await self._carriers.attempts.send(journey, self._billing.intend, client)
            try:
                await self._relay(exchange, client).run(reply)
            finally:
                reply.close()
        finally:
            journey.give_back()

    def _hang_up(self, exchange: Exchange) -> None:
        """Once a provider is asked, a hang-up does not end the exchange at once: the count may still come."""
        assert exchange.task is not None
        asyncio.get_running_loop().call_later(self._billing.drain_s, exchange.task.cancel)

    def _limit(self, exchange: Exchange) -> None:
        """The caller's requests a minute. The body is not read before it, so a flood costs little."""
        assert exchange.caller is not None
        verdict = exchange.verdict = self._callers.limit(exchange.caller, exchange.request.wallet, exchange.started_s)
        if verdict is not None and not verdict.allowed:
            raise RateLimited(
                f"More than {verdict.limit} requests in a minute. Try again in {verdict.retry_after_s:.1f} seconds.",
                retry_after_s=verdict.retry_after_s,
            )

    def _route(self, exchange: Exchange, snapshot: Snapshot, body: bytes) -> None:
        """Read what is asked for and who serves it."""
        request = exchange.request
        ask = exchange.ask = request.format.read_ask(body, request.entry)
        exchange.input_bytes, exchange.body_hash = len(body), hash(body)
        model = snapshot.routes.find(ask.model)
        if model is None:
            text = f"There is no model {ask.model[:100]!r}. GET /v1/models lists the models there are."
            raise NotFound(text, code="model_not_found", param="model")
        exchange.model = model
        self._carriers.passages.lead(exchange, snapshot.stops(model)[0])

    def _count_here(self, passage: Translation, exchange: Exchange, client: ClientStream, *, body: bytes) -> None:
        """How long is the prompt? A provider of another dialect is not asked; it is estimated, and costs nothing."""
        headers = [("content-type", "application/json"), *response_headers(exchange)]
        client.send(200, headers, passage.count_tokens(body))

    def _relay(self, exchange: Exchange, client: ClientStream) -> Relay:
        headers = response_headers(exchange)
        return Relay(exchange, client, headers=headers, billing=self._billing, ping_s=self._carriers.ping_s)

    def _fail(self, exchange: Exchange, client: ClientStream, error: GatewayError) -> None:
        """Settle, then say so: who has the answer, also a bad one, was charged (or not) before."""
        exchange.error = error
        if isinstance(exchange.passage, Edited):
            exchange.passage.clean(error)
        self._billing.settle(exchange)
        refuse(client, error, exchange=exchange, headers=response_headers(exchange))


def response_headers(exchange: Exchange) -> Headers:
    """The headers of every answer: the request's id, and where the caller stands with the limit."""
    wire, verdict = exchange.request.format, exchange.verdict
    headers = [wire.request_id_header(exchange.request_id)]
    if exchange.intent is not None:
        headers.append(("x-trollproxy-receipt", f"/v1/receipts/{exchange.request_id}"))
    if verdict is not None:
        state = LimitState(verdict.limit, verdict.remaining, verdict.reset_s, now_s=exchange.started_at_s)
        headers.extend(wire.limit_headers(state))
    return headers
