"""Server-sent events: an incremental, bounded splitter and the little that is read of an event.

Invariants: feeding any chunking of a stream yields the same events; an event is handed out whole, bytes unchanged,
terminator included; what is held back never exceeds the limit. Knows nothing of any vendor's events.
"""

import re

from trollproxy.errors import UpstreamBroken

# A blank line ends an event. Lone CR is a line end in the specification too, but no provider sends it.
_BLANK_LINE = re.compile(rb"\n\r?\n")  # with the end of the line before it: this begins with what is quickly found
_LONGEST_BLANK_LINE = 3
_LINE_END = re.compile(rb"\r?\n")

# Inline images arrive as one event; 16 MiB of base64 is beyond what any provider sends today.
MAX_EVENT_BYTES = 16 * 1024 * 1024

EVENT_STREAM = "text/event-stream; charset=utf-8"


class EventSplitter:
    """Cuts a byte stream into whole events."""

    __slots__ = ("_limit", "held")

    def __init__(self, limit: int = MAX_EVENT_BYTES) -> None:
        self.held = b""  # what has arrived of an event that is not complete
        self._limit = limit

    def feed(self, data: bytes) -> list[bytes]:
        if not self.held and _is_one_event(data):
            return [data]  # the usual piece
        buffer = self.held + data if self.held else data
        events = []
        start, position = 0, max(0, len(self.held) - _LONGEST_BLANK_LINE + 1)
        while match := _BLANK_LINE.search(buffer, position):
            position = match.end()
            events.append(buffer[start:position])
            start = position
        self.held = buffer[start:]
        if len(self.held) > self._limit:
            raise UpstreamBroken("The provider sent a stream event that is too large.")
        return events


def _is_one_event(data: bytes) -> bool:
    """Whether it is an event of one line, or of two, as those with a name are. Of some that are, it does not tell."""
    last = len(data) - len(b"\n\n")
    end = data.find(b"\n")
    if 0 <= end < last - len(b"\r\n"):  # nearer to the end, a blank line may come before the last one
        end = data.find(b"\n", end + 1)
    return end == last and data.endswith(b"\n\n")


def event_data(event: bytes) -> bytes:
    """The event's data, lines joined as the specification says; empty for comments and bare blank lines."""
    start = event.find(b"\n") + 1 if event[:6] == b"event:" else 0
    if event[start : start + 6] == b"data: " and event.find(b"\n", start) >= len(event) - 2:
        return event[start + 6 :].strip()
    lines = [line[5:].removeprefix(b" ") for line in _LINE_END.split(event) if line.startswith(b"data:")]
    return b"\n".join(lines).strip()
