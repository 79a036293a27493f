"""Anthropic Messages, as far as bytes of it pass through.

Reads of a request: model, stream, max_tokens. Reads of a stream: usage (message_start, then cumulative message_delta),
text length, message_stop, errors.
"""

from collections.abc import Mapping
from datetime import UTC, datetime

import msgspec

from trollproxy.chat import Ask, FormatName
from trollproxy.errors import GatewayError, InvalidRequest, UpstreamBroken
from trollproxy.wire.anthropic.errors_out import error_body, error_event, error_status
from trollproxy.wire.anthropic.foreign_thoughts import without_foreign
from trollproxy.wire.anthropic.shallow import COUNT_REQUEST, EVENT, REPLY, REQUEST, Delta, Event, UsageObject
from trollproxy.wire.anthropic.texts import TEXTS
from trollproxy.wire.anthropic.tongue import AnthropicTongue
from trollproxy.wire.anthropic.usage import overwrite, to_usage
from trollproxy.wire.body import (
    UNSAID,
    check_model,
    decode_reply,
    decode_request,
    names_model_twice,
    replace_members,
)
from trollproxy.wire.errors_in import stream_error
from trollproxy.wire.format import Entry, Format, Headers, LimitState, Meter, Tongue, Whole
from trollproxy.wire.sse import EVENT_STREAM, event_data

DEFAULT_VERSION = "2023-06-01"  # what a client that names none was written against


class _MessagesMeter(Meter):
    __slots__ = ("_counted",)

    def __init__(self) -> None:
        super().__init__()
        self._counted = UsageObject()

    def _read(self, event: bytes) -> bool:
        data = event_data(event)
        if not data:
            return True
        decoded = decode_reply(EVENT, data)
        if decoded is None:
            self.error = UpstreamBroken("The provider sent a stream event that is not of its format.")
            return False
        if decoded.type == "error":
            self.error = stream_error(bytes(decoded.error))
            return False
        self._take(decoded)
        return True

    def write_error(self, error: GatewayError, request_id: str) -> bytes:
        return error_event(error, request_id)

    def _take(self, event: Event) -> None:
        if event.type == "content_block_delta":
            if event.delta is not None:
                self.hear(_said_in(event.delta))
        elif event.type == "message_stop":
            self.is_complete = True
        usage = event.message.usage if event.message is not None else event.usage
        if usage is not None:
            self._counted = overwrite(self._counted, usage)
            self.usage = to_usage(self._counted)
            self.is_usage_final = event.type == "message_delta"


class Anthropic(Format):
    """The format's entry in FORMATS."""

    __slots__ = ("keep_alive", "name", "texts", "tongue")

    def __init__(self) -> None:
        self.name: FormatName = "anthropic"
        self.tongue: Tongue = AnthropicTongue()
        self.texts = TEXTS
        self.keep_alive = b'event: ping\ndata: {"type": "ping"}\n\n'

    def read_ask(self, body: bytes, entry: Entry) -> Ask:
        if entry.operation == "count_tokens":
            return _read_count_ask(body)
        request = decode_request(REQUEST, body)
        check_model(request.model)
        _require_messages(request.messages)
        if request.max_tokens < 0:
            raise InvalidRequest("`max_tokens` must not be negative.", param="max_tokens")
        return Ask(model=request.model, stream=bool(request.stream), max_output_tokens=request.max_tokens)

    def prepare(self, body: bytes, ask: Ask, upstream_model: str) -> bytes:
        if upstream_model != ask.model or names_model_twice(body):
            body = replace_members(body, {"model": upstream_model})
        return without_foreign(body)

    def upstream_path(self, path: str, entry: Entry, upstream_model: str) -> str:  # noqa: ARG002 - not in the path
        suffix = "/count_tokens" if entry.operation == "count_tokens" else ""
        return path + suffix + ("?beta=true" if entry.is_beta else "")

    def auth_headers(self, secret: str) -> Headers:
        return [("x-api-key", secret)]

    def forward_headers(self, headers: Mapping[str, str]) -> Headers:
        forwarded = [("anthropic-version", headers.get("anthropic-version", DEFAULT_VERSION))]
        if "anthropic-beta" in headers:
            forwarded.append(("anthropic-beta", headers["anthropic-beta"]))
        return forwarded

    def meter(self, ask: Ask, entry: Entry) -> Meter:  # noqa: ARG002 - the dialect always sends usage
        return _MessagesMeter()

    def stream_type(self, entry: Entry) -> str:  # noqa: ARG002 - there is one
        return EVENT_STREAM

    def read_whole(self, body: bytes) -> Whole:
        reply = decode_reply(REPLY, body)
        if reply is None:
            raise UpstreamBroken("The provider's answer is not of its format.")
        usage = to_usage(reply.usage) if reply.usage is not None else None
        said = b"".join([_said_in(block) for block in reply.content])
        return Whole(usage, said)

    def write_error(self, error: GatewayError, request_id: str) -> tuple[int, bytes]:
        return error_status(error), error_body(error, request_id)

    def request_id_header(self, request_id: str) -> tuple[str, str]:
        return ("request-id", request_id)

    def limit_headers(self, state: LimitState) -> Headers:
        reset = datetime.fromtimestamp(state.now_s + state.reset_s, UTC).isoformat(timespec="seconds")
        return [
            ("anthropic-ratelimit-requests-limit", str(state.limit)),
            ("anthropic-ratelimit-requests-remaining", str(state.remaining)),
            ("anthropic-ratelimit-requests-reset", reset.replace("+00:00", "Z")),
        ]


def _read_count_ask(body: bytes) -> Ask:
    """The view of a count_tokens request, which generates nothing."""
    request = decode_request(COUNT_REQUEST, body)
    check_model(request.model)
    _require_messages(request.messages)
    return Ask(model=request.model, max_output_tokens=0)


def _require_messages(messages: list[msgspec.Raw]) -> None:
    if not messages:
        raise InvalidRequest("`messages` must hold at least one message.", param="messages")


def _said_in(delta: Delta) -> bytes:
    """The answer itself."""
    text, thinking, arguments, whole = delta.text, delta.thinking, delta.partial_json, delta.input
    if text and whole is UNSAID and not thinking and not arguments:
        return text.encode()
    return ((text or "") + (thinking or "") + (arguments or "")).encode() + bytes(whole)
