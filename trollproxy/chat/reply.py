"""An answer of a model, whole or as the events of a stream, in no vendor's words.

A stream is: Started, then parts (PartStarted, any of PartGrew / PartSigned / PartCited / PartScored, PartEnded), a
Finished for each choice, Counted whenever usage is known, and Ended. Part indexes count up from 0 over the whole
stream in order of their start; parts may overlap in time (parallel tool calls do).
"""

from collections.abc import Iterable
from typing import Literal

import msgspec

from trollproxy.chat.parts import AnswerPart, Citation, Media, Refusal, State, Text, TokenScore, ToolCall
from trollproxy.chat.usage import Usage

Finish = Literal[
    "stop", "stop_sequence", "tool_calls", "length", "context_full", "refusal", "paused", "malformed"
]  # malformed: the model's own output was unusable


class Choice(msgspec.Struct, frozen=True, gc=False, kw_only=True, omit_defaults=True):
    parts: tuple[AnswerPart, ...]
    finish: Finish
    stop_sequence: str | None = None  # the one that was met, where the vendor says it


class Reply(msgspec.Struct, frozen=True, gc=False, kw_only=True, omit_defaults=True):
    reply_id: str
    model: str
    choices: tuple[Choice, ...]
    usage: Usage | None = None
    tier: str | None = None


class Started(msgspec.Struct, frozen=True, gc=False, kw_only=True, tag=True):
    reply_id: str = ""
    model: str = ""


class PartStarted(msgspec.Struct, frozen=True, gc=False, kw_only=True, tag=True):
    """`part` is what is known at once; what grows starts empty. Media come whole."""

    index: int
    part: AnswerPart
    choice: int = 0


class PartGrew(msgspec.Struct, frozen=True, gc=False, kw_only=True, tag=True):
    """More of a part's text, or of a call's arguments."""

    index: int
    text: str


class PartSigned(msgspec.Struct, frozen=True, gc=False, kw_only=True, tag=True):
    index: int
    state: State


class PartCited(msgspec.Struct, frozen=True, gc=False, kw_only=True, tag=True):
    index: int
    citation: Citation


class PartScored(msgspec.Struct, frozen=True, gc=False, kw_only=True, tag=True):
    index: int
    scores: tuple[TokenScore, ...]


class PartEnded(msgspec.Struct, frozen=True, gc=False, kw_only=True, tag=True):
    index: int


class Finished(msgspec.Struct, frozen=True, gc=False, kw_only=True, tag=True):
    finish: Finish
    choice: int = 0
    stop_sequence: str | None = None


class Counted(msgspec.Struct, frozen=True, gc=False, kw_only=True, tag=True):
    """All usage so far; each replaces the one before."""

    usage: Usage
    is_final: bool


class Ended(msgspec.Struct, frozen=True, gc=False, tag=True):
    """The dialect's last word was read: nothing was cut off."""


StreamEvent = (
    Started | PartStarted | PartGrew | PartSigned | PartCited | PartScored | PartEnded | Finished | Counted | Ended
)


def collect(events: Iterable[StreamEvent]) -> Reply:
    """The whole answer that a stream amounts to."""
    gathered = Gathering()
    for event in events:
        gathered.take(event)
    return gathered.reply()


class Gathering:
    """An answer that is being put together from a stream's events."""

    __slots__ = ("_choice_of", "_finished", "_pieces", "_started", "_usage", "parts")

    def __init__(self) -> None:
        self._started = Started()
        self.parts: dict[int, AnswerPart] = {}  # by index; texts are joined by `part`
        self._pieces: dict[int, list[str]] = {}
        self._choice_of: dict[int, int] = {}
        self._finished: dict[int, Finished] = {}
        self._usage: Usage | None = None

    def take(self, event: StreamEvent) -> None:
        match event:
            case PartGrew():
                self._pieces.setdefault(event.index, []).append(event.text)
            case Started():
                self._started = event
            case PartStarted():
                self.parts[event.index] = event.part
                self._choice_of[event.index] = event.choice
            case PartSigned() | PartCited() | PartScored():
                self.parts[event.index] = _with(self.parts[event.index], event)
            case Finished():
                self._finished[event.choice] = event
            case Counted():
                self._usage = event.usage
            case PartEnded() | Ended():
                pass

    def part(self, index: int) -> AnswerPart:
        """The part as it stands now."""
        part = self.parts[index]
        grown = "".join(self._pieces.get(index, ()))
        if not grown:
            return part
        if isinstance(part, ToolCall):
            return msgspec.structs.replace(part, arguments=part.arguments + grown)
        assert not isinstance(part, Media), "media come whole"
        return msgspec.structs.replace(part, text=part.text + grown)

    def reply(self) -> Reply:
        return Reply(
            reply_id=self._started.reply_id,
            model=self._started.model,
            choices=tuple(self._choice(number) for number in sorted(self._finished)),
            usage=self._usage,
        )

    def _choice(self, number: int) -> Choice:
        finished = self._finished[number]
        indexes = (index for index in sorted(self.parts) if self._choice_of[index] == number)
        parts = tuple(self.part(index) for index in indexes)
        return Choice(parts=parts, finish=finished.finish, stop_sequence=finished.stop_sequence)


def _with(part: AnswerPart, event: PartSigned | PartCited | PartScored) -> AnswerPart:
    if isinstance(event, PartSigned):
        assert not isinstance(part, Refusal)
        return msgspec.structs.replace(part, state=event.state)
    assert isinstance(part, Text)
    if isinstance(event, PartCited):
        return msgspec.structs.replace(part, citations=(*part.citations, event.citation))
    return msgspec.structs.replace(part, scores=part.scores + event.scores)


def events_of(reply: Reply) -> list[StreamEvent]:
    """The shortest stream that amounts to this answer."""
    events: list[StreamEvent] = [Started(reply_id=reply.reply_id, model=reply.model)]
    index = 0
    for number, choice in enumerate(reply.choices):
        for part in choice.parts:
            events += (PartStarted(index=index, part=part, choice=number), PartEnded(index=index))
            index += 1
        events.append(Finished(finish=choice.finish, choice=number, stop_sequence=choice.stop_sequence))
    if reply.usage is not None:
        events.append(Counted(usage=reply.usage, is_final=True))
    events.append(Ended())
    return events


def said_in(part: AnswerPart) -> bytes:
    """The answer itself: by its length output is estimated where a provider gives no usage."""
    if isinstance(part, ToolCall):
        return (part.name + part.arguments).encode()
    if isinstance(part, Media):
        return (part.data or part.url or "").encode()
    return part.text.encode()
