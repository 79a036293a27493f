"""What is written to a provider for one try: where to, with which headers, and the body in its own words."""

import msgspec

from trollproxy import __version__
from trollproxy.errors import InvalidRequest
from trollproxy.gateway.exchange import Exchange
from trollproxy.gateway.stops import SentHead, SentHeads
from trollproxy.gateway.visit import Visit
from trollproxy.ports import UpstreamCall
from trollproxy.records import Provider, UpstreamKey
from trollproxy.wire.format import Headers
from trollproxy.wire.passage import Passage

MAX_SENT_HEADS = 4096  # keys x formats x betas of clients; at 1 kB each 4 MB, at the most (see below) twice that
MAX_CHOSEN_CHARS = 1024  # of the client's words in one that is kept: real betas are shorter, made up ones up to 16 kB


def build_call(heads: SentHeads, exchange: Exchange, visit: Visit) -> UpstreamCall:
    leg = visit.leg
    provider = leg.stop.provider
    assert visit.proxy is not None or not provider.proxies, "a provider behind proxies is never called directly"
    sent = _sent_head(heads, exchange, visit)
    return UpstreamCall(
        endpoint=sent.endpoint,
        headers=sent.headers,
        body=leg.body,
        timeouts=provider.timeouts,
        proxy=visit.proxy,
        when_sent=visit.mark_sent,
    )


def _sent_head(heads: SentHeads, exchange: Exchange, visit: Visit) -> SentHead:
    """Where it goes and under which headers. The same for the next request of its kind, and the very same objects: by
    them the upstream client knows the head it has written before.
    """
    leg, key = visit.leg, visit.key
    passage, provider = leg.passage, leg.stop.provider
    wire = passage.upstream.name
    assert exchange.ask is not None
    path = passage.upstream_path(provider.endpoints[wire].path, leg.target)
    dialect = tuple(passage.upstream_headers(exchange.request.headers))
    known_by = (provider.name, key.key_id, wire, exchange.ask.stream, path, dialect)
    sent = heads.get(known_by)
    if sent is None:
        accept = "text/event-stream" if exchange.ask.stream else "application/json"
        headers = (*_FIRST, ("accept", accept), *_key_headers(provider, key, passage), *_checked(dialect))
        endpoint = msgspec.structs.replace(provider.endpoints[wire], path=path)
        sent = SentHead(endpoint, (*headers, *provider.headers))
        if sum(len(value) for _, value in dialect) <= MAX_CHOSEN_CHARS:
            if len(heads) >= MAX_SENT_HEADS:
                heads.clear()
            heads[known_by] = sent
    return sent


_FIRST = (
    ("content-type", "application/json"),
    ("accept-encoding", "identity"),  # usage must be read on the way through
    ("user-agent", f"trollproxy/{__version__}"),
)


def _key_headers(provider: Provider, key: UpstreamKey, passage: Passage) -> Headers:
    """Compatible servers do not always take the key where the format's own vendor has it."""
    if provider.key_header is None:
        return passage.upstream.auth_headers(key.secret)
    secret = f"Bearer {key.secret}" if provider.key_header == "authorization" else key.secret
    return [(provider.key_header, secret)]


def _checked(headers: tuple[tuple[str, str], ...]) -> tuple[tuple[str, str], ...]:
    for name, value in headers:
        if not (value.isascii() and value.isprintable()):
            raise InvalidRequest(f"The header {name} holds characters that cannot be sent on.", param=name)
    return headers
