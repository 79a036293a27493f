"""Errors in the dialect, as a whole body and inside a stream."""

import msgspec

from trollproxy.errors import GatewayError
from trollproxy.wire.errors_in import CONTEXT_OVERFLOW

_TYPES = {
    400: "invalid_request_error",
    401: "authentication_error",
    402: "billing_error",
    403: "permission_error",
    404: "not_found_error",
    413: "request_too_large",
    429: "rate_limit_error",
    503: "overloaded_error",
    504: "timeout_error",
}
_OVERFLOW = "prompt is too long"  # the vendor has no code for it: its clients compact their history at these words
_OVERLOADED = 529  # this dialect's own status for what is 503 elsewhere


def error_status(error: GatewayError) -> int:
    return _OVERLOADED if _TYPES.get(error.status) == "overloaded_error" else error.status


def error_body(error: GatewayError, request_id: str) -> bytes:
    kind = _TYPES.get(error.status, "invalid_request_error" if error.origin == "client" else "api_error")
    detail: dict[str, object] = {"type": kind, "message": _words(error), "details": {"code": error.code}}
    return msgspec.json.encode({"type": "error", "error": detail, "request_id": request_id})


def _words(error: GatewayError) -> str:
    if error.code != CONTEXT_OVERFLOW or _OVERFLOW in error.message.lower():
        return error.message
    return f"{_OVERFLOW}: {error.message}"


def error_event(error: GatewayError, request_id: str) -> bytes:
    """An error inside a stream."""
    return b"event: error\ndata: " + error_body(error, request_id) + b"\n\n"
