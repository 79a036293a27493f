"""What every wire format offers, and the stream meter they share.

A format turns bytes into facts and facts into bytes. It does no I/O, reads no clock and does not know the others.
"""

from abc import ABC, abstractmethod
from collections.abc import Mapping
from typing import Literal, Protocol

import msgspec

from trollproxy.chat import Ask, Usage
from trollproxy.errors import GatewayError
from trollproxy.records import FormatName
from trollproxy.wire.sse import EventSplitter

Headers = list[tuple[str, str]]
Operation = Literal["generate", "count_tokens"]


class LimitState(msgspec.Struct, frozen=True):
    """Where a caller stands with the request limit, for the response headers."""

    limit: int
    remaining: int
    reset_s: float  # until a whole allowance is free again
    now_s: float


class Whole(msgspec.Struct, frozen=True):
    """What is read of a reply that came in one piece."""

    usage: Usage | None
    text_bytes: int  # of the answer itself: text, reasoning and the arguments of tool calls


class Meter(ABC):
    """Reads a provider's stream on its way through: usage, text length, the end, an error inside.

    `feed` returns what may go to the client, always whole events. Facts accumulate in the public attributes.
    """

    __slots__ = ("_events", "error", "has_output", "is_complete", "is_usage_final", "may_end", "text_bytes", "usage")

    def __init__(self) -> None:
        self._events = EventSplitter()
        self.usage: Usage | None = None
        self.is_usage_final = False  # False: a running figure, such as the one that a stream begins with
        self.text_bytes = 0
        self.has_output = False
        self.is_complete = False  # the dialect's last event has been read
        self.may_end = False  # nothing but that last event is missing, which some providers never send
        self.error: GatewayError | None = None

    def feed(self, data: bytes) -> bytes:
        """Read what arrived; stop at an error event, which is kept in `error` and never passed on."""
        passed = []
        for event in self._events.feed(data):
            if self._read(event):
                passed.append(event)
            if self.error is not None:
                break
        return b"".join(passed)

    def finish(self) -> bytes:
        """The stream is over: an event that lacks only its blank line still counts."""
        return self.feed(b"\n\n") if self._events.held else b""

    @abstractmethod
    def _read(self, event: bytes) -> bool:
        """Take the facts of one event; return whether the client shall see it."""


class Format(Protocol):
    """One vendor's dialect."""

    name: FormatName

    def read_ask(self, body: bytes, operation: Operation) -> Ask:
        """The shallow view of a request; InvalidRequest says what is wrong and where."""

    def prepare(self, body: bytes, ask: Ask, upstream_model: str) -> bytes:
        """The request as the provider shall see it: unchanged but for the model's name and our need for usage."""

    def auth_headers(self, secret: str) -> Headers: ...

    def forward_headers(self, headers: Mapping[str, str]) -> Headers:
        """The client's headers that belong to the dialect and go upstream."""

    def meter(self, ask: Ask) -> Meter: ...

    def read_whole(self, body: bytes) -> Whole:
        """The facts of a whole reply; UpstreamBroken if it is no reply at all."""

    def write_error(self, error: GatewayError, request_id: str) -> tuple[int, bytes]:
        """Status and body of an error."""

    def write_error_event(self, error: GatewayError, request_id: str) -> bytes:
        """An error inside a stream that has begun."""

    def request_id_header(self, request_id: str) -> tuple[str, str]: ...

    def limit_headers(self, state: LimitState) -> Headers: ...
