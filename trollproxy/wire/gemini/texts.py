"""Where Gemini's requests and answers hold words, in both of the vendor's spellings."""

from functools import partial

from trollproxy.wire.gemini.events import Array
from trollproxy.wire.texts import TEXT, Piece, Place, PlaceDropper, Texts

_IS_THOUGHT = ("thought", frozenset((b"true",)))
_TOLD = Place(members={"response": Place(members=dict.fromkeys(("output", "result", "error", "content"), TEXT))})
_PART = Place(
    is_text=True, members={"text": TEXT, "functionResponse": _TOLD, "function_response": _TOLD}, unless=_IS_THOUGHT
)
_CONTENT = Place(is_text=True, members={"parts": _PART})
_DESCRIBED = Place(members={"description": TEXT})
_ASKED = {
    "contents": _CONTENT,
    "systemInstruction": _CONTENT,
    "system_instruction": _CONTENT,
    "tools": Place(members=dict.fromkeys(("functionDeclarations", "function_declarations"), _DESCRIBED)),
}
_SAID = Place(members={"parts": Place(members={"text": TEXT}, unless=_IS_THOUGHT)})
_CANDIDATE = Place(key=("index",), last="finishReason", members={"content": _SAID})
_ANSWER = Place(members={"candidates": _CANDIDATE})
_THOUGHTS = Place(
    members={"candidates": Place(members={"content": Place(members={"parts": Place(drops_items=_IS_THOUGHT)})})}
)

TEXTS = Texts(
    request=Place(
        members={
            **_ASKED,
            # count_tokens may be asked for a whole request
            "generateContentRequest": Place(members=_ASKED),
            "generate_content_request": Place(members=_ASKED),
        }
    ),
    reply=_ANSWER,
    events={"": Piece(grows=_ANSWER)},
    thoughts=_THOUGHTS,
    dropper=partial(PlaceDropper, _THOUGHTS),
    array=Array,
)
