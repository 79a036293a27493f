"""Carrying a provider's answer to the client: whole, or event by event with back-pressure.

Nothing is sent to the client before the first event that it may see, so an answer that begins with an error can still
become a proper error. The charge is made just before the last bytes go out: who has the whole answer was charged for
it. When the client hangs up, reading goes on for a bounded time without writing: the provider's own count, if it still
comes, is better than ours.
"""

import asyncio
from contextlib import suppress
from functools import partial

from trollproxy.errors import ClientGone, GatewayError, UpstreamBroken
from trollproxy.gateway.billing import Billing
from trollproxy.gateway.exchange import Exchange
from trollproxy.gateway.peek import Peeked
from trollproxy.gateway.pulse import Pulse
from trollproxy.ports import ClientStream
from trollproxy.wire.format import Headers, StreamMeter

READ_OUT_S = 1.0  # the end of a body follows its last event at once; who waits longer is not worth a connection
JSON = ("content-type", "application/json")


class Relay:
    """Relays one exchange, and settles it before the client can know that the answer is complete."""

    __slots__ = ("_billing", "_client", "_exchange", "_headers", "_ping_s", "_pulse")

    def __init__(
        self, exchange: Exchange, client: ClientStream, *, headers: Headers, billing: Billing, ping_s: float
    ) -> None:
        self._exchange = exchange
        self._client = client
        self._headers = headers
        self._billing = billing
        self._ping_s = ping_s
        self._pulse: Pulse | None = None  # while a stream is relayed

    async def run(self, reply: Peeked) -> None:
        meter = self._exchange.meter = reply.meter
        if meter is not None:
            await self._stream(reply, meter)
            return
        self._whole(reply)
        if self._client.is_full:
            await self._client.drain()

    def _whole(self, reply: Peeked) -> None:
        exchange, client, whole = self._exchange, self._client, reply.whole
        if whole is not None:
            exchange.usage, exchange.is_usage_final = whole.usage, True
            exchange.text_crc = whole.text_crc
            exchange.is_empty = not whole.text_bytes
            exchange.output_bytes = 0 if client.is_gone else whole.text_bytes
            exchange.first_token_s = exchange.clock.monotonic()
        self._settle()
        client.send(reply.status, [JSON, *self._headers], reply.body)

    async def _stream(self, reply: Peeked, meter: StreamMeter) -> None:
        client = self._client
        self._pulse = Pulse(self._ping_s, self._keep_alive)
        with self._pulse:
            self._pass_on(reply.body, meter)
            is_over = reply.is_over
            while not (is_over or meter.is_complete):
                if client.is_full:
                    await client.drain()
                is_over = await reply.each(partial(self._take_piece, meter))
        if not reply.is_over:
            self._pass_on(meter.finish(), meter)
        if not (meter.is_complete or meter.may_end):
            raise UpstreamBroken("The provider's stream ended before it was complete.")
        self._settle()
        client.end()
        if client.is_full:
            await client.drain()
        await _read_out(reply)

    def _take_piece(self, meter: StreamMeter, piece: bytes) -> bool:
        self._pass_on(meter.feed(piece), meter)
        return not (meter.is_complete or self._client.is_full)

    def _settle(self) -> None:
        """The provider's answer is complete. If the client did not stay to see it, that is how the exchange ended."""
        exchange = self._exchange
        if self._client.is_gone and not exchange.is_settled:
            exchange.error = ClientGone("The client hung up.")
        self._billing.settle(exchange)

    def _pass_on(self, events: bytes, meter: StreamMeter) -> None:
        self._take(meter)
        if meter.is_complete:
            self._settle()
        if events:
            self._write(events)
        if meter.error is not None:
            raise meter.error

    def _take(self, meter: StreamMeter) -> None:
        exchange = self._exchange
        exchange.usage, exchange.is_usage_final = meter.usage, meter.is_usage_final
        if not self._client.is_gone:  # what comes after a hang-up is not relayed
            exchange.output_bytes = meter.text_bytes
        if meter.is_complete or meter.may_end:
            exchange.is_empty = not meter.has_output
        if not meter.has_output:
            return
        now_s = exchange.clock.monotonic()
        if exchange.first_token_s is None:
            exchange.first_token_s = now_s
        self._billing.progress(exchange, now_s)

    def _write(self, events: bytes) -> None:
        if not self._client.is_started:
            request = self._exchange.request
            headers = [("content-type", request.format.stream_type(request.entry)), ("cache-control", "no-cache")]
            # nginx would otherwise gather the stream into its buffers.
            self._client.start(200, [*headers, ("x-accel-buffering", "no"), *self._headers])
        self._client.write(events)
        if self._pulse is not None:
            self._pulse.is_quiet = False

    def _keep_alive(self) -> None:
        """Say that it still runs. It begins the answer if need be: an error can then only be told inside the stream."""
        if not self._client.is_gone:
            self._write(self._exchange.request.format.keep_alive)


async def _read_out(reply: Peeked) -> None:
    """What comes behind the last event frees the connection for the next request; how it ends no longer matters."""
    with suppress(GatewayError, TimeoutError):
        async with asyncio.timeout(READ_OUT_S):
            await reply.each(_go_on)


def _go_on(_: bytes) -> bool:
    return True
