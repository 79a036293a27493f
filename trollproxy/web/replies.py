"""Answers of the cold endpoints, as ordinary aiohttp responses."""

from collections.abc import Mapping

import msgspec
from aiohttp import web

from trollproxy.errors import GatewayError
from trollproxy.gateway.exchange import new_request_id
from trollproxy.gateway.refusal import error_headers
from trollproxy.wire import ANTHROPIC, GEMINI, OPENAI_CHAT
from trollproxy.wire.format import Format


def json_reply(body: object, *, status: int = 200, headers: Mapping[str, str] | None = None) -> web.Response:
    data = msgspec.json.encode(body)
    return web.Response(status=status, body=data, content_type="application/json", headers=headers)


def error_reply(error: GatewayError, request: web.BaseRequest) -> web.Response:
    """The error in the dialect that the request looks like."""
    wire, request_id = dialect_of(request), new_request_id()
    status, body = wire.write_error(error, request_id)
    headers = dict((wire.request_id_header(request_id), *error_headers(error)))
    return web.Response(status=status, body=body, content_type="application/json", headers=headers)


def dialect_of(request: web.BaseRequest) -> Format:
    """Anthropic's clients name their version, Google's have a header or a path of their own, everybody else is answered
    as OpenAI would.
    """
    if "anthropic-version" in request.headers:
        return ANTHROPIC
    is_google = "x-goog-api-key" in request.headers or request.path.startswith("/v1beta/") or "key" in request.query
    return GEMINI if is_google else OPENAI_CHAT


def credential_of(request: web.BaseRequest) -> str | None:
    """The key, wherever the dialects put it."""
    headers = request.headers
    scheme, _, token = headers.get("Authorization", "").partition(" ")
    if scheme.lower() == "bearer" and token:
        return token.strip()
    return headers.get("x-api-key") or headers.get("x-goog-api-key") or request.query.get("key")
