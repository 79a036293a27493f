"""Where a format's JSON holds words, and changing them there while all other bytes stay as they are.

A `Place` is what is text of a value: of a string all, of a list each item, of an object the members that are named.
What it does not name is passed over unread, so fields that nobody knows yet survive. Objects in which something
changes are put together anew from the bytes of their members; where nothing does, the very bytes come back.
"""

from collections.abc import Callable, Mapping
from typing import NamedTuple, Protocol

import msgspec

from trollproxy.wire.body import decode_reply

Mark = tuple[str, frozenset[bytes]]  # a member, and what its JSON may be
Key = tuple[bytes, ...]  # whose text it is, by the members that say so and the name of the last

_MEMBERS = msgspec.json.Decoder(dict[str, msgspec.Raw])
_ITEMS = msgspec.json.Decoder(list[msgspec.Raw])
_TEXT = msgspec.json.Decoder(str)
_UNSAID = (b"", b"null")


class Place(NamedTuple):
    """What of a JSON value is text."""

    is_text: bool = False
    members: Mapping[str, "Place"] = {}
    unless: Mark | None = None  # objects that are passed over
    key: tuple[str, ...] = ()  # members that say whose text it is, where it comes in pieces
    last: str | None = None  # the member that says, once it is set, that no more will come
    drops: frozenset[str] = frozenset()  # members that go
    drops_items: Mark | None = None  # items that go


TEXT = Place(is_text=True)


class Pen(Protocol):
    """What is done to the texts."""

    def write(self, key: Key, text: str) -> str: ...

    def end(self, key: Key) -> None:
        """No more will come of it."""


class Frames(Protocol):
    """How events of a stream are put into bytes where they are no server-sent ones."""

    def one(self, data: bytes) -> bytes: ...

    def end(self) -> bytes: ...


class Dropper(Protocol):
    """Takes the reasoning out of one stream."""

    def take(self, data: bytes) -> bytes | None:
        """The event without it; None if nothing is left."""


class Piece(NamedTuple):
    """What the events of one type hold: a piece of a text that grows, whole texts, or the word that one is over."""

    grows: Place | None = None
    whole: Place | None = None
    ends: Place | None = None  # only its `key` is read


class Texts(NamedTuple):
    """Where one format's words are."""

    request: Place
    reply: Place
    events: Mapping[str, Piece]  # by `type`; "" where events have none
    thoughts: Place  # what of a whole reply is reasoning
    dropper: Callable[[], Dropper]
    array: Callable[[], Frames] | None = None  # for a stream that is one JSON array


def edit_body(body: bytes, place: Place, pen: Pen) -> bytes:
    """A whole body; the very bytes where nothing changes."""
    trimmed = body.strip()
    edited = edit(trimmed, place, pen)
    return body if edited is trimmed else edited


def edit(raw: bytes, place: Place, pen: Pen, *, key: Key = ()) -> bytes:
    """The value with its texts as the pen leaves them. Unchanged it is the same object."""
    match raw[:1]:
        case b'"' if place.is_text:
            return _edit_text(raw, pen, key)
        case b"[":
            return _edit_items(raw, place, pen, key=key)
        case b"{" if place.members or place.drops or place.key:
            return _edit_object(raw, place, pen, key=key)
    return raw


def set_data(event: bytes, data: bytes, edited: bytes) -> bytes:
    """A server-sent event with other data. JSON has no line ends but between its tokens, where a blank does as well."""
    edited = edited.replace(b"\r", b"").replace(b"\n", b" ")
    head, found, tail = event.partition(data)
    if found:
        return head + edited + tail
    kept = [line for line in event.splitlines() if line and not line.startswith(b"data:")]
    return b"\n".join((*kept, b"data: " + edited, b"", b""))


def is_marked(raw: bytes, mark: Mark | None) -> bool:
    """Whether it is an object that has this member with one of these values."""
    if mark is None or raw[:1] != b"{":
        return False
    members = decode_reply(_MEMBERS, raw)
    return members is not None and bytes(members.get(mark[0], b"")) in mark[1]


def _edit_text(raw: bytes, pen: Pen, key: Key) -> bytes:
    text = decode_reply(_TEXT, raw)
    if text is None:
        return raw
    edited = pen.write(key, text)
    return raw if edited == text else msgspec.json.encode(edited)


def _edit_items(raw: bytes, place: Place, pen: Pen, *, key: Key) -> bytes:
    items = [bytes(item) for item in decode_reply(_ITEMS, raw) or ()]
    kept = [item for item in items if not is_marked(item, place.drops_items)]
    # A list in a list is no format's; going into it would let a client choose how deep we go.
    edited = [item if item[:1] == b"[" else edit(item, place, pen, key=key) for item in kept]
    if len(kept) == len(items) and all(new is old for new, old in zip(edited, kept, strict=True)):
        return raw
    return msgspec.json.encode([msgspec.Raw(item) for item in edited])


def _edit_object(raw: bytes, place: Place, pen: Pen, *, key: Key) -> bytes:
    members = decode_reply(_MEMBERS, raw)
    if members is None or (place.unless is not None and bytes(members.get(place.unless[0], b"")) in place.unless[1]):
        return raw
    key += key_of(members, place)
    changed: dict[str, msgspec.Raw] = {}
    for name, inner in place.members.items():
        if name in members:
            value = bytes(members[name])
            edited = edit(value, inner, pen, key=(*key, name.encode()) if inner.is_text else key)
            if edited is not value:
                changed[name] = msgspec.Raw(edited)
    if place.last is not None and bytes(members.get(place.last, b"")) not in _UNSAID:
        pen.end(key)
    gone = place.drops.intersection(members)
    if not changed and not gone:
        return raw
    return msgspec.json.encode({name: value for name, value in (members | changed).items() if name not in gone})


def key_of(members: Mapping[str, msgspec.Raw], place: Place) -> Key:
    """Who leaves out a number means the first."""
    return tuple(bytes(members[name]) if name in members else b"0" for name in place.key)


class _NoPen:
    """For places that only drop."""

    def write(self, key: Key, text: str) -> str:  # noqa: ARG002 - the protocol's
        return text

    def end(self, key: Key) -> None: ...


NO_PEN = _NoPen()


class PlaceDropper:
    """For formats whose reasoning stands in the same events as all else."""

    def __init__(self, place: Place) -> None:
        self._place = place

    def take(self, data: bytes) -> bytes | None:
        return edit(data, self._place, NO_PEN)
