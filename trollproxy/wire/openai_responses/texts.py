"""Where Responses hold words, and how reasoning is taken out of a stream.

What was streamed is told once more when a part, an item and the whole answer are done; it is changed alike there.
Reasoning items may be sealed and go back as they came, so they are dropped or let be, never changed.
"""

import msgspec

from trollproxy.wire.body import decode_reply, replace_members
from trollproxy.wire.texts import NO_PEN, TEXT, Piece, Place, Texts, edit

_IS_REASONING = ("type", frozenset((b'"reasoning"',)))
_IS_SEALED = ("type", frozenset((b'"reasoning"', b'"reasoning_text"', b'"compaction"')))
_PART = Place(is_text=True, members={"text": TEXT, "refusal": TEXT}, unless=_IS_SEALED)
_ITEM = Place(is_text=True, members={"content": _PART, "output": _PART}, unless=_IS_SEALED)
_ANSWER = Place(members={"output": Place(members={"content": _PART}, unless=_IS_SEALED)})
_KEY = ("output_index", "content_index")
_RESPONSE = Piece(whole=Place(members={"response": _ANSWER}))
_OUTPUT = Piece(whole=Place(members={"item": Place(members={"content": _PART}, unless=_IS_SEALED)}))
_THOUGHTS = Place(members={"output": Place(drops_items=_IS_REASONING)})


def _delta() -> Piece:
    return Piece(grows=Place(key=_KEY, members={"delta": TEXT}))


def _done(member: str) -> Piece:
    return Piece(whole=Place(members={member: TEXT}), ends=Place(key=_KEY))


class _Item(msgspec.Struct, frozen=True):
    type: str = ""


class _Event(msgspec.Struct):
    type: str = ""
    sequence_number: int | None = None
    output_index: int | None = None
    item: _Item = _Item()
    response: msgspec.Raw = msgspec.Raw()


_EVENT = msgspec.json.Decoder(_Event)


class _Dropper:
    """The vendor's clients want indexes and numbers without gaps."""

    def __init__(self) -> None:
        self._hidden: set[int] = set()
        self._dropped = 0

    def take(self, data: bytes) -> bytes | None:
        event = decode_reply(_EVENT, data)
        if event is None:
            return data
        if event.item.type == "reasoning" and event.output_index is not None:
            self._hidden.add(event.output_index)
        if event.output_index in self._hidden:
            self._dropped += 1
            return None
        members = self._changed(event)
        return replace_members(data, members) if members else data

    def _changed(self, event: _Event) -> dict[str, object]:
        members: dict[str, object] = {}
        if self._dropped and event.sequence_number is not None:
            members["sequence_number"] = event.sequence_number - self._dropped
        if event.output_index is not None and self._hidden:
            members["output_index"] = event.output_index - sum(hidden < event.output_index for hidden in self._hidden)
        response = bytes(event.response)
        edited = edit(response, _THOUGHTS, NO_PEN)
        if edited is not response:
            members["response"] = msgspec.Raw(edited)
        return members


TEXTS = Texts(
    request=Place(
        members={"instructions": TEXT, "input": _ITEM, "tools": Place(members={"description": TEXT})},
    ),
    reply=_ANSWER,
    events={
        "response.output_text.delta": _delta(),
        "response.refusal.delta": _delta(),
        "response.output_text.done": _done("text"),
        "response.refusal.done": _done("refusal"),
        "response.content_part.done": Piece(whole=Place(members={"part": _PART}), ends=Place(key=_KEY)),
        "response.output_item.done": _OUTPUT,
        "response.completed": _RESPONSE,
        "response.incomplete": _RESPONSE,
    },
    thoughts=_THOUGHTS,
    dropper=_Dropper,
)
