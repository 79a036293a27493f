"""Our errors in the vendor's words."""

import msgspec

from trollproxy.errors import GatewayError

_ERROR_TYPES = {
    401: "authentication_error",
    402: "insufficient_quota",
    403: "permission_error",
    429: "rate_limit_error",
}
_CODES = {"invalid_key": "invalid_api_key"}  # ours -> the vendor's, where its clients look at it


def error_body(error: GatewayError, request_id: str) -> bytes:
    return msgspec.json.encode(_error_object(error, request_id))


def error_event(error: GatewayError, request_id: str) -> bytes:
    """An error inside a stream."""
    return b"data: " + error_body(error, request_id) + b"\n\n"


def _error_object(error: GatewayError, request_id: str) -> dict[str, object]:
    kind = _ERROR_TYPES.get(error.status, "invalid_request_error" if error.origin == "client" else "api_error")
    return {
        "error": {
            "message": error.message,
            "type": kind,
            "param": error.param,
            "code": _CODES.get(error.code, error.code),
        },
        "request_id": request_id,
    }
