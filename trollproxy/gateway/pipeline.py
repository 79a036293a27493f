"""The life of a request: authenticate, limit, route, hold, translate, forward, relay, price, settle, log.

`_run` is the policy; its order is the order of the checks. Admission and settlement are synchronous and read memory
only. However an exchange ends (answer, error, disconnect, cancellation, a bug of ours), it is settled exactly once and
nothing stays held.
"""

import asyncio
import logging

from trollproxy.errors import ClientGone, GatewayError, NotFound, RateLimited
from trollproxy.gateway.attempt import Attempts, endpoint_of
from trollproxy.gateway.billing import Billing
from trollproxy.gateway.callers import Callers
from trollproxy.gateway.exchange import ClientRequest, Exchange
from trollproxy.gateway.gate import Gate
from trollproxy.gateway.observer import Observer
from trollproxy.gateway.refusal import refuse
from trollproxy.gateway.relay import Relay, patience
from trollproxy.gateway.snapshot import Live, Snapshot
from trollproxy.policy.routing import upstream_name
from trollproxy.ports import ClientStream
from trollproxy.wire.format import Headers, LimitState

log = logging.getLogger(__name__)


class Pipeline:
    """Carries requests through the house."""

    def __init__(
        self,
        *,
        gate: Gate,
        callers: Callers,
        live: Live,
        billing: Billing,
        attempts: Attempts,
        observer: Observer,
    ) -> None:
        self._gate = gate
        self._callers = callers
        self._live = live
        self._billing = billing
        self._attempts = attempts
        self._observer = observer

    async def serve(self, request: ClientRequest, client: ClientStream) -> None:
        """Serve one request to its end. Raises nothing but cancellation."""
        task = asyncio.current_task()
        assert task is not None
        exchange = self._gate.enter(request, task)
        client.when_gone(task.cancel)
        try:
            await self._run(exchange, client)
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

    async def _run(self, exchange: Exchange, client: ClientStream) -> None:
        request = exchange.request
        self._gate.check()
        exchange.caller = await self._callers.authenticate(
            request.credential, request.peer, wall_s=exchange.started_at_s, now_s=exchange.started_s
        )
        self._limit(exchange)
        body = await request.read_body()
        snapshot = self._live.snapshot
        self._route(exchange, snapshot, body)
        self._billing.hold(exchange)
        upstream_body = self._translate(exchange, body)
        self._attempts.check(exchange, snapshot)
        self._billing.intend(exchange)
        with patience(client, self._billing.drain_s):
            reply = await self._attempts.send(exchange, snapshot, upstream_body)
            try:
                await Relay(exchange, client, headers=response_headers(exchange), billing=self._billing).run(reply)
            finally:
                reply.close()

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
        ask = exchange.ask = request.format.read_ask(body, request.operation)
        exchange.input_bytes = len(body)
        model = snapshot.routes.find(ask.model)
        if model is None:
            text = f"There is no model {ask.model[:100]!r}. GET /v1/models lists the models there are."
            raise NotFound(text, code="model_not_found", param="model")
        exchange.model = model
        endpoint_of(snapshot.providers[model.provider], exchange)

    def _translate(self, exchange: Exchange, body: bytes) -> bytes:
        assert exchange.ask is not None
        assert exchange.model is not None
        return exchange.request.format.prepare(body, exchange.ask, upstream_name(exchange.model, exchange.ask.model))

    def _fail(self, exchange: Exchange, client: ClientStream, error: GatewayError) -> None:
        """Settle, then say so: who has the answer, also a bad one, was charged (or not) before."""
        exchange.error = error
        self._billing.settle(exchange)
        wire = exchange.request.format
        refuse(client, error, wire=wire, request_id=exchange.request_id, headers=response_headers(exchange))


def response_headers(exchange: Exchange) -> Headers:
    """The headers of every answer: the request's id, and where the caller stands with the limit."""
    wire, verdict = exchange.request.format, exchange.verdict
    headers = [wire.request_id_header(exchange.request_id)]
    if exchange.intent is not None:
        headers.append(("x-trollproxy-receipt", f"/v1/receipts/{exchange.request_id}"))
    if verdict is not None:
        state = LimitState(verdict.limit, verdict.remaining, verdict.reset_s, exchange.started_at_s)
        headers.extend(wire.limit_headers(state))
    return headers
