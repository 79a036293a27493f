"""The vendor's streams as bytes: server-sent events of nothing but `data:`, or one JSON array.

The vendor's clients break on comments, on `event:` lines, on `data:` without its space and on `[DONE]`, so what a
client gets is always in the one form that they take.
"""

import msgspec

from trollproxy.wire.sse import event_data

_TERMINATORS = 4  # "\r\n\r\n": a newline before it means that the event has more than one line


def read_event(event: bytes) -> bytes:
    """The JSON of one event, empty if it says nothing. The vendor writes errors in a stream as bare JSON."""
    if event[:7] == b"data: {" and event.find(b"\n") >= len(event) - 2:
        return event[6:].strip()  # as nearly all of them are
    data = event_data(event)
    if data == b"[DONE]":
        return b""
    bare = event.strip() if not data else b""
    return bare if bare.startswith((b"{", b"[")) else data


def is_plain(event: bytes) -> bool:
    """Whether the event is already in the form that every client takes."""
    return event.startswith(b"data: ") and event.find(b"\n") >= len(event) - _TERMINATORS + 1


class Events:
    """Server-sent events."""

    __slots__ = ()

    def one(self, data: bytes) -> bytes:
        """JSON has no newlines but between its tokens, where a blank does as well."""
        return b"data: " + data.replace(b"\r", b"").replace(b"\n", b" ") + b"\n\n"

    def end(self) -> bytes:
        return b""


class Array:
    """One JSON array, element by element."""

    __slots__ = ("_is_begun",)

    def __init__(self) -> None:
        self._is_begun = False

    def one(self, data: bytes) -> bytes:
        opening = b",\n" if self._is_begun else b"["
        self._is_begun = True
        return opening + data

    def end(self) -> bytes:
        return b"\n]" if self._is_begun else b"[]"


Framing = Events | Array


def framing(*, is_array: bool) -> Framing:
    return Array() if is_array else Events()


def last_words(frames: Framing, error: dict[str, object]) -> bytes:
    """An error as the end of a stream."""
    return frames.one(msgspec.json.encode(error)) + frames.end()
