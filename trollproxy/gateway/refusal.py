"""Telling the client no, in its own dialect, with the headers that its SDK acts on."""

from trollproxy.errors import GatewayError, InsufficientCredits
from trollproxy.gateway.exchange import Exchange
from trollproxy.ports import ClientStream
from trollproxy.wire.format import Headers

_UNAUTHORIZED = 401
_WORTH_WAITING_S = 60.0  # the JavaScript SDKs sleep as long as they are told, without a word to their user


def refuse(client: ClientStream, error: GatewayError, *, exchange: Exchange, headers: Headers) -> None:
    """Answer with the error; inside a stream that has begun, end it with the error as its last words."""
    if client.is_gone:
        return
    if client.is_started:
        assert exchange.meter is not None, "a stream has a meter"
        client.write(exchange.meter.write_error(error, exchange.request_id))
        client.end()
        return
    status, body = exchange.request.format.write_error(error, exchange.request_id)
    client.send(status, [("content-type", "application/json"), *headers, *error_headers(error)], body)


def error_headers(error: GatewayError) -> Headers:
    headers: Headers = []
    if error.retry_after_s is not None:
        # Rounded up: who comes back at the second named finds room.
        headers.append(("retry-after", str(-int(-error.retry_after_s // 1))))
    if error.status == _UNAUTHORIZED:
        headers.append(("www-authenticate", 'Bearer realm="trollproxy"'))
    if isinstance(error, InsufficientCredits) or (error.retry_after_s or 0.0) > _WORTH_WAITING_S:
        # The official SDKs retry on their own; an empty wallet does not fill by asking again, nor does a long rest end.
        headers.append(("x-should-retry", "false"))
    return headers
