"""Carrying a provider's answer to the client: whole, or event by event with back-pressure.

Nothing is sent to the client before the first event that it may see, so an answer that begins with an error can still
become a proper error. The charge is made just before the last bytes go out: a client that has everything was charged.
"""

from collections.abc import Callable

from trollproxy.errors import UpstreamBroken
from trollproxy.gateway.exchange import Exchange
from trollproxy.ports import ClientStream, UpstreamReply
from trollproxy.wire.format import Headers, Meter

MAX_REPLY_BODY = 64 * 1024 * 1024  # a whole answer with generated images; more is no answer to a chat
_EVENT_STREAM = "text/event-stream"


class Relay:
    """Relays one exchange. `settle` is called once, before the client can know that the answer is complete."""

    __slots__ = ("_client", "_exchange", "_headers", "_settle")

    def __init__(
        self, exchange: Exchange, client: ClientStream, *, headers: Headers, settle: Callable[[Exchange], None]
    ) -> None:
        self._exchange = exchange
        self._client = client
        self._headers = headers
        self._settle = settle

    async def run(self, reply: UpstreamReply) -> None:
        exchange = self._exchange
        assert exchange.ask is not None
        is_stream = reply.headers.get("content-type", "").lower().startswith(_EVENT_STREAM)
        if is_stream != exchange.ask.stream:
            raise UpstreamBroken("The provider answered with another kind of content than was asked for.")
        if is_stream:
            await self._stream(reply, exchange.request.format.meter(exchange.ask))
        else:
            await self._whole(reply)

    async def _whole(self, reply: UpstreamReply) -> None:
        exchange = self._exchange
        body = await reply.read_all(MAX_REPLY_BODY)
        if exchange.request.operation == "generate":
            exchange.usage = exchange.request.format.read_usage(body)
            exchange.is_empty = exchange.request.format.is_empty(body)
            exchange.output_bytes = len(body)
            exchange.first_token_s = exchange.clock.monotonic()
        self._settle(exchange)
        self._client.send(reply.status, [("content-type", "application/json"), *self._headers], body)
        await self._client.drain()

    async def _stream(self, reply: UpstreamReply, meter: Meter) -> None:
        while piece := await reply.read():
            await self._pass_on(meter.feed(piece), meter)
        await self._pass_on(meter.finish(), meter)
        if not (meter.is_complete or meter.may_end):
            raise UpstreamBroken("The provider's stream ended before it was complete.")
        self._settle(self._exchange)
        self._client.end()

    async def _pass_on(self, events: bytes, meter: Meter) -> None:
        self._take(meter)
        if meter.is_complete:
            self._settle(self._exchange)
        if events:
            self._write(events)
            await self._client.drain()
        if meter.error is not None:
            raise meter.error

    def _take(self, meter: Meter) -> None:
        exchange = self._exchange
        exchange.usage = meter.usage
        exchange.output_bytes = meter.text_bytes
        if meter.is_complete or meter.may_end:
            exchange.is_empty = not meter.has_output
        if meter.has_output and exchange.first_token_s is None:
            exchange.first_token_s = exchange.clock.monotonic()

    def _write(self, events: bytes) -> None:
        if not self._client.is_started:
            headers = [("content-type", f"{_EVENT_STREAM}; charset=utf-8"), ("cache-control", "no-cache")]
            # nginx would otherwise gather the stream into its buffers.
            self._client.start(200, [*headers, ("x-accel-buffering", "no"), *self._headers])
        self._client.write(events)
