"""What providers say when they refuse: their statuses and error bodies, read into our taxonomy.

Both dialects carry `{"error": {"message", "type", "code", "param"}}`. A provider's words reach the client only where
the fault is the client's own (agents act on "prompt is too long"), and only after names and secrets are masked.
"""

import re
from collections.abc import Mapping

import msgspec

from trollproxy.errors import (
    GatewayError,
    UpstreamAuthFailed,
    UpstreamBroken,
    UpstreamRateLimited,
    UpstreamRejected,
    UpstreamUnavailable,
)
from trollproxy.wire.body import decode_reply

MAX_MESSAGE = 2_000  # characters; longer words are no help to a person and might carry the prompt back

_SECRETS = re.compile(
    r"(?:\b(?:sk|fk|gsk|xai|org|proj|acct|key|req)[-_][A-Za-z0-9*_\-]{4,})"  # keys, account and request ids
    r"|(?:\bhttps?://\S+)|(?:\b[\w.+-]+@[\w-]+\.[\w.]+)"  # addresses of hosts and people
    r"|(?:\bAIza[\w-]{20,})"  # Google's keys
    r"|(?:\bBearer\s+\S+)"
)


class _ErrorObject(msgspec.Struct):
    message: str | None = None
    type: str | None = None
    code: str | int | None = None
    param: str | None = None


class _ErrorBody(msgspec.Struct):
    error: _ErrorObject | str | None = None
    message: str | None = None


_BODY = msgspec.json.Decoder(_ErrorBody)
_OBJECT = msgspec.json.Decoder(_ErrorObject | str)

_TYPE_STATUS = {
    "invalid_request_error": 400,
    "authentication_error": 401,
    "billing_error": 402,
    "permission_error": 403,
    "not_found_error": 404,
    "request_too_large": 413,
    "rate_limit_error": 429,
    "rate_limit_exceeded": 429,
    "insufficient_quota": 429,
    "api_error": 500,
    "timeout_error": 504,
    "overloaded_error": 529,
}
_KEY_TROUBLE = (401, 402, 403)
_THROTTLED = 429
_OVERLOADED = (503, 529)
_CLIENT_FAULT = (400, 404, 409, 413, 415, 422)


def mask(text: str) -> str:
    return _SECRETS.sub("[hidden]", text[:MAX_MESSAGE])


def reply_error(status: int, headers: Mapping[str, str], body: bytes) -> GatewayError:
    """The error that a provider's non-2xx answer stands for."""
    decoded = decode_reply(_BODY, body)
    found = _ErrorObject()
    if decoded is not None:
        found = decoded.error if isinstance(decoded.error, _ErrorObject) else _ErrorObject(message=decoded.message)
    return _classify(status, found, _retry_after(headers))


def stream_error(raw: bytes) -> GatewayError:
    """The error inside a stream that began with 200; its status is read from its type or code."""
    found = decode_reply(_OBJECT, raw)
    if found is None or isinstance(found, str):
        return UpstreamBroken("The provider ended the stream with an error.")
    status = _TYPE_STATUS.get(found.type or "") or _TYPE_STATUS.get(str(found.code)) or _as_status(found.code)
    return _classify(status, found, None)


def _classify(status: int, found: _ErrorObject, retry_after_s: float | None) -> GatewayError:
    if status in _KEY_TROUBLE:
        return UpstreamAuthFailed("The provider does not accept the gateway's key for this request.")
    if status == _THROTTLED:
        return UpstreamRateLimited("The provider's rate limit is reached.", retry_after_s=retry_after_s)
    if status in _CLIENT_FAULT:
        words = mask(found.message) if found.message else "The provider refused the request."
        code = found.code if isinstance(found.code, str) and found.code == "context_length_exceeded" else None
        return UpstreamRejected(words, status=status, code=code, param=found.param)
    if status in _OVERLOADED:
        text = "The provider is overloaded."
        return UpstreamUnavailable(text, code="upstream_overloaded", status=503, retry_after_s=retry_after_s)
    return UpstreamUnavailable("The provider failed.", code="upstream_failed", retry_after_s=retry_after_s)


def _as_status(code: str | int | None) -> int:
    """Some providers put the status where others put a word ("a 429 inside a 200")."""
    return int(code) if re.fullmatch(r"[45]\d\d", str(code)) and code is not None else 500


def _retry_after(headers: Mapping[str, str]) -> float | None:
    """Seconds only: the date form of Retry-After would need a clock and no provider sends it."""
    text = headers.get("retry-after", "")
    return min(float(text), 3600.0) if re.fullmatch(r"\d{1,6}(\.\d{1,3})?", text) else None
