"""OpenAI Responses, as far as bytes of it pass through.

Reads of a request: model, stream, output limit. Reads of a stream: text length, usage (only the last event has it),
the end, errors. An answer that is made in the background is refused: it is fetched elsewhere, so nobody would pay it.
"""

import re
from collections.abc import Mapping

import msgspec

from trollproxy.chat import Ask, FormatName, Thinking
from trollproxy.errors import GatewayError, InvalidRequest, UpstreamBroken
from trollproxy.wire.body import (
    UNSAID,
    check_model,
    decode_reply,
    decode_request,
    inside,
    names_model_twice,
    replace_members,
)
from trollproxy.wire.errors_in import stream_error
from trollproxy.wire.format import Entry, Format, Headers, LimitState, Meter, Tongue, Whole
from trollproxy.wire.openai_responses.failures import failed_stream, write_error
from trollproxy.wire.openai_responses.sealed import MARK, open_sealed, own_thought
from trollproxy.wire.openai_responses.shallow import (
    CARRIED,
    EVENT,
    ITEMS,
    ODDLY_COUNTED,
    REPLY,
    REQUEST,
    Event,
    Request,
    Response,
    Said,
)
from trollproxy.wire.openai_responses.texts import TEXTS
from trollproxy.wire.openai_responses.tongue import TONGUE
from trollproxy.wire.openai_responses.usage import read_tools, read_usage, to_usage
from trollproxy.wire.sse import EVENT_STREAM, event_data

_NOTHING = (b"", b"null")
_LAST = ("response.completed", "response.incomplete")


class _ResponsesMeter(Meter):
    __slots__ = ("_response_id", "_sequence", "_unheard")

    def __init__(self) -> None:
        super().__init__()
        self._response_id = ""
        self._sequence = -1
        self._unheard = True  # of what is being said no delta came yet, so its `done` is all there will be

    def _read(self, event: bytes) -> bool:
        data = event_data(event)
        if not data or data == b"[DONE]":
            return True
        decoded = decode_reply(EVENT, data)
        if decoded is None:
            self.error = UpstreamBroken("The provider sent a stream event that is not of its format.")
            return False
        if decoded.type in {"error", "response.failed"}:
            self._fail(decoded, data)
            return False
        self._take(decoded)
        return True

    def _fail(self, event: Event, data: bytes) -> None:
        response = event.response or Response()
        self._count(response)
        nested = next((bytes(raw) for raw in (event.error, response.error) if bytes(raw) not in _NOTHING), data)
        self.error = stream_error(nested)

    def _take(self, event: Event) -> None:
        self._sequence = event.sequence_number
        if event.response is not None:
            self._response_id = event.response.id or self._response_id
            self._count(event.response)
            self.is_complete = event.type in _LAST
        elif event.type.endswith(".delta"):
            self._unheard = False
            self.hear(inside(event.delta))
        elif event.type.endswith(".done"):
            if self._unheard:
                self.hear(b"".join([inside(raw) for raw in (event.text, event.refusal, event.arguments, event.input)]))
            self._unheard = True

    def _count(self, response: Response) -> None:
        if response.usage is not UNSAID:
            self.usage = read_usage(response.usage, response.tool_usage) or self.usage
        self.is_usage_final = self.usage is not None

    def write_error(self, error: GatewayError, request_id: str) -> bytes:
        # The client has seen the provider's id and numbers; another id would be a broken stream to it.
        response: dict[str, object] = {
            "id": self._response_id or f"resp_{request_id.removeprefix('req_')}",
            "object": "response",
            "output": [],
        }
        return failed_stream(error, sequence=self._sequence + 1, response=response)


class OpenAIResponses(Format):
    """The format's entry in FORMATS."""

    __slots__ = ("keep_alive", "name", "texts", "tongue")

    def __init__(self) -> None:
        self.name: FormatName = "openai_responses"
        self.tongue: Tongue = TONGUE
        self.texts = TEXTS
        self.keep_alive = b": ping\n\n"  # a comment: the vendor's SDKs break on an event without data

    def read_ask(self, body: bytes, entry: Entry) -> Ask:
        request = decode_request(REQUEST, body)
        check_model(request.model)
        if request.background:
            raise InvalidRequest("`background` is not offered: answers are not stored here.", param="background")
        if not request.input and not _continues(request):
            raise InvalidRequest("`input` must hold at least one item.", param="input")
        limit = request.max_output_tokens
        if limit is not None and limit < 1:
            raise InvalidRequest("`max_output_tokens` must be at least 1.", param="max_output_tokens")
        if entry.operation == "count_tokens":
            return Ask(model=request.model, max_output_tokens=0)
        return Ask(model=request.model, stream=bool(request.stream), max_output_tokens=limit)

    def prepare(self, body: bytes, ask: Ask, upstream_model: str) -> bytes:
        members: dict[str, object] = {}
        if upstream_model != ask.model or names_model_twice(body):
            members["model"] = upstream_model
        if _MARKED.search(body) is not None:
            members["input"] = _unsealed(body)
        return replace_members(body, members) if members else body

    def upstream_path(self, path: str, entry: Entry, upstream_model: str) -> str:  # noqa: ARG002 - not in the path
        return path + ("/input_tokens" if entry.operation == "count_tokens" else "")

    def auth_headers(self, secret: str) -> Headers:
        return [("authorization", f"Bearer {secret}")]

    def forward_headers(self, headers: Mapping[str, str]) -> Headers:
        return [("openai-beta", headers["openai-beta"])] if "openai-beta" in headers else []

    def meter(self, ask: Ask, entry: Entry) -> Meter:  # noqa: ARG002 - the dialect always sends usage
        return _ResponsesMeter()

    def stream_type(self, entry: Entry) -> str:  # noqa: ARG002 - there is one
        return EVENT_STREAM

    def read_whole(self, body: bytes) -> Whole:
        counted = decode_reply(REPLY, body)
        reply = counted or decode_reply(ODDLY_COUNTED, body)
        if reply is None:
            raise UpstreamBroken("The provider's answer is not of its format.")
        usage = None
        if counted is not None and counted.usage is not None:
            usage = to_usage(counted.usage, read_tools(counted.tool_usage))
        said = b"".join([_said_in(item) for item in reply.output])
        return Whole(usage, said)

    def write_error(self, error: GatewayError, request_id: str) -> tuple[int, bytes]:
        return error.status, write_error(error, request_id)

    def request_id_header(self, request_id: str) -> tuple[str, str]:
        return ("x-request-id", request_id)

    def limit_headers(self, state: LimitState) -> Headers:
        return [
            ("x-ratelimit-limit-requests", str(state.limit)),
            ("x-ratelimit-remaining-requests", str(state.remaining)),
            ("x-ratelimit-reset-requests", f"{state.reset_s:.3f}s"),
        ]


def _continues(request: Request) -> bool:
    """Whether the conversation is kept at the provider, so that there may be no input."""
    kept = [bytes(raw) not in _NOTHING for raw in (request.conversation, request.prompt)]
    return request.previous_response_id is not None or any(kept)


_MARKED = re.compile(re.escape(f'"{MARK}'.encode()))  # searches large bodies faster than `in` does


def _unsealed(body: bytes) -> list[msgspec.Raw] | str | None:
    """The input without the states of other vendors, which this one would refuse, and with its own unpacked.

    They are there when a conversation that began with another vendor's model goes on with this one's.
    """
    items = decode_request(ITEMS, body).input
    return [found for item in items for found in _own(item)] if isinstance(items, list) else items


def _own(item: msgspec.Raw) -> list[msgspec.Raw]:
    carrier = decode_reply(CARRIED, bytes(item))
    sealed = open_sealed(carrier.encrypted_content) if carrier is not None and carrier.type == "reasoning" else None
    if sealed is None:
        return [item]
    own = own_thought(Thinking(state=sealed.state))
    return [own] if own is not None else []


def _said_in(item: Said) -> bytes:
    """The answer itself."""
    said = item.text.encode() if item.text else b""
    if item.refusal or item.name:
        said += ((item.refusal or "") + (item.name or "")).encode()
    if item.arguments is not UNSAID or item.input is not UNSAID:
        said += inside(item.arguments) + inside(item.input)
    for inner in item.content or ():
        said += _said_in(inner)
    for inner in item.summary or ():
        said += _said_in(inner)
    return said
