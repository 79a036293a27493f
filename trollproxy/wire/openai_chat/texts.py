"""Where Chat Completions hold words. Reasoning has no place in the dialect; its members are the providers' own."""

from functools import partial

from trollproxy.wire.texts import TEXT, Piece, Place, PlaceDropper, Texts

_REASONING = frozenset(("reasoning_content", "reasoning", "reasoning_details", "thinking_blocks"))
_CONTENT = Place(is_text=True, members={"text": TEXT, "refusal": TEXT})
_MESSAGE = Place(members={"content": _CONTENT, "refusal": TEXT})
_DESCRIBED = Place(members={"description": TEXT})
_TOOLS = Place(members={"function": _DESCRIBED, "custom": _DESCRIBED})
_CHUNK = Place(key=("index",), last="finish_reason", members={"delta": _MESSAGE})
_THOUGHTS = Place(drops=_REASONING)

TEXTS = Texts(
    request=Place(members={"messages": _MESSAGE, "tools": _TOOLS}),
    reply=Place(members={"choices": Place(members={"message": _MESSAGE})}),
    events={"": Piece(grows=Place(members={"choices": _CHUNK}))},
    thoughts=Place(members={"choices": Place(members={"message": _THOUGHTS})}),
    dropper=partial(PlaceDropper, Place(members={"choices": Place(members={"delta": _THOUGHTS})})),
)
