"""Errors as the vendor writes them: google.rpc.Status in JSON."""

from trollproxy.errors import GatewayError

_STATUSES = {
    400: "INVALID_ARGUMENT",
    401: "UNAUTHENTICATED",
    402: "FAILED_PRECONDITION",
    403: "PERMISSION_DENIED",
    404: "NOT_FOUND",
    405: "UNIMPLEMENTED",
    408: "DEADLINE_EXCEEDED",
    409: "ABORTED",
    413: "INVALID_ARGUMENT",
    429: "RESOURCE_EXHAUSTED",
    499: "CANCELLED",
    502: "UNAVAILABLE",
    503: "UNAVAILABLE",
    504: "DEADLINE_EXCEEDED",
}
_TYPE = "type.googleapis.com/google.rpc."


def error_object(error: GatewayError, request_id: str) -> dict[str, object]:
    """`error` is the first key: the vendor's Python client takes a stream's chunk for an answer otherwise."""
    about: dict[str, object] = {"@type": f"{_TYPE}ErrorInfo", "reason": error.code.upper(), "domain": "trollproxy"}
    if error.param is not None:
        about["metadata"] = {"param": error.param}
    details = [about, {"@type": f"{_TYPE}RequestInfo", "requestId": request_id}]
    if error.retry_after_s is not None:
        details.append({"@type": f"{_TYPE}RetryInfo", "retryDelay": f"{error.retry_after_s:g}s"})
    unnamed = "FAILED_PRECONDITION" if error.origin == "client" else "INTERNAL"
    status = _STATUSES.get(error.status, unnamed)
    return {"error": {"code": error.status, "message": error.message, "status": status, "details": details}}
