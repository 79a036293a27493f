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
    turns = merged(_shown(request.turns))
    if any(turn.role == "system" for turn in turns):
        turns = merged(_placed(turns, native=model_of(target.model).takes_system_inside))
    if turns and turns[0].role == "assistant":
        turns = [Turn("user", (_OPENING,)), *turns]
    if turns and turns[-1].role == "assistant":
        turns[-1] = _trimmed(turns[-1])
    return [turn for turn in turns if turn.parts]


def _shown(turns: Iterable[Turn]) -> Iterator[Turn]:
    """Without what the vendor refuses. What an assistant made of images and the like comes back in a user's turn."""
    for turn in turns:
        parts = [part for part in turn.parts if _is_said(part)]
        media = [part for part in parts if isinstance(part, Media)] if turn.role == "assistant" else []
        if not media and len(parts) == len(turn.parts):
            if parts:
                yield turn
            continue
        said = [part for part in parts if not isinstance(part, Media)] if media else parts
        if said:
            yield Turn(turn.role, tuple(said))
        if media:
            yield Turn("user", tuple(media))


def _is_said(part: Part) -> bool:
    """The vendor refuses blank texts, and thoughts that it did not sign."""
    if isinstance(part, Text | Refusal):
        return not part.text.isspace() and part.text != ""
    return is_signed(part) if isinstance(part, Thinking) else True


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
