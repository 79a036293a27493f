"""Turns of any conversation brought into the order that the vendor takes.

Roles alternate and the user begins; results of tools come first in the turn after their calls; a system message stands
right after the user's turn and before the assistant's, for models that take one there at all.
"""

from collections.abc import Iterable, Iterator

import msgspec

from trollproxy.chat import Media, Part, Refusal, Request, Text, Thinking, Turn, merged
from trollproxy.wire.anthropic.models import model_of
from trollproxy.wire.anthropic.plan import is_signed
from trollproxy.wire.format import Target

_OPENING = Text(text="(The conversation begins with the assistant's words.)")


def history_of(request: Request, target: Target) -> list[Turn]:
    turns = [Turn(turn.role, tuple(part for part in turn.parts if _is_said(part))) for turn in request.turns]
    turns = merged(turn for whole in turns for turn in _shown_by_user(whole) if turn.parts)
    turns = merged(_placed(turns, native=model_of(target.model).takes_system_inside))
    if turns and turns[0].role == "assistant":
        turns = [Turn("user", (_OPENING,)), *turns]
    if turns and turns[-1].role == "assistant":
        turns[-1] = _trimmed(turns[-1])
    return [turn for turn in turns if turn.parts]


def _is_said(part: Part) -> bool:
    """The vendor refuses blank texts, and thoughts that it did not sign."""
    match part:
        case Text() | Refusal():
            return bool(part.text.strip())
        case Thinking():
            return is_signed(part)
    return True


def _shown_by_user(turn: Turn) -> Iterator[Turn]:
    """What an assistant made of images and the like comes back in the user's turn after it."""
    if turn.role != "assistant":
        yield turn
        return
    yield Turn("assistant", tuple(part for part in turn.parts if not isinstance(part, Media)))
    yield Turn("user", tuple(part for part in turn.parts if isinstance(part, Media)))


def _placed(turns: list[Turn], *, native: bool) -> Iterable[Turn]:
    """System turns where they may stand; elsewhere the user says them."""
    for place, turn in enumerate(turns):
        if turn.role != "system":
            yield turn
            continue
        before = turns[place - 1].role if place else None
        after = turns[place + 1].role if place + 1 < len(turns) else "assistant"
        yield turn if native and (before, after) == ("user", "assistant") else _wrapped(turn)


def _wrapped(turn: Turn) -> Turn:
    return Turn("user", tuple(_marked(part) if isinstance(part, Text) else part for part in turn.parts))


def _marked(text: Text) -> Text:
    return msgspec.structs.replace(text, text=f"<system>\n{text.text}\n</system>")


def _trimmed(turn: Turn) -> Turn:
    """A begun answer that ends in white space is refused."""
    *before, last = turn.parts
    if not isinstance(last, Text):
        return turn
    return Turn("assistant", (*before, msgspec.structs.replace(last, text=last.text.rstrip())))
