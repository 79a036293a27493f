"""Getting one answer from a provider: pick a key, send, read a refusal, try another key while nothing was relayed.

An answer is handed on only when its status says that it is one; every refusal becomes our own error here.
"""

import logging

import msgspec

from trollproxy import __version__
from trollproxy.errors import (
    GatewayError,
    InvalidRequest,
    UpstreamAuthFailed,
    UpstreamBroken,
    UpstreamRateLimited,
    UpstreamUnavailable,
)
from trollproxy.gateway.exchange import ClientRequest, Exchange
from trollproxy.gateway.snapshot import Snapshot
from trollproxy.policy.pool import Pool
from trollproxy.ports import Upstream, UpstreamCall, UpstreamReply
from trollproxy.records import Endpoint, Provider, UpstreamKey
from trollproxy.wire.errors_in import reply_error
from trollproxy.wire.format import Headers

log = logging.getLogger(__name__)

MAX_KEYS_TRIED = 3  # keys of one provider fail alike; more tries only keep the client waiting
MAX_ERROR_BODY = 64 * 1024  # an error that needs more room is not an error message
_REST_S = {UpstreamAuthFailed: 10.0, UpstreamRateLimited: 1.0}  # where the provider names no time
_OK = range(200, 300)


class Attempts:
    """Sends exchanges to providers."""

    def __init__(self, upstream: Upstream) -> None:
        self._upstream = upstream

    def check(self, exchange: Exchange, snapshot: Snapshot) -> None:
        """Refuse what could not be sent now; it is not worth an intent."""
        assert exchange.model is not None
        _require_key(snapshot.keys[exchange.model.provider], exchange.clock.monotonic())

    async def send(self, exchange: Exchange, snapshot: Snapshot, body: bytes) -> UpstreamReply:
        """The provider's answer, its head read and its status good."""
        assert exchange.model is not None
        provider = snapshot.providers[exchange.model.provider]
        pool = snapshot.keys[provider.name]
        for tries_left in range(min(MAX_KEYS_TRIED, len(pool)) - 1, -1, -1):
            key = exchange.upstream_key = _pick(pool, exchange.clock.monotonic())
            try:
                return await self._send_once(exchange, provider, key, body=body)
            except GatewayError as error:
                now_s = exchange.clock.monotonic()
                _report(pool, key, error, now_s=now_s)
                if error.retry != "other_key" or not tries_left or pool.free_at_s() > now_s:
                    raise
                log.info("trying another key", extra={"fields": {"request_id": exchange.request_id, "key": key.key_id}})
        raise AssertionError("`check` comes before")

    async def _send_once(
        self, exchange: Exchange, provider: Provider, key: UpstreamKey, *, body: bytes
    ) -> UpstreamReply:
        call = UpstreamCall(
            endpoint=_endpoint(provider, exchange),
            headers=_headers(provider, exchange, key),
            body=body,
            timeouts=provider.timeouts,
            when_sent=exchange.mark_sent,
        )
        reply = await self._upstream.send(call)
        if reply.status in _OK:
            return reply
        try:
            raise reply_error(reply.status, reply.headers, await _error_body(reply))
        finally:
            reply.close()


def endpoint_of(provider: Provider, exchange: Exchange) -> Endpoint:
    """Where the provider speaks the client's format."""
    endpoint = provider.endpoints.get(exchange.request.format.name)
    if endpoint is None:
        spoken = " or ".join(_ROUTES[name] for name in provider.endpoints)
        raise InvalidRequest(
            f"This model is served in another format: use {spoken}.", code="format_not_supported", param="model"
        )
    return endpoint


_ROUTES = {"openai_chat": "POST /v1/chat/completions", "anthropic": "POST /v1/messages"}


def _endpoint(provider: Provider, exchange: Exchange) -> Endpoint:
    endpoint = endpoint_of(provider, exchange)
    suffix = "/count_tokens" if exchange.request.operation == "count_tokens" else ""
    suffix += "?beta=true" if exchange.request.query == "beta=true" else ""  # the one query the dialects have
    return msgspec.structs.replace(endpoint, path=endpoint.path + suffix) if suffix else endpoint


def _headers(provider: Provider, exchange: Exchange, key: UpstreamKey) -> tuple[tuple[str, str], ...]:
    """A tuple, by which the upstream client finds the head it has written for the same headers before."""
    request = exchange.request
    accept = "text/event-stream" if exchange.ask is not None and exchange.ask.stream else "application/json"
    return (
        ("content-type", "application/json"),
        ("accept", accept),
        ("accept-encoding", "identity"),  # usage must be read on the way through
        ("user-agent", f"trollproxy/{__version__}"),
        *request.format.auth_headers(key.secret),
        *_forwarded(request),
        *provider.headers,
    )


def _forwarded(request: ClientRequest) -> Headers:
    headers = request.format.forward_headers(request.headers)
    for name, value in headers:
        if not (value.isascii() and value.isprintable()):
            raise InvalidRequest(f"The header {name} holds characters that cannot be sent on.", param=name)
    return headers


def _pick(pool: Pool[UpstreamKey], now_s: float) -> UpstreamKey:
    _require_key(pool, now_s)
    key = pool.pick(now_s)
    assert key is not None
    return key


def _require_key(pool: Pool[UpstreamKey], now_s: float) -> None:
    if not len(pool):
        raise UpstreamUnavailable("The provider has no key configured.", code="no_upstream_key", status=503)
    wait_s = pool.free_at_s() - now_s
    if wait_s > 0:
        raise UpstreamUnavailable(
            "Every key of the provider is resting.", code="no_upstream_key", status=503, retry_after_s=wait_s
        )


def _report(pool: Pool[UpstreamKey], key: UpstreamKey, error: GatewayError, *, now_s: float) -> None:
    if error.retry == "other_key":
        pool.report_failure(key, now_s + (error.retry_after_s or _REST_S.get(type(error), 1.0)))


async def _error_body(reply: UpstreamReply) -> bytes:
    try:
        return await reply.read_all(MAX_ERROR_BODY)
    except UpstreamBroken:
        return b""  # the status alone classifies the refusal
