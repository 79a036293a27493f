"""One line for every exchange: what a log record of these fields would look like, rendered from the facts at once.

A line is made for every request, so it must cost little: names that are met again are quoted once, and all else is
numbers and words of our own. A client's words are not told: of a header that says how often it has tried before, only
a small number is.
"""

from collections.abc import Callable
from functools import lru_cache
from typing import get_args

from trollproxy.chat.counts import input_tokens, output_tokens
from trollproxy.gateway.exchange import Attempt, Exchange
from trollproxy.policy.echoes import Source
from trollproxy.policy.pricing import usd
from trollproxy.telemetry.lines import stamp
from trollproxy.telemetry.logs import LineFormat, json_value, text_value

# Who asked whom for what, with which end: names of users, models and keys, addresses of peers, all short, and chosen by
# those who run the gateway. At about a kilobyte, quoted and not, they are 4 MB.
MAX_KNOWN = 4_096
MAX_RETRY_DIGITS = 3
_NULL = "null"

# What stands between quotes here is a word of ours that needs no escapes; the other texts bring their quotes with them.
_TEXT = (
    "%s INFO trollproxy.access exchange request_id=%s %s input_tokens=%s output_tokens=%s cached=%s cost=%s"
    " duration_ms=%.1f attempts=%s retries=%s"
)
_TEXT_PARTIES = "peer=%s user=%s key=%s format=%s model=%s provider=%s upstream_key=%s status=%d code=%s"
_JSON = (
    '{"ts":"%s","level":"info","logger":"trollproxy.access","message":"exchange","request_id":"%s",%s,"input_tokens":%s,'
    '"output_tokens":%s,"cached":%s,"cost":"%s","duration_ms":%.1f,"attempts":%s,"retries":%s}'
)
_JSON_PARTIES = (
    '"peer":%s,"user":%s,"key":%s,"format":%s,"model":%s,"provider":%s,"upstream_key":%s,"status":%d,"code":%s'
)


class AccessLog:
    """Renders exchanges in a log's format and gives the lines to `write`."""

    def __init__(self, line_format: LineFormat, write: Callable[[str], None]) -> None:
        is_text = line_format == "text"
        self._line, self._parties_line = (_TEXT, _TEXT_PARTIES) if is_text else (_JSON, _JSON_PARTIES)
        self._quote = text_value if is_text else json_value
        self._sources = {word: self._quote(word) for word in get_args(Source)}
        self._parties = lru_cache(MAX_KNOWN)(self._told_parties)
        self._write = write

    def tell(self, exchange: Exchange, duration_s: float) -> None:
        request, caller, error = exchange.request, exchange.caller, exchange.error
        model, supplier, upstream_key = exchange.model, exchange.supplier, exchange.upstream_key
        usage, attempts, cached = exchange.charged, exchange.attempts, exchange.cached
        retries = request.headers.get("x-stainless-retry-count")
        parties = self._parties(
            request.peer,
            caller.account.user.username if caller is not None and caller.account is not None else None,
            caller.key_id if caller is not None else None,
            request.format.name,
            model.model_id if model is not None else None,
            supplier.provider if supplier is not None else None,
            upstream_key.key_id if upstream_key is not None else None,
            error.status if error is not None else 200,
            error.code if error is not None else "ok",
        )
        line = self._line % (
            stamp(exchange.started_at_s + duration_s),
            exchange.request_id,
            parties,
            input_tokens(usage) if usage is not None else _NULL,
            output_tokens(usage) if usage is not None else _NULL,
            self._sources[cached] if cached is not None else _NULL,
            usd(exchange.cost_nusd),
            duration_s * 1000,
            self._quote(" ".join([_told(attempt) for attempt in attempts])) if len(attempts) > 1 else _NULL,
            self._quote(retries) if retries is not None and _is_small_number(retries) else _NULL,
        )
        self._write(line)

    def _told_parties(self, *parties: str | int | None) -> str:
        quote = self._quote
        told = [_NULL if each is None else quote(each) if isinstance(each, str) else each for each in parties]
        return self._parties_line % tuple(told)


def _is_small_number(text: str) -> bool:
    return len(text) <= MAX_RETRY_DIGITS and text.isascii() and text.isdigit()


def _told(attempt: Attempt) -> str:
    way = "/".join(filter(None, (attempt.provider, attempt.key_id, attempt.proxy_id)))
    return f"{way}:{attempt.code}:{attempt.duration_ms:.0f}ms"
