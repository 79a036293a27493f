"""How the dialect says that something failed: in an answer of its own, and inside a stream.

Inside a stream it is said twice. The vendor's SDKs raise at the nested `error` event; Codex passes over that one and
acts on the code of `response.failed`, where an unknown code means to try again.
"""

import msgspec

from trollproxy.errors import GatewayError

_ERROR_TYPES = {
    401: "authentication_error",
    402: "insufficient_quota",
    403: "permission_error",
    429: "rate_limit_error",
}
_CODES = {"invalid_key": "invalid_api_key"}  # ours -> the vendor's, where its clients look at it

_CONTEXT = "context_length_exceeded"
_NO_CREDIT = 402
_THROTTLED = 429


def write_error(error: GatewayError, request_id: str) -> bytes:
    """The body of an answer that is an error."""
    return msgspec.json.encode({"error": _error_object(error), "request_id": request_id})


def write_event(kind: str, members: dict[str, object]) -> bytes:
    data = msgspec.json.encode({"type": kind, **members})
    return b"event: " + kind.encode() + b"\ndata: " + data + b"\n\n"


def failed_stream(error: GatewayError, *, sequence: int, response: dict[str, object]) -> bytes:
    """A stream's last words; `response` is what is told of it beside its end."""
    nested = {"error": _error_object(error), "sequence_number": sequence}
    failure = {"code": stream_code(error), "message": stream_message(error)}
    failed = {"response": response | {"status": "failed", "error": failure}, "sequence_number": sequence + 1}
    return write_event("error", nested) + write_event("response.failed", failed)


def stream_code(error: GatewayError) -> str:
    """One of the codes that agents know."""
    if error.code == _CONTEXT:
        return _CONTEXT
    if error.status == _NO_CREDIT:
        return "insufficient_quota"
    if error.status == _THROTTLED:
        return "rate_limit_exceeded"
    # Not "server_is_overloaded" for what would be it: Codex gives up on that one, and the next try may well succeed.
    # The SDK knows this code for a fault of the request; agents do not try such a one again.
    return "invalid_prompt" if error.origin == "client" or _is_rejected(error) else "server_error"


def _is_rejected(error: GatewayError) -> bool:
    return error.origin == "upstream" and 400 <= error.status < 500  # noqa: PLR2004 - the range of client faults


def stream_message(error: GatewayError) -> str:
    """Codex reads from these very words how long to wait."""
    if error.status != _THROTTLED or error.retry_after_s is None:
        return error.message
    return f"{error.message} Please try again in {error.retry_after_s:g}s."


def _error_object(error: GatewayError) -> dict[str, object]:
    kind = _ERROR_TYPES.get(error.status, "invalid_request_error" if error.origin == "client" else "api_error")
    return {
        "message": error.message,
        "type": kind,
        "param": error.param,
        "code": _CODES.get(error.code, error.code),
    }
