"""A passage on whose client side words are replaced and reasoning is left out.

Both happen to the client's own format, so it is the same for bytes that pass and for what was translated
(docs/decisions/0009). What is counted and billed is what the provider said, before it is changed here.

An event of a stream whose text may go on into a match waits for the next piece of that text. Nothing is added to the
stream: the rest of a text goes into the last event that held some of it.
"""

from collections import deque
from collections.abc import Mapping
from typing import NamedTuple, Protocol

import msgspec

from trollproxy.errors import GatewayError
from trollproxy.wire.body import decode_reply
from trollproxy.wire.format import Entry, Format, Headers, StreamMeter, Target, Whole
from trollproxy.wire.passage import Passage
from trollproxy.wire.shallow import EVENT
from trollproxy.wire.sse import EventSplitter, event_data
from trollproxy.wire.texts import NO_PEN, Dropper, Frames, Key, Piece, Texts, edit, edit_body, key_of, set_data

MAX_WAITING = 64  # events that may stand behind one that waits; beyond it goes as it is, and a match may be missed


class Flow(Protocol):
    """A text that comes in pieces."""

    held: str

    def feed(self, piece: str) -> str: ...

    def finish(self) -> str: ...


class Words(Protocol):
    """What replaces words."""

    def apply(self, text: str) -> str: ...

    def stream(self) -> Flow: ...


class Edits(NamedTuple):
    """What is to be done. None: nothing."""

    request: Words | None = None
    response: Words | None = None
    drops_thinking: bool = False

    def __bool__(self) -> bool:
        return self.request is not None or self.response is not None or self.drops_thinking


class Edited(Passage):
    """A passage (`passage.Passage`) with edits. The inner one must have been opened for `plain(entry)`."""

    __slots__ = ("_client", "_edits", "_entry", "_inner", "is_translated", "upstream")

    def __init__(self, inner: Passage, client: Format, edits: Edits, *, entry: Entry) -> None:
        self._inner = inner
        self.upstream = inner.upstream
        self.is_translated = inner.is_translated
        self._client = client
        self._edits = edits
        self._entry = entry

    def write_request(self, body: bytes, target: Target) -> bytes:
        return self._inner.write_request(self._edit_request(body), target)

    def upstream_path(self, path: str, target: Target) -> str:
        return self._inner.upstream_path(path, target)

    def upstream_headers(self, headers: Mapping[str, str]) -> Headers:
        return self._inner.upstream_headers(headers)

    def meter(self) -> StreamMeter:
        return _EditedStream(self._inner.meter(), self._client.texts, self._edits, is_array=self._entry.is_array)

    def read_whole(self, body: bytes) -> tuple[Whole, bytes]:
        whole, written = self._inner.read_whole(body)
        texts = self._client.texts
        if self._edits.drops_thinking:
            written = edit_body(written, texts.thoughts, NO_PEN)
        if self._edits.response is not None:
            written = edit_body(written, texts.reply, _WholePen(self._edits.response))
        return whole, written

    def clean(self, error: GatewayError) -> None:
        """A provider's words about what went wrong reach the client as those of an answer do."""
        if error.origin == "upstream" and self._edits.response is not None:
            error.message = self._edits.response.apply(error.message)

    def _edit_request(self, body: bytes) -> bytes:
        words = self._edits.request
        return body if words is None else edit_body(body, self._client.texts.request, _WholePen(words))


def plain(entry: Entry) -> Entry:
    """What the inner passage is opened for: events, of which the array that the client wants is made here."""
    if not entry.is_array:
        return entry
    return Entry(operation=entry.operation, model=entry.model, stream=entry.stream, is_beta=entry.is_beta)


class _WholePen:
    """For texts that are there at once."""

    def __init__(self, words: Words) -> None:
        self._words = words

    def write(self, key: Key, text: str) -> str:  # noqa: ARG002 - the protocol's
        return self._words.apply(text)

    def end(self, key: Key) -> None: ...


class _EditedStream(StreamMeter):
    """What is known of the stream is the inner meter's; only the bytes are others."""

    __slots__ = ("_dropper", "_events", "_frames", "_inner", "_pens")

    def __init__(self, inner: StreamMeter, texts: Texts, edits: Edits, *, is_array: bool) -> None:
        super().__init__()
        self._inner = inner
        self._events = EventSplitter()
        self._dropper: Dropper | None = texts.dropper() if edits.drops_thinking else None
        self._pens = StreamPens(texts, edits.response) if edits.response is not None else None
        self._frames: Frames | None = texts.array() if is_array and texts.array is not None else None

    def feed(self, data: bytes) -> bytes:
        return self._take(self._inner.feed(data))

    def finish(self) -> bytes:
        written = self._take(self._inner.finish(), is_over=True)
        is_whole = self.error is None and (self.is_complete or self.may_end)
        return written + (self._frames.end() if self._frames is not None and is_whole else b"")

    def write_error(self, error: GatewayError, request_id: str) -> bytes:
        written = self._take(self._inner.write_error(error, request_id), is_over=True)
        return written + (self._frames.end() if self._frames is not None else b"")

    def _take(self, passed: bytes, *, is_over: bool = False) -> bytes:
        self.follow(self._inner)
        events = [edited for event in self._events.feed(passed) if (edited := self._dropped(event))]
        if self._pens is not None:
            events = [released for event in events for released in self._pens.take(event)]
            if is_over or self.is_complete or self.error is not None:
                events += self._pens.finish()
        if self._frames is None:
            return b"".join(events)
        return b"".join(self._frames.one(event_data(event)) for event in events)

    def _dropped(self, event: bytes) -> bytes:
        data = event_data(event)
        if self._dropper is None or not data.startswith(b"{"):
            return event
        kept = self._dropper.take(data)
        if kept is None:
            return b""
        return event if kept is data else set_data(event, data, kept)


_MEMBERS = msgspec.json.Decoder(dict[str, msgspec.Raw])


class _Waiting:
    """An event with what has become of its texts."""

    __slots__ = ("data", "event", "piece", "read", "waits", "written")

    def __init__(self, event: bytes, data: bytes, piece: Piece | None) -> None:
        self.event = event
        self.data = data
        self.piece = piece
        self.read: list[str] = []
        self.written: list[str] = []
        self.waits = 0  # of its texts, for more

    def bytes(self) -> bytes:
        if self.read == self.written:
            return self.event
        assert self.piece is not None
        assert self.piece.grows is not None
        return set_data(self.event, self.data, edit(self.data, self.piece.grows, _Copying(self.written)))


class StreamPens:
    """Replaces words in the events of one stream."""

    __slots__ = ("_carriers", "_flows", "_pen", "_texts", "_waiting", "_words")

    def __init__(self, texts: Texts, words: Words) -> None:
        self._texts = texts
        self._words = words
        self._pen = _WholePen(words)
        self._flows: dict[Key, Flow] = {}
        self._carriers: dict[Key, tuple[_Waiting, int]] = {}  # whose text waits, and which of its texts
        self._waiting: deque[_Waiting] = deque()

    def take(self, event: bytes) -> list[bytes]:
        """The events that the client gets now."""
        data = event_data(event)
        piece = self._piece(data)
        if piece is not None and piece.whole is not None:
            edited = edit(data, piece.whole, self._pen)
            if edited is not data:
                event = set_data(event, data, edited)
        waiting = _Waiting(event, data, piece)
        self._waiting.append(waiting)
        if piece is not None and piece.grows is not None:
            edit(data, piece.grows, _Reading(self, waiting))
        if piece is not None and piece.ends is not None:
            members = decode_reply(_MEMBERS, data)
            self.end(key_of(members or {}, piece.ends))
        return self._release() if len(self._waiting) <= MAX_WAITING else self.finish()

    def finish(self) -> list[bytes]:
        """Nothing more comes, or nothing more may wait."""
        self.end(())
        return self._release()

    def read(self, key: Key, text: str, waiting: _Waiting) -> None:
        flow = self._flows.get(key)
        if flow is None:
            flow = self._flows[key] = self._words.stream()
        held, released = flow.held, flow.feed(text)
        if held and released.startswith(held):  # it was no match: back to the event that it came in
            carrier, place = self._carriers[key]
            carrier.written[place] += held
            released = released[len(held) :]
        waiting.read.append(text)
        waiting.written.append(released)
        self._let_go(key)
        if flow.held:
            waiting.waits += 1
            self._carriers[key] = (waiting, len(waiting.written) - 1)

    def end(self, key: Key) -> None:
        """The texts whose keys begin so are over."""
        for ended in [known for known in self._flows if known[: len(key)] == key]:
            rest = self._flows.pop(ended).finish()
            if rest:
                waiting, place = self._carriers[ended]
                waiting.written[place] += rest
            self._let_go(ended)

    def _let_go(self, key: Key) -> None:
        if key in self._carriers:
            self._carriers.pop(key)[0].waits -= 1

    def _release(self) -> list[bytes]:
        released = []
        while self._waiting and not self._waiting[0].waits:
            released.append(self._waiting.popleft().bytes())
        return released

    def _piece(self, data: bytes) -> Piece | None:
        if not data.startswith(b"{"):
            return None
        untyped = self._texts.events.get("")
        if untyped is not None:
            return untyped
        typed = decode_reply(EVENT, data)
        return self._texts.events.get(typed.type) if typed is not None else None


class _Reading:
    """Feeds an event's texts to their flows, in order."""

    def __init__(self, pens: StreamPens, waiting: _Waiting) -> None:
        self._pens = pens
        self._waiting = waiting

    def write(self, key: Key, text: str) -> str:
        self._pens.read(key, text, self._waiting)
        return text

    def end(self, key: Key) -> None:
        self._pens.end(key)


class _Copying:
    """Puts texts where an event's were, in order."""

    def __init__(self, texts: list[str]) -> None:
        self._texts = iter(texts)

    def write(self, key: Key, text: str) -> str:  # noqa: ARG002 - the protocol's
        return next(self._texts, text)

    def end(self, key: Key) -> None: ...
