"""Where Anthropic Messages hold words, and how thinking is taken out of a stream.

Thinking is signed and goes back as it came, so it is dropped or let be, never changed; the same goes for compactions.
Arguments of tools are JSON of the model's own, and stay.
"""

import msgspec

from trollproxy.wire.body import decode_reply, replace_members
from trollproxy.wire.texts import TEXT, Piece, Place, Texts

_THOUGHTS = frozenset((b'"thinking"', b'"redacted_thinking"'))
_IS_THOUGHT = ("type", _THOUGHTS)
_IS_SEALED = ("type", _THOUGHTS | {b'"compaction"'})
_TOOLS = Place(members={"description": TEXT})
_RESULT = Place(is_text=True, members={"text": TEXT})
_CONTENT = Place(is_text=True, members={"text": TEXT, "content": _RESULT}, unless=_IS_SEALED)
_BLOCK = Place(members={"text": TEXT}, unless=_IS_SEALED)


class _Block(msgspec.Struct, frozen=True):
    type: str = ""


class _Event(msgspec.Struct):
    type: str = ""
    index: int | None = None
    content_block: _Block = _Block()


_EVENT = msgspec.json.Decoder(_Event)
_HIDDEN = ("thinking", "redacted_thinking")


class _Dropper:
    """The vendor's clients want indexes without gaps."""

    def __init__(self) -> None:
        self._hidden: set[int] = set()

    def take(self, data: bytes) -> bytes | None:
        event = decode_reply(_EVENT, data)
        if event is None or event.index is None:
            return data
        if event.type == "content_block_start" and event.content_block.type in _HIDDEN:
            self._hidden.add(event.index)
        if event.index in self._hidden:
            return None
        before = sum(hidden < event.index for hidden in self._hidden)
        return replace_members(data, {"index": event.index - before}) if before else data


TEXTS = Texts(
    request=Place(members={"system": _CONTENT, "messages": Place(members={"content": _CONTENT}), "tools": _TOOLS}),
    reply=Place(members={"content": _BLOCK}),
    events={
        "content_block_start": Piece(grows=Place(key=("index",), members={"content_block": _BLOCK})),
        "content_block_delta": Piece(grows=Place(key=("index",), members={"delta": Place(members={"text": TEXT})})),
        "content_block_stop": Piece(ends=Place(key=("index",))),
    },
    thoughts=Place(members={"content": Place(drops_items=_IS_THOUGHT)}),
    dropper=_Dropper,
)
