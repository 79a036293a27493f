"""The raw handlers of the model endpoints: from an aiohttp request to the pipeline, and nothing in between."""

import asyncio
from http import HTTPStatus

import msgspec
from aiohttp import web
from aiohttp.http import HttpVersion11

from trollproxy.errors import ClientTooSlow, GatewayError, InvalidRequest, NotFound, PayloadTooLarge
from trollproxy.gateway.callers import Caller, Callers
from trollproxy.gateway.exchange import ClientRequest
from trollproxy.gateway.gate import Gate
from trollproxy.gateway.pipeline import Pipeline
from trollproxy.gateway.snapshot import Live
from trollproxy.records import Model, Wallet
from trollproxy.web.client_stream import TransportStream, Written
from trollproxy.web.connection import Connection
from trollproxy.web.peers import TrustedNetworks
from trollproxy.web.replies import credential_of, dialect_of, error_reply, json_reply
from trollproxy.wire import ANTHROPIC, GEMINI, OPENAI_CHAT, OPENAI_RESPONSES
from trollproxy.wire.format import Entry, Format, Operation
from trollproxy.wire.model_list import DIALECTS, by_name


class BodyLimits(msgspec.Struct, frozen=True, kw_only=True):
    """How large a body may be and how long it may take to arrive."""

    max_bytes: int
    timeout_s: float


_GENERATE = Entry()
_VERBS: dict[str, Operation] = {
    "generateContent": "generate",
    "streamGenerateContent": "generate",
    "countTokens": "count_tokens",
}


def gemini_entry(path: str, *, is_sse: bool) -> Entry:
    """What Google's way of naming model and verb in the path says."""
    name, _, verb = path.rpartition("/models/")[2].rpartition(":")
    if verb not in _VERBS or not name:
        known = ", ".join(f":{verb}" for verb in _VERBS)
        raise NotFound(f"There is nothing at {path[:200]!r}. A model's path ends in one of {known}.")
    stream = verb == "streamGenerateContent"
    return Entry(operation=_VERBS[verb], model=name, stream=stream, is_array=stream and not is_sse)


class LlmRoutes:
    """The model endpoints of one listener, which decides the wallet."""

    def __init__(
        self,
        *,
        pipeline: Pipeline,
        gate: Gate,
        wallet: Wallet,
        body_limits: BodyLimits,
        trusted: TrustedNetworks,
    ) -> None:
        self._pipeline = pipeline
        self._gate = gate
        self._wallet = wallet
        self._body_limits = body_limits
        self._trusted = trusted

    async def chat(self, request: web.BaseRequest) -> web.StreamResponse:
        return await self._serve(request, OPENAI_CHAT, _GENERATE)

    async def responses(self, request: web.BaseRequest) -> web.StreamResponse:
        return await self._serve(request, OPENAI_RESPONSES, _GENERATE)

    async def response_tokens(self, request: web.BaseRequest) -> web.StreamResponse:
        return await self._serve(request, OPENAI_RESPONSES, Entry(operation="count_tokens"))

    async def messages(self, request: web.BaseRequest) -> web.StreamResponse:
        return await self._serve(request, ANTHROPIC, Entry(is_beta=request.query_string == "beta=true"))

    async def count_tokens(self, request: web.BaseRequest) -> web.StreamResponse:
        is_beta = request.query_string == "beta=true"
        return await self._serve(request, ANTHROPIC, Entry(operation="count_tokens", is_beta=is_beta))

    async def generate(self, request: web.BaseRequest) -> web.StreamResponse:
        """Gemini's body with the model inside it, answered in one piece."""
        return await self._serve(request, GEMINI, _GENERATE)

    async def gemini(self, request: web.BaseRequest) -> web.StreamResponse:
        """`…/models/{model}:{verb}`."""
        try:
            entry = gemini_entry(request.path, is_sse=request.query.get("alt") == "sse")
        except GatewayError as error:
            return error_reply(error, request)
        return await self._serve(request, GEMINI, entry)

    async def _serve(self, request: web.BaseRequest, wire: Format, entry: Entry) -> web.StreamResponse:
        connection = request.protocol
        assert isinstance(connection, Connection)
        stream = TransportStream.to(request, connection.outbox, keep_alive=not self._gate.is_draining)
        connection.stream = stream
        headers = request.headers
        asked = ClientRequest(
            wire,
            entry,
            headers,
            credential=credential_of(request),
            peer=self._trusted.client_of(connection.peer, headers.get("X-Forwarded-For")),
            wallet=self._wallet,
        )
        shape = connection.take_shape()
        await self._pipeline.serve(asked, stream, lambda: read_body(request, self._body_limits))
        connection.outbox.flush()  # before aiohttp closes the connection, if it is to be closed
        connection.stream = None
        is_plain = stream.keep_alive and request.version == HttpVersion11
        if shape is not None and is_plain and stream.status == HTTPStatus.OK:
            connection.remember(shape, asked)
        return Written(stream)


class ModelRoutes:
    """GET /v1/models and /v1/models/{id}, in the caller's dialect and as far as the caller may use them."""

    def __init__(self, *, live: Live, callers: Callers, gate: Gate) -> None:
        self._live = live
        self._callers = callers
        self._gate = gate

    async def list(self, request: web.BaseRequest) -> web.StreamResponse:
        try:
            models = await self._models(request)
        except GatewayError as error:
            return error_reply(error, request)
        return json_reply(DIALECTS[dialect_of(request).name].write_list(models))

    async def retrieve(self, request: web.BaseRequest) -> web.StreamResponse:
        name = request.path.rpartition("/models/")[2]
        try:
            models = await self._models(request)
            if name not in models:
                raise NotFound(f"There is no model {name[:100]!r}.", code="model_not_found", param="model")
        except GatewayError as error:
            return error_reply(error, request)
        return json_reply(DIALECTS[dialect_of(request).name].write_model(name, models[name]))

    async def _models(self, request: web.BaseRequest) -> dict[str, Model]:
        caller = await authenticate(request, self._callers, self._gate)
        routes = self._live.snapshot.routes
        models = by_name(routes.listed(), routes.sizes())
        if caller.friend is None:
            return models
        open_ids = {model_id for model_id, limit in caller.friend.model_limits.items() if limit.enabled}
        return {name: model for name, model in models.items() if model.model_id in open_ids}


async def authenticate(request: web.BaseRequest, callers: Callers, gate: Gate) -> Caller:
    """Who calls one of the cold endpoints."""
    return await callers.authenticate(
        credential_of(request), request.remote or "", wall_s=gate.clock.wall(), now_s=gate.clock.monotonic()
    )


async def read_body(request: web.BaseRequest, limits: BodyLimits) -> bytes:
    """The whole body, within its limits. A client that waits for our word before sending gets it here."""
    if (request.content_length or 0) > limits.max_bytes:
        raise _too_large(limits)
    if request.headers.get("Content-Encoding", "identity").lower() != "identity":
        raise InvalidRequest("Compressed request bodies are not accepted.", code="unsupported_encoding")
    if request.headers.get("Expect", "").lower() == "100-continue" and request.transport is not None:
        request.transport.write(b"HTTP/1.1 100 Continue\r\n\r\n")
    if request.content.is_eof():
        return await _read_all(request, limits)
    try:
        async with asyncio.timeout(limits.timeout_s):
            return await _read_all(request, limits)
    except TimeoutError as error:
        raise ClientTooSlow(f"The request body did not arrive within {limits.timeout_s:g} seconds.") from error


async def _read_all(request: web.BaseRequest, limits: BodyLimits) -> bytes:
    pieces, size = [], 0
    try:
        while piece := await request.content.readany():
            size += len(piece)
            if size > limits.max_bytes:
                raise _too_large(limits)
            pieces.append(piece)
    except web.RequestPayloadError as error:
        raise InvalidRequest("The request body is not framed correctly.", code="invalid_framing") from error
    return b"".join(pieces)


def _too_large(limits: BodyLimits) -> PayloadTooLarge:
    return PayloadTooLarge(f"The request body is larger than {limits.max_bytes:,} bytes.")
