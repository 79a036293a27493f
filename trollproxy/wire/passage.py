"""The way of one exchange's bytes: from the client to the provider, and back.

Two ways there are. Where both speak one format, bytes pass as they are (`Passthrough`); where they do not, the
conversation is read and written anew (`translation.Translation`). Whoever carries bytes need not know which it is.
"""

from collections.abc import Mapping
from typing import Protocol

from trollproxy.chat import Ask
from trollproxy.wire.format import Entry, Format, Headers, StreamMeter, Target, Whole


class Passage(Protocol):
    """The way of one exchange."""

    upstream: Format
    is_translated: bool

    def write_request(self, body: bytes, target: Target) -> bytes:
        """What the provider gets; InvalidRequest if it cannot be said in its format."""

    def upstream_path(self, path: str, target: Target) -> str:
        """Where the provider takes it, given the endpoint's path."""

    def upstream_headers(self, headers: Mapping[str, str]) -> Headers:
        """The headers of the dialect that go upstream, given the client's."""

    def meter(self) -> StreamMeter: ...

    def read_whole(self, body: bytes) -> tuple[Whole, bytes]:
        """The facts of a whole reply, and what the client gets of it."""


class Passthrough(Passage):
    """One format on both sides."""

    __slots__ = ("_ask", "_entry", "upstream")

    is_translated = False

    def __init__(self, wire: Format, ask: Ask, entry: Entry) -> None:
        self.upstream = wire
        self._ask = ask
        self._entry = entry

    def write_request(self, body: bytes, target: Target) -> bytes:
        return self.upstream.prepare(body, self._ask, target.model)

    def upstream_path(self, path: str, target: Target) -> str:
        return self.upstream.upstream_path(path, self._entry, target.model)

    def upstream_headers(self, headers: Mapping[str, str]) -> Headers:
        return self.upstream.forward_headers(headers)

    def meter(self) -> StreamMeter:
        return self.upstream.meter(self._ask, self._entry)

    def read_whole(self, body: bytes) -> tuple[Whole, bytes]:
        return self.upstream.read_whole(body), body
