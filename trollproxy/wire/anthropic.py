"""Anthropic Messages.

Reads of a request: model, stream, max_tokens. Reads of a stream: usage (message_start, then cumulative message_delta),
text length, message_stop, errors. Input tokens exclude cache reads and writes here, unlike at OpenAI.
"""

from collections.abc import Mapping
from datetime import UTC, datetime, timedelta

import msgspec

from trollproxy.chat import Ask, Usage
from trollproxy.errors import GatewayError, InvalidRequest, UpstreamBroken
from trollproxy.records import FormatName
from trollproxy.wire.body import check_model, decode_reply, decode_request, names_model_twice, replace_members
from trollproxy.wire.errors_in import stream_error
from trollproxy.wire.format import Headers, LimitState, Meter, Operation, Whole
from trollproxy.wire.sse import event_data

DEFAULT_VERSION = "2023-06-01"  # what a client that names none was written against


class _Request(msgspec.Struct):
    model: str
    messages: list[msgspec.Raw]
    max_tokens: int
    stream: bool | None = None


class _CountRequest(msgspec.Struct):
    model: str
    messages: list[msgspec.Raw]


class _CacheCreation(msgspec.Struct):
    ephemeral_5m_input_tokens: int | None = None
    ephemeral_1h_input_tokens: int | None = None


class _ServerTools(msgspec.Struct):
    web_search_requests: int | None = None


class _OutputDetails(msgspec.Struct):
    thinking_tokens: int | None = None


class _Usage(msgspec.Struct):
    input_tokens: int | None = None
    output_tokens: int | None = None
    cache_read_input_tokens: int | None = None
    cache_creation_input_tokens: int | None = None
    cache_creation: _CacheCreation | None = None
    server_tool_use: _ServerTools | None = None
    output_tokens_details: _OutputDetails | None = None


class _Delta(msgspec.Struct):
    """A piece of a block, or a whole one."""

    text: str | None = None
    thinking: str | None = None
    partial_json: str | None = None
    input: msgspec.Raw = msgspec.Raw()


class _Message(msgspec.Struct):
    usage: _Usage | None = None


class _Event(msgspec.Struct):
    type: str
    message: _Message | None = None
    usage: _Usage | None = None
    delta: _Delta | None = None
    error: msgspec.Raw = msgspec.Raw()


class _Reply(msgspec.Struct):
    content: list[_Delta]
    usage: _Usage | None = None


_REQUEST = msgspec.json.Decoder(_Request)
_COUNT_REQUEST = msgspec.json.Decoder(_CountRequest)
_EVENT = msgspec.json.Decoder(_Event)
_REPLY = msgspec.json.Decoder(_Reply)

_ERROR_TYPES = {
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
_OVERLOADED = 529  # this dialect's own status for what is 503 elsewhere


class _MessagesMeter(Meter):
    __slots__ = ("_counted",)

    def __init__(self) -> None:
        super().__init__()
        self._counted = _Usage()

    def _read(self, event: bytes) -> bool:
        data = event_data(event)
        if not data:
            return True
        decoded = decode_reply(_EVENT, data)
        if decoded is None:
            self.error = UpstreamBroken("The provider sent a stream event that is not of its format.")
            return False
        if decoded.type == "error":
            self.error = stream_error(bytes(decoded.error))
            return False
        self._take(decoded)
        return True

    def _take(self, event: _Event) -> None:
        if event.type == "content_block_delta" and event.delta is not None:
            self._count(event.delta)
        elif event.type == "message_stop":
            self.is_complete = True
        usage = event.message.usage if event.message is not None else event.usage
        if usage is not None:
            self._counted = _overwrite(self._counted, usage)
            self.usage = _to_usage(self._counted)
            self.is_usage_final = event.type == "message_delta"

    def _count(self, delta: _Delta) -> None:
        size = _size_of(delta)
        if size:
            self.text_bytes += size
            self.has_output = True


class Anthropic:
    """The format's entry in FORMATS."""

    name: FormatName = "anthropic"

    def read_ask(self, body: bytes, operation: Operation) -> Ask:
        if operation == "count_tokens":
            return _read_count_ask(body)
        request = decode_request(_REQUEST, body)
        check_model(request.model)
        _require_messages(request.messages)
        if request.max_tokens < 0:
            raise InvalidRequest("`max_tokens` must not be negative.", param="max_tokens")
        return Ask(model=request.model, stream=bool(request.stream), max_output_tokens=request.max_tokens)

    def prepare(self, body: bytes, ask: Ask, upstream_model: str) -> bytes:
        if upstream_model != ask.model or names_model_twice(body):
            return replace_members(body, {"model": upstream_model})
        return body

    def auth_headers(self, secret: str) -> Headers:
        return [("x-api-key", secret)]

    def forward_headers(self, headers: Mapping[str, str]) -> Headers:
        forwarded = [("anthropic-version", headers.get("anthropic-version", DEFAULT_VERSION))]
        if "anthropic-beta" in headers:
            forwarded.append(("anthropic-beta", headers["anthropic-beta"]))
        return forwarded

    def meter(self, ask: Ask) -> Meter:  # noqa: ARG002 - the dialect always sends usage
        return _MessagesMeter()

    def read_whole(self, body: bytes) -> Whole:
        reply = decode_reply(_REPLY, body)
        if reply is None:
            raise UpstreamBroken("The provider's answer is not of its format.")
        usage = _to_usage(reply.usage) if reply.usage is not None else None
        return Whole(usage, sum(_size_of(block) for block in reply.content))

    def write_error(self, error: GatewayError, request_id: str) -> tuple[int, bytes]:
        status = _OVERLOADED if _ERROR_TYPES.get(error.status) == "overloaded_error" else error.status
        return status, msgspec.json.encode(_error_object(error, request_id))

    def write_error_event(self, error: GatewayError, request_id: str) -> bytes:
        return b"event: error\ndata: " + msgspec.json.encode(_error_object(error, request_id)) + b"\n\n"

    def request_id_header(self, request_id: str) -> tuple[str, str]:
        return ("request-id", request_id)

    def limit_headers(self, state: LimitState) -> Headers:
        reset = datetime.fromtimestamp(state.now_s, UTC) + timedelta(seconds=state.reset_s)
        return [
            ("anthropic-ratelimit-requests-limit", str(state.limit)),
            ("anthropic-ratelimit-requests-remaining", str(state.remaining)),
            ("anthropic-ratelimit-requests-reset", reset.strftime("%Y-%m-%dT%H:%M:%SZ")),
        ]


def _read_count_ask(body: bytes) -> Ask:
    """The view of a count_tokens request, which generates nothing."""
    request = decode_request(_COUNT_REQUEST, body)
    check_model(request.model)
    _require_messages(request.messages)
    return Ask(model=request.model, max_output_tokens=0)


def _require_messages(messages: list[msgspec.Raw]) -> None:
    if not messages:
        raise InvalidRequest("`messages` must hold at least one message.", param="messages")


def _size_of(delta: _Delta) -> int:
    """Bytes of the answer itself."""
    texts = sum(len(text.encode()) for text in (delta.text, delta.thinking, delta.partial_json) if text)
    return texts + len(bytes(delta.input))


def _overwrite(known: _Usage, given: _Usage) -> _Usage:
    """Later figures are cumulative and replace earlier ones; what an event leaves out stays."""
    pairs = ((name, getattr(given, name)) for name in _Usage.__struct_fields__)
    return msgspec.structs.replace(known, **{name: value for name, value in pairs if value is not None})


def _to_usage(usage: _Usage) -> Usage:
    split = usage.cache_creation or _CacheCreation()
    write_5m, write_1h = _count_of(split.ephemeral_5m_input_tokens), _count_of(split.ephemeral_1h_input_tokens)
    total = usage.cache_creation_input_tokens
    written = _count_of(total) if total is not None else write_5m + write_1h
    # Later totals come without the split: they count, and what the split does not explain was written with the
    # lifetime that was asked for.
    write_5m = min(write_5m, written)
    write_1h = min(write_1h, written - write_5m)
    unexplained = written - write_5m - write_1h
    only_1h = write_1h > 0 and write_5m == 0
    thinking = _count_of(usage.output_tokens_details.thinking_tokens if usage.output_tokens_details else 0)
    return Usage(
        uncached=_count_of(usage.input_tokens),
        write_5m=write_5m + (0 if only_1h else unexplained),
        write_1h=write_1h + (unexplained if only_1h else 0),
        read=_count_of(usage.cache_read_input_tokens),
        out_text=max(0, _count_of(usage.output_tokens) - thinking),
        out_reasoning=thinking,
        tool_requests=_count_of(usage.server_tool_use.web_search_requests if usage.server_tool_use else 0),
    )


def _count_of(tokens: int | None) -> int:
    return max(0, tokens or 0)


def _error_object(error: GatewayError, request_id: str) -> dict[str, object]:
    kind = _ERROR_TYPES.get(error.status, "invalid_request_error" if error.origin == "client" else "api_error")
    detail: dict[str, object] = {"type": kind, "message": error.message, "details": {"code": error.code}}
    return {"type": "error", "error": detail, "request_id": request_id}
