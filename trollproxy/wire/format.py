"""What every wire format offers, and the stream meter they share.

A format turns bytes into facts and facts into bytes. It does no I/O, reads no clock and does not know the others.
`Format` is the shallow side, by which traffic of one format passes as bytes; `Tongue` is the deep side, by which the
conversation itself is read and written.
"""

import re
from abc import ABC, abstractmethod
from collections.abc import Mapping
from typing import Literal, NamedTuple, Protocol
from zlib import crc32

from trollproxy.chat import Ask, Feature, FormatName, Reply, Request, StreamEvent, Usage
from trollproxy.errors import GatewayError
from trollproxy.wire.estimate import estimate_input
from trollproxy.wire.sse import EventSplitter
from trollproxy.wire.texts import Texts

Headers = list[tuple[str, str]]
Operation = Literal["generate", "count_tokens"]


class Entry:
    """What the request line says. Only Gemini's names the model there, and whether to stream."""

    __slots__ = ("is_array", "is_beta", "model", "operation", "stream")

    def __init__(
        self,
        *,
        operation: Operation = "generate",
        model: str | None = None,
        stream: bool = False,
        is_array: bool = False,
        is_beta: bool = False,
    ) -> None:
        self.operation: Operation = operation
        self.model = model
        self.stream = stream
        self.is_array = is_array  # the client takes its stream as one JSON array
        self.is_beta = is_beta  # ?beta=true


class LimitState:
    """Where a caller stands with the request limit, for the response headers."""

    __slots__ = ("limit", "now_s", "remaining", "reset_s")

    def __init__(self, limit: int, remaining: int, reset_s: float, *, now_s: float) -> None:
        self.limit = limit
        self.remaining = remaining
        self.reset_s = reset_s  # until a whole allowance is free again
        self.now_s = now_s


class Whole:
    """What is read of a reply that came in one piece."""

    __slots__ = ("text_bytes", "text_crc", "usage")

    def __init__(self, usage: Usage | None, said: bytes) -> None:
        self.usage = usage
        self.text_bytes = len(said)  # of the answer itself: text, reasoning and the arguments of tool calls
        self.text_crc = crc32(said)  # of the same: by which equal answers are known


class StreamMeter(ABC):
    """What is known of a stream as it passes. Whoever carries it looks here after every piece."""

    __slots__ = (
        "error", "has_output", "is_complete", "is_usage_final", "may_end", "text_bytes", "text_crc", "usage",
    )  # fmt: skip

    def __init__(self) -> None:
        self.usage: Usage | None = None
        self.is_usage_final = False  # False: a running figure, such as the one that a stream begins with
        self.text_bytes = 0
        self.text_crc = 0  # by which equal answers are known, however they were cut into pieces
        self.has_output = False
        self.is_complete = False  # the dialect's last event has been read
        self.may_end = False  # nothing but that last event is missing, which some providers never send
        self.error: GatewayError | None = None

    def follow(self, other: "StreamMeter") -> None:
        """Know what the other one knows."""
        self.usage = other.usage
        self.is_usage_final = other.is_usage_final
        self.text_bytes = other.text_bytes
        self.text_crc = other.text_crc
        self.has_output = other.has_output
        self.is_complete = other.is_complete
        self.may_end = other.may_end
        self.error = other.error

    def hear(self, said: bytes) -> None:
        """A piece of the answer itself."""
        if said:
            self.text_bytes += len(said)
            self.text_crc = crc32(said, self.text_crc)
            self.has_output = True

    @abstractmethod
    def feed(self, data: bytes) -> bytes:
        """Read what arrived and return what the client gets, always whole events. At an error event it stops: the
        error is kept in `error` and never passed on.
        """

    @abstractmethod
    def finish(self) -> bytes:
        """The stream is over: the rest for the client."""

    @abstractmethod
    def write_error(self, error: GatewayError, request_id: str) -> bytes:
        """The stream's last words to the client where it fails."""


class Meter(StreamMeter):
    """Reads a stream that passes as it is: the client sees the provider's own events."""

    __slots__ = ("_events",)

    def __init__(self) -> None:
        super().__init__()
        self._events = EventSplitter()

    def feed(self, data: bytes) -> bytes:
        splitter = self._events
        was_held = splitter.held
        events = splitter.feed(data)
        passed = []
        for event in events:
            if self._read(event):
                passed.append(event)
            elif self.error is not None:
                break
        if len(passed) == len(events) and not was_held and not splitter.held:
            return data  # all of it, and nothing else: the usual piece is of whole events
        return b"".join(passed)

    def finish(self) -> bytes:
        """An event that lacks only its blank line still counts."""
        return self.feed(b"\n\n") if self._events.held else b""

    @abstractmethod
    def _read(self, event: bytes) -> bool:
        """Take the facts of one event; return whether the client shall see it."""


class Format(Protocol):
    """One vendor's dialect, as far as bytes of it pass through."""

    name: FormatName
    tongue: "Tongue"
    texts: Texts  # where words are, for those who change them
    keep_alive: bytes  # what may stand between two events and means nothing to any client

    def read_ask(self, body: bytes, entry: Entry) -> Ask:
        """The shallow view of a request; InvalidRequest says what is wrong and where."""

    def prepare(self, body: bytes, ask: Ask, upstream_model: str) -> bytes:
        """The request as the provider shall see it: unchanged but for the model's name and our need for usage."""

    def upstream_path(self, path: str, entry: Entry, upstream_model: str) -> str:
        """Where to send it: the endpoint's configured path, completed."""

    def auth_headers(self, secret: str) -> Headers: ...

    def forward_headers(self, headers: Mapping[str, str]) -> Headers:
        """The client's headers that belong to the dialect and go upstream."""

    def meter(self, ask: Ask, entry: Entry) -> StreamMeter: ...

    def stream_type(self, entry: Entry) -> str:
        """The content type of a streamed answer to the client."""

    def read_whole(self, body: bytes) -> Whole:
        """The facts of a whole reply; UpstreamBroken if it is no reply at all."""

    def write_error(self, error: GatewayError, request_id: str) -> tuple[int, bytes]:
        """Status and body of an error."""

    def request_id_header(self, request_id: str) -> tuple[str, str]: ...

    def limit_headers(self, state: LimitState) -> Headers: ...


class Target:
    """Who a translated request goes to."""

    __slots__ = ("cannot", "max_output_tokens", "model")

    def __init__(
        self, model: str, *, max_output_tokens: int | None = None, cannot: frozenset[Feature] = frozenset()
    ) -> None:
        self.model = model  # the provider's name of it
        self.max_output_tokens = max_output_tokens  # what the configuration says of the model; None: nothing
        self.cannot = cannot  # what this server of the format does not take


class Asked:
    """What an answer is to, for those who write it in the client's format."""

    __slots__ = ("entry", "input_tokens", "model", "now_s", "request", "request_id")

    def __init__(
        self,
        *,
        request: Request,
        entry: Entry,
        model: str,
        request_id: str,
        now_s: int,
        input_tokens: int | None = None,
    ) -> None:
        self.request = request
        self.entry = entry
        self.model = model  # the name that the client used
        self.request_id = request_id
        self.now_s = now_s
        self.input_tokens = input_tokens  # of the prompt, if somebody has counted them

    @property
    def estimate(self) -> int:
        """Tokens of the prompt, where the dialect wants a figure and the provider gives none, or none so early."""
        return self.input_tokens if self.input_tokens is not None else estimate_input(self.request)


class NameRules(NamedTuple):
    """What a format takes for the names of tools and the ids of calls; translation renames what does not fit."""

    tool_name: re.Pattern[str]
    max_tool_name: int
    call_id: re.Pattern[str]
    max_call_id: int
    has_custom_tools: bool  # without them, custom tools are wrapped as functions and their calls unwrapped


class StreamReader(Protocol):
    """Reads one stream of the format."""

    def read(self, event: bytes) -> list[StreamEvent]:
        """What one whole server-sent event says. An error inside is raised as what it stands for; an event that is
        not of the format is UpstreamBroken; an unknown one, or one that says nothing, gives no events.
        """

    def finish(self) -> list[StreamEvent]:
        """The body is over: the rest, with Ended, if nothing but a last marker is missing; else nothing."""


class StreamWriter(Protocol):
    """Writes one stream of the format."""

    def write(self, event: StreamEvent) -> bytes:
        """The event's words, or none. Nothing is lost: what must wait for its turn is written with a later event."""

    def fail(self, error: GatewayError) -> bytes:
        """The stream's last words where it fails."""


class Tongue(Protocol):
    """One vendor's dialect, as far as conversations are translated from and to it."""

    name: FormatName
    carries: Mapping[Feature, str]  # "": as it is; a text: what is lost; absent: it is refused with a 400
    params: Mapping[Feature, str]  # what the dialect's clients call it, for the 400
    drops: Mapping[str, str]  # members of a request that mean nothing elsewhere, and why they may go
    rules: NameRules

    def read_request(self, body: bytes, entry: Entry) -> Request:
        """The whole conversation. A member that is not understood is an InvalidRequest that names it: nothing is
        dropped silently.
        """

    def write_request(self, request: Request, target: Target) -> bytes:
        """CannotSay where a value has no place in the dialect. Whole features are checked before by `carries`."""

    def request_headers(self, request: Request, target: Target) -> Headers:
        """What goes with a translated request, beyond authentication."""

    def write_count(self, tokens: int) -> bytes:
        """The answer to a client that asks how long its prompt is."""

    def read_reply(self, body: bytes, asked: Asked) -> Reply:
        """UpstreamBroken if it is no reply at all."""

    def write_reply(self, reply: Reply, asked: Asked) -> bytes: ...

    def stream_reader(self, asked: Asked) -> StreamReader: ...

    def stream_writer(self, asked: Asked) -> StreamWriter: ...
