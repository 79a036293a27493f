"""OpenAI Chat Completions, and the many providers that speak it.

Reads of a request: model, stream, output limit, n. Reads of a stream: text length, usage, the end, errors. A stream
without a usage event cannot be billed exactly, so one is always asked for and kept from clients that did not.
"""

from collections.abc import Mapping

import msgspec

from trollproxy.chat import Ask, FormatName
from trollproxy.errors import GatewayError, InvalidRequest, UpstreamBroken
from trollproxy.wire.body import (
    check_model,
    decode_reply,
    decode_request,
    inside,
    is_said,
    names_model_twice,
    replace_members,
)
from trollproxy.wire.errors_in import stream_error
from trollproxy.wire.format import Entry, Format, Headers, LimitState, Meter, Tongue, Whole
from trollproxy.wire.openai_chat.errors_out import error_body, error_event
from trollproxy.wire.openai_chat.shallow import ANY_STREAM_OPTIONS, CHUNK, ODDLY_COUNTED, REPLY, REQUEST, Chunk, Delta
from trollproxy.wire.openai_chat.texts import TEXTS
from trollproxy.wire.openai_chat.tongue import ChatTongue
from trollproxy.wire.openai_chat.usage import read_usage, to_usage
from trollproxy.wire.sse import EVENT_STREAM, event_data


class _ChatMeter(Meter):
    __slots__ = ("_wants_usage",)

    def __init__(self, *, wants_usage: bool) -> None:
        super().__init__()
        self._wants_usage = wants_usage

    def _read(self, event: bytes) -> bool:
        data = event_data(event)
        if not data:
            return True
        if data == b"[DONE]":
            self.is_complete = True
            return True
        chunk = decode_reply(CHUNK, data)
        if chunk is None:
            self.error = UpstreamBroken("The provider sent a stream event that is not of its format.")
            return False
        return self._read_chunk(chunk)

    def _read_chunk(self, chunk: Chunk) -> bool:
        if is_said(chunk.error):
            self.error = stream_error(bytes(chunk.error))
            return False
        choices, usage = chunk.choices, chunk.usage
        for choice in choices or ():
            delta = choice.delta
            if delta is not None:
                self.hear(_said_in(delta))
            if choice.finish_reason:
                self.may_end = True
        if not is_said(usage):
            return True
        self.usage = read_usage(usage) or self.usage
        self.is_usage_final = self.usage is not None and (self.may_end or not choices)
        return self._wants_usage or bool(choices)

    def write_error(self, error: GatewayError, request_id: str) -> bytes:
        return error_event(error, request_id)


class OpenAIChat(Format):
    """The format's entry in FORMATS."""

    __slots__ = ("keep_alive", "name", "texts", "tongue")

    def __init__(self) -> None:
        self.name: FormatName = "openai_chat"
        self.tongue: Tongue = ChatTongue()
        self.texts = TEXTS
        self.keep_alive = b": ping\n\n"  # a comment: the vendor's SDKs break on an event without data

    def read_ask(self, body: bytes, entry: Entry) -> Ask:
        assert entry.operation == "generate", "the dialect has no other"
        request = decode_request(REQUEST, body)
        model, is_stream, options, choices = request.model, request.stream, request.stream_options, request.n
        check_model(model)
        if not request.messages:
            raise InvalidRequest("`messages` must hold at least one message.", param="messages")
        name, limit = "max_completion_tokens", request.max_completion_tokens
        if limit is None:
            name, limit = "max_tokens", request.max_tokens
        if limit is not None and limit < 1:
            raise InvalidRequest(f"`{name}` must be at least 1.", param=name)
        if choices is not None and not 1 <= choices <= _MAX_CHOICES:
            raise InvalidRequest(f"`n` must be between 1 and {_MAX_CHOICES}.", param="n")
        return Ask(
            model=model,
            stream=bool(is_stream),
            max_output_tokens=limit,
            wants_usage=not is_stream or bool(options and options.include_usage),
            choices=choices or 1,
        )

    def prepare(self, body: bytes, ask: Ask, upstream_model: str) -> bytes:
        members: dict[str, object] = {}
        if upstream_model != ask.model or names_model_twice(body):
            members["model"] = upstream_model
        if not ask.wants_usage:
            members["stream_options"] = {**_stream_options(body), "include_usage": True}
        return replace_members(body, members) if members else body

    def upstream_path(self, path: str, entry: Entry, upstream_model: str) -> str:  # noqa: ARG002 - not in the path
        return path

    def auth_headers(self, secret: str) -> Headers:
        return [("authorization", f"Bearer {secret}")]

    def forward_headers(self, headers: Mapping[str, str]) -> Headers:
        return [("openai-beta", headers["openai-beta"])] if "openai-beta" in headers else []

    def meter(self, ask: Ask, entry: Entry) -> Meter:  # noqa: ARG002 - the body says all
        return _ChatMeter(wants_usage=ask.wants_usage)

    def stream_type(self, entry: Entry) -> str:  # noqa: ARG002 - there is one
        return EVENT_STREAM

    def read_whole(self, body: bytes) -> Whole:
        counted = decode_reply(REPLY, body)
        reply = counted or decode_reply(ODDLY_COUNTED, body)
        if reply is None:
            raise UpstreamBroken("The provider's answer is not of its format.")
        usage = to_usage(counted.usage) if counted is not None and counted.usage is not None else None
        said = b"".join([_said_in(choice.message) for choice in reply.choices if choice.message is not None])
        return Whole(usage, said)

    def write_error(self, error: GatewayError, request_id: str) -> tuple[int, bytes]:
        return error.status, error_body(error, request_id)

    def request_id_header(self, request_id: str) -> tuple[str, str]:
        return ("x-request-id", request_id)

    def limit_headers(self, state: LimitState) -> Headers:
        return [
            ("x-ratelimit-limit-requests", str(state.limit)),
            ("x-ratelimit-remaining-requests", str(state.remaining)),
            ("x-ratelimit-reset-requests", f"{state.reset_s:.3f}s"),
        ]


_MAX_CHOICES = 128  # the vendor's own bound


def _stream_options(body: bytes) -> dict[str, msgspec.Raw]:
    """The client's other stream options, which stay as they are."""
    return decode_request(ANY_STREAM_OPTIONS, body).stream_options or {}


def _said_in(delta: Delta) -> bytes:
    """The answer itself."""
    content = delta.content
    words = content.encode() if isinstance(content, str) else b"".join(map(bytes, content or ()))
    thoughts = delta.reasoning_content or delta.reasoning
    if thoughts or delta.refusal:
        words += (delta.refusal or "").encode() + (thoughts or "").encode()
    if delta.tool_calls or delta.function_call:
        words += _called_in(delta)
    return words


def _called_in(delta: Delta) -> bytes:
    called = [delta.function_call]
    for call in delta.tool_calls or ():
        called += (call.function, call.custom)
    return b"".join(
        [(said.name or "").encode() + inside(said.arguments) + (said.input or "").encode() for said in called if said]
    )
