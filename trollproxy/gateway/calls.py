"""What is written to a provider for one try: where to, with which headers, and the body in its own words."""

import msgspec

from trollproxy import __version__
from trollproxy.errors import InvalidRequest
from trollproxy.gateway.exchange import ClientRequest, Exchange
from trollproxy.gateway.visit import Leg, Visit
from trollproxy.ports import UpstreamCall
from trollproxy.records import Endpoint, Provider, UpstreamKey
from trollproxy.wire.format import Headers
from trollproxy.wire.passage import Passage


def build_call(exchange: Exchange, visit: Visit, provider: Provider) -> UpstreamCall:
    assert visit.proxy is not None or not provider.proxies, "a provider behind proxies is never called directly"
    leg = visit.leg
    return UpstreamCall(
        endpoint=_endpoint(provider, leg),
        headers=_headers(provider, exchange, key=visit.key, passage=leg.passage),
        body=leg.body,
        timeouts=provider.timeouts,
        proxy=visit.proxy,
        when_sent=visit.mark_sent,
    )


def _endpoint(provider: Provider, leg: Leg) -> Endpoint:
    endpoint = provider.endpoints[leg.passage.upstream.name]
    path = leg.passage.upstream_path(endpoint.path, leg.target)
    return msgspec.structs.replace(endpoint, path=path) if path != endpoint.path else endpoint


def _headers(
    provider: Provider, exchange: Exchange, *, key: UpstreamKey, passage: Passage
) -> tuple[tuple[str, str], ...]:
    """A tuple, by which the upstream client finds the head it has written for the same headers before."""
    accept = "text/event-stream" if exchange.ask is not None and exchange.ask.stream else "application/json"
    return (
        ("content-type", "application/json"),
        ("accept", accept),
        ("accept-encoding", "identity"),  # usage must be read on the way through
        ("user-agent", f"trollproxy/{__version__}"),
        *_key_headers(provider, key, passage),
        *_of_dialect(passage, exchange.request),
        *provider.headers,
    )


def _key_headers(provider: Provider, key: UpstreamKey, passage: Passage) -> Headers:
    """Compatible servers do not always take the key where the format's own vendor has it."""
    if provider.key_header is None:
        return passage.upstream.auth_headers(key.secret)
    secret = f"Bearer {key.secret}" if provider.key_header == "authorization" else key.secret
    return [(provider.key_header, secret)]


def _of_dialect(passage: Passage, request: ClientRequest) -> Headers:
    headers = passage.upstream_headers(request.headers)
    for name, value in headers:
        if not (value.isascii() and value.isprintable()):
            raise InvalidRequest(f"The header {name} holds characters that cannot be sent on.", param=name)
    return headers
