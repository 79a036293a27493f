"""What providers say when they refuse: their statuses and error bodies, read into our taxonomy.

All dialects carry `{"error": {"message", …}}`; what else stands there differs: `type`, `code` and `param` at OpenAI and
Anthropic, the status as `code`, its name as `status`, and `details` at Google. A provider's words reach the client only
where the fault is the client's own (agents act on "prompt is too long"), and only after names and secrets are masked.
"""

import re
from collections.abc import Mapping

from trollproxy.errors import (
    GatewayError,
    UpstreamAuthFailed,
    UpstreamBroken,
    UpstreamBudgetSpent,
    UpstreamRateLimited,
    UpstreamRejected,
    UpstreamUnavailable,
)
from trollproxy.wire.body import decode_reply
from trollproxy.wire.shallow import ANSWER, ERROR, ERROR_DETAILS, REFUSAL, ErrorDetail, ErrorObject

CONTEXT_OVERFLOW = "context_length_exceeded"
MAX_RETRY_AFTER_S = 3600.0  # who names a longer time is asked again after an hour
MAX_ERROR_BODY = 64 * 1024  # an error that needs more room is not an error message
MAX_MESSAGE = 2_000  # characters; longer words are no help to a person and might carry the prompt back

_SECRETS = re.compile(
    r"(?:\b(?:sk|fk|gsk|xai|org|proj|acct|key|req)[-_][A-Za-z0-9*_\-]{4,})"  # keys, account and request ids
    r"|(?:\bhttps?://\S+)|(?:\b[\w.+-]+@[\w-]+\.[\w.]+)"  # addresses of hosts and people
    r"|(?:\bAIza[\w-]{20,})"  # Google's keys
    r"|(?:\bBearer\s+\S+)"
)


_NO_ERROR = (b"", b"null")
_AN_ERROR = re.compile(rb'"error"(?!\s*:\s*null)')  # good answers of Responses all say that there is none

_TYPE_STATUS = {
    "INVALID_ARGUMENT": 400,
    "FAILED_PRECONDITION": 400,
    "UNAUTHENTICATED": 401,
    "PERMISSION_DENIED": 403,
    "NOT_FOUND": 404,
    "RESOURCE_EXHAUSTED": 429,
    "INTERNAL": 500,
    "UNAVAILABLE": 503,
    "DEADLINE_EXCEEDED": 504,
    "context_length_exceeded": 400,
    "invalid_prompt": 400,
    "server_error": 500,
    "server_is_overloaded": 503,
    "slow_down": 503,
    "invalid_request_error": 400,
    "authentication_error": 401,
    "billing_error": 402,
    "permission_error": 403,
    "not_found_error": 404,
    "request_too_large": 413,
    "rate_limit_error": 429,
    "rate_limit_exceeded": 429,
    "insufficient_quota": 429,
    "invalid_api_key": 401,
    "api_error": 500,
    "timeout_error": 504,
    "overloaded_error": 529,
}
_OVERFLOW = re.compile(
    r"prompt is too long|maximum context length|context window|context_length_exceeded|input is too long"
    r"|exceeds? the maximum number of tokens",
    re.IGNORECASE,
)
_TRY_AGAIN = re.compile(r"try again in (?P<seconds>\d+(?:\.\d+)?)s")
# Providers report dead keys by many statuses, 400 among them; their words tell what it is.
_BUDGET_SPENT = re.compile(
    r"insufficient_quota|budget_exceeded|exceeded your current quota|budget has been exceeded|exceededbudget"
    r"|credit balance is too low|insufficient[ _](?:balance|credits?|funds)"
    r"|billing_hard_limit_reached|billing_not_active",
    re.IGNORECASE,
)
_KEY_REFUSED = re.compile(
    r"api_key_invalid|invalid_api_key|account_deactivated|(?:invalid|incorrect|expired) (?:x-)?api[- ]?key"
    r"|api key (?:not valid|expired|not found)|invalid x-api-key|invalid proxy server token|no api key passed in",
    re.IGNORECASE,
)
# A refusal of a request quotes it. What a client wrote must not pass for words about our key.
_QUOTED = re.compile(r"'[^']*'?|\"[^\"]*\"?|`[^`]*`?")
_OPENING = 100  # characters: who speaks of the key begins with it
_MODEL_CLOSED = re.compile(r"\bmodel\b", re.IGNORECASE)
_UNAUTHORIZED, _PAYMENT, _FORBIDDEN, _THROTTLED = 401, 402, 403, 429
_MAY_SPEAK_OF_KEYS = (400, _UNAUTHORIZED, _PAYMENT, _FORBIDDEN, _THROTTLED)
_OVERLOADED = (503, 529)
_CLIENT_FAULT = (400, 404, 409, 413, 415, 422)
_SERVER_FAULT = 500
# What a failure may hide: a status inside of it that says more than the one around it.
_HIDDEN = (_UNAUTHORIZED, _PAYMENT, _THROTTLED, *_OVERLOADED)


def mask(text: str) -> str:
    return _SECRETS.sub("[hidden]", text[:MAX_MESSAGE])


def reply_error(status: int, headers: Mapping[str, str], body: bytes) -> GatewayError:
    """The error that a provider's non-2xx answer stands for."""
    decoded = decode_reply(REFUSAL, body.strip().removeprefix(b"[").removesuffix(b"]"))  # Google's lists hold one
    found = ErrorObject()
    if decoded is not None:
        found = decoded.error if isinstance(decoded.error, ErrorObject) else ErrorObject(message=decoded.message)
    named = _named_status(found)
    status = named if status >= _SERVER_FAULT and named in _HIDDEN else status
    return _classify(status, found, _retry_after(headers))


def embedded_error(body: bytes) -> GatewayError | None:
    """The error that a whole answer with a good status holds, if it is one."""
    if len(body) > MAX_ERROR_BODY or not _AN_ERROR.search(body):
        return None
    decoded = decode_reply(ANSWER, body)
    raw = bytes(decoded.error) if decoded is not None else b""
    return None if raw in _NO_ERROR else stream_error(raw)


def stream_error(raw: bytes) -> GatewayError:
    """The error inside a stream that began with 200; its status is read from its type or code."""
    found = decode_reply(ERROR, raw)
    if found is None or isinstance(found, str):
        return UpstreamBroken("The provider ended the stream with an error.")
    return _classify(_named_status(found) or _as_status(found.code), found, None)


def _named_status(found: ErrorObject) -> int | None:
    """The status that the error's own words stand for."""
    named = (_TYPE_STATUS.get(str(word)) for word in (found.code, found.status, found.type))
    return next(filter(None, named), None) or (_as_status(found.code) if isinstance(found.code, int) else None)


def _classify(status: int, found: ErrorObject, retry_after_s: float | None) -> GatewayError:
    refused = _key_error(status, found)
    if refused is not None:
        return refused
    if status == _THROTTLED:
        wait_s = retry_after_s if retry_after_s is not None else _told_wait(found)
        return UpstreamRateLimited("The provider's rate limit is reached.", retry_after_s=wait_s)
    if status in _CLIENT_FAULT:
        words = mask(found.message) if found.message else "The provider refused the request."
        code = CONTEXT_OVERFLOW if _is_overflow(found) else None
        return UpstreamRejected(words, status=status, code=code, param=found.param)
    if status in _OVERLOADED:
        text = "The provider is overloaded."
        return UpstreamUnavailable(
            text, code="upstream_overloaded", status=503, retry_after_s=retry_after_s, failure="overload"
        )
    return UpstreamUnavailable(
        "The provider failed.", code="upstream_failed", retry_after_s=retry_after_s, failure="overload"
    )


def _key_error(status: int, found: ErrorObject) -> GatewayError | None:
    """What is wrong with our key, if that is the trouble."""
    if status not in _MAY_SPEAK_OF_KEYS:
        return None
    opening = _QUOTED.sub("", (found.message or "")[:_OPENING])
    said = f"{found.code} {found.type} {opening}"
    if status == _PAYMENT or _BUDGET_SPENT.search(said):
        return UpstreamBudgetSpent("The gateway's key at the provider has nothing left to spend.")
    is_named = any(detail.reason == "API_KEY_INVALID" for detail in _details(found))
    if status == _UNAUTHORIZED or is_named or _KEY_REFUSED.search(said):
        return UpstreamAuthFailed("The provider does not accept the gateway's key for this request.")
    if status == _FORBIDDEN:
        # Where it is this model that is closed to the key, the key is as good as before for others.
        is_models = _MODEL_CLOSED.search(found.message or "") is not None
        text = "The provider does not accept the gateway's key for this request."
        return UpstreamAuthFailed(text, failure="content" if is_models else None)
    return None


def _is_overflow(found: ErrorObject) -> bool:
    """Whether the prompt is longer than the model takes. Agents compact their history when they are told so."""
    return found.code == CONTEXT_OVERFLOW or bool(_OVERFLOW.search(found.message or ""))


def _as_status(code: str | int | None) -> int:
    """Some providers put the status where others put a word ("a 429 inside a 200")."""
    return int(code) if re.fullmatch(r"[45]\d\d", str(code)) and code is not None else 500


def _details(found: ErrorObject) -> list[ErrorDetail]:
    return decode_reply(ERROR_DETAILS, bytes(found.details)) or []


def _retry_after(headers: Mapping[str, str]) -> float | None:
    """Seconds only: the date form of Retry-After would need a clock and no provider sends it."""
    return _as_wait(headers.get("retry-after", ""))


def _told_wait(found: ErrorObject) -> float | None:
    """Google says it in a detail ("34s"), OpenAI inside a stream in words ("try again in 1.2s")."""
    for detail in _details(found):
        if detail.retry_delay is not None:
            return _as_wait(detail.retry_delay.removesuffix("s"))
    told = _TRY_AGAIN.search(found.message or "")
    return _as_wait(told["seconds"]) if told is not None else None


def _as_wait(text: str) -> float | None:
    return min(float(text), MAX_RETRY_AFTER_S) if re.fullmatch(r"\d{1,6}(\.\d{1,9})?", text) else None
