"""Reading streams of the dialect: each choice by itself, what is being said, and its calls by their index."""

from collections.abc import Iterator

import msgspec

from trollproxy.chat import (
    AnswerPart,
    Counted,
    Ended,
    Finished,
    PartCited,
    PartEnded,
    PartGrew,
    PartScored,
    PartSigned,
    PartStarted,
    Refusal,
    Started,
    State,
    StreamEvent,
    Text,
    Thinking,
    ToolCall,
)
from trollproxy.errors import UpstreamBroken
from trollproxy.wire.body import UNSAID, ChoiceIndex, decode_reply, is_said
from trollproxy.wire.errors_in import stream_error
from trollproxy.wire.format import Asked
from trollproxy.wire.openai_chat import answers
from trollproxy.wire.openai_chat.answers import Call, Delta, Logprobs
from trollproxy.wire.openai_chat.usage import read_usage
from trollproxy.wire.sse import event_data


class _ChunkChoice(msgspec.Struct, gc=False):
    index: ChoiceIndex = 0
    delta: Delta | None = None
    finish_reason: str | None = None
    logprobs: Logprobs | None = None


class _Chunk(msgspec.Struct, gc=False):
    id: str | None = None
    model: str | None = None
    choices: list[_ChunkChoice] | None = None
    usage: msgspec.Raw = UNSAID
    error: msgspec.Raw = UNSAID


_CHUNK = msgspec.json.Decoder(_Chunk)
_EMPTY: dict[type[AnswerPart], AnswerPart] = {Text: Text(text=""), Thinking: Thinking(), Refusal: Refusal(text="")}


class _Numbers:
    """Indexes of parts and numbers of calls over a whole stream."""

    __slots__ = ("calls", "parts", "request_id")

    def __init__(self, request_id: str) -> None:
        self.request_id = request_id
        self.parts = 0
        self.calls = 0

    def next_part(self) -> int:
        self.parts += 1
        return self.parts - 1

    def next_call_id(self, given: str | None) -> str:
        self.calls += 1
        return answers.call_id(given, self.request_id, self.calls - 1)


class _OpenCall:
    """A call whose name may still be to come; what it says meanwhile waits."""

    __slots__ = ("given_id", "index", "is_custom", "name", "waiting")

    def __init__(self, given_id: str | None) -> None:
        self.given_id = given_id
        self.index: int | None = None  # of the part, once it has begun
        self.name = ""
        self.is_custom = False
        self.waiting = ""


class _ChoiceReader:
    """One choice of a stream."""

    __slots__ = (
        "_calls",
        "_calls_by_place",
        "_kind",
        "_last_place",
        "_named_now",
        "_number",
        "_numbers",
        "_open",
        "_state",
        "_word",
    )

    def __init__(self, number: int, numbers: _Numbers) -> None:
        self._number = number
        self._numbers = numbers
        self._kind: type[AnswerPart] | None = None  # of the part that is being said
        self._open = -1
        self._state: State | None = None  # of the thought that is being said
        self._calls: list[_OpenCall] = []
        self._calls_by_place: dict[int, _OpenCall] = {}  # by the provider's index: the latest of that index
        self._last_place = 0
        self._named_now: set[int] = set()  # places that this chunk has named a call at
        self._word = ""  # the reason to finish, once it is told

    @property
    def may_finish(self) -> bool:
        return bool(self._word) and not self._has_nameless

    def read(self, choice: _ChunkChoice) -> Iterator[StreamEvent]:
        delta = choice.delta or Delta()
        thoughts, words = delta.thoughts, delta.words
        if thoughts:
            self._state = delta.thoughts_state
            yield from self._say(Thinking, thoughts)
        if words:
            yield from self._say(Text, words)
        if delta.refusal:
            yield from self._say(Refusal, delta.refusal)
        if choice.logprobs is not None or delta.annotations:
            yield from self._annotate(delta, choice.logprobs)
        self._named_now.clear()
        for call in delta.calls:
            yield from self._call(call)
        # Some servers send "" all along, and some go on talking after the reason: only the stream's end is the end.
        self._word = choice.finish_reason or self._word

    def finish(self) -> Iterator[StreamEvent]:
        yield from self._close()
        begun = [opened.index for opened in self._calls if opened.index is not None]
        for index in begun:
            yield PartEnded(index=index)
        if self._has_nameless:
            raise UpstreamBroken("The provider sent a tool call without a name.")
        yield Finished(finish=answers.read_finish(self._word, has_calls=bool(begun)), choice=self._number)

    @property
    def _has_nameless(self) -> bool:
        return any(opened.waiting for opened in self._calls)

    def _say(self, kind: type[AnswerPart], text: str) -> Iterator[StreamEvent]:
        if self._kind is not kind:
            yield from self._turn_to(kind)
        yield PartGrew(index=self._open, text=text)

    def _turn_to(self, kind: type[AnswerPart]) -> Iterator[StreamEvent]:
        """Have a part of the kind open."""
        if self._kind is not kind:
            yield from self._close()
            started = self._begin(_EMPTY[kind])
            self._kind, self._open = kind, started.index
            yield started

    def _begin(self, part: AnswerPart) -> PartStarted:
        return PartStarted(index=self._numbers.next_part(), part=part, choice=self._number)

    def _close(self) -> Iterator[StreamEvent]:
        """End what is being said."""
        if self._kind is None:
            return
        if self._kind is Thinking and self._state is not None:
            yield PartSigned(index=self._open, state=self._state)
        yield PartEnded(index=self._open)
        self._kind = None

    def _annotate(self, delta: Delta, logprobs: Logprobs | None) -> Iterator[StreamEvent]:
        """Scores and citations belong to a text. Some servers score thoughts and calls too, which have no place."""
        is_text = bool(delta.words) or not (delta.thoughts or delta.calls or self._calls)
        scores = answers.read_scores(logprobs) if is_text else ()
        if scores:
            yield from self._turn_to(Text)
            yield PartScored(index=self._open, scores=scores)
        for citation in answers.read_citations(delta.annotations):
            yield from self._turn_to(Text)
            yield PartCited(index=self._open, citation=citation)

    def _call(self, call: Call) -> Iterator[StreamEvent]:
        said = call.function or call.custom
        if said is None:
            return
        opened = self._call_of(call, has_name=bool(said.name))
        opened.is_custom = opened.is_custom or (call.function is None and call.custom is not None)
        opened.name = opened.name or said.name or ""
        text = opened.waiting + (said.input or "" if opened.is_custom else answers.read_arguments(said.arguments))
        if not opened.name:
            opened.waiting = text
            return
        if opened.index is None:
            yield from self._close()
            yield self._begin_call(opened)
        assert opened.index is not None
        opened.waiting = ""
        if text:
            yield PartGrew(index=opened.index, text=text)

    def _call_of(self, call: Call, *, has_name: bool) -> _OpenCall:
        """The call that a piece belongs to. Some servers give every call the index 0, or none at all."""
        place = self._last_place = call.index if call.index is not None else self._last_place
        known = self._calls_by_place.get(place)
        if known is not None and has_name and known.name:
            has_other_id = bool(call.id and known.given_id and call.id != known.given_id)
            known = None if has_other_id or call.index is None or place in self._named_now else known
        if has_name:
            self._named_now.add(place)
        if known is None:
            known = self._calls_by_place[place] = _OpenCall(call.id)
            self._calls.append(known)
        known.given_id = known.given_id or call.id
        return known

    def _begin_call(self, opened: _OpenCall) -> PartStarted:
        call_id = self._numbers.next_call_id(opened.given_id)
        started = self._begin(ToolCall(call_id=call_id, name=opened.name, is_custom=opened.is_custom))
        opened.index = started.index
        return started


class ChatReader:
    """One stream of a provider."""

    __slots__ = ("_choices", "_is_ended", "_is_started", "_numbers")

    def __init__(self, asked: Asked) -> None:
        self._numbers = _Numbers(asked.request_id)
        self._choices: dict[int, _ChoiceReader] = {}
        self._is_started = self._is_ended = False

    def read(self, event: bytes) -> list[StreamEvent]:
        data = event_data(event)
        if not data or self._is_ended:
            return []
        if data == b"[DONE]":
            return self._end()
        chunk = decode_reply(_CHUNK, data)
        if chunk is None:
            raise UpstreamBroken("The provider sent a stream event that is not of its format.")
        if is_said(chunk.error):
            raise stream_error(bytes(chunk.error))
        return list(self._read_chunk(chunk))

    def finish(self) -> list[StreamEvent]:
        has_all = bool(self._choices) and all(choice.may_finish for choice in self._choices.values())
        return self._end() if has_all and not self._is_ended else []

    def _end(self) -> list[StreamEvent]:
        """What is said without a reason to finish is what there is: the server itself says that it is done."""
        self._is_ended = True
        if not self._choices:
            raise UpstreamBroken("The provider ended the stream without an answer.")
        finished = [event for _, choice in sorted(self._choices.items()) for event in choice.finish()]
        return [*finished, Ended()]

    def _read_chunk(self, chunk: _Chunk) -> Iterator[StreamEvent]:
        if not self._is_started and (chunk.id or chunk.choices):  # Azure begins with a chunk that names nothing
            self._is_started = True
            yield Started(reply_id=chunk.id or "", model=chunk.model or "")
        for choice in chunk.choices or ():
            if choice.index not in self._choices:
                self._choices[choice.index] = _ChoiceReader(choice.index, self._numbers)
            yield from self._choices[choice.index].read(choice)
        usage = read_usage(chunk.usage) if is_said(chunk.usage) else None
        if usage is not None and self._is_started:
            has_all = all(choice.may_finish for choice in self._choices.values())
            yield Counted(usage=usage, is_final=has_all or not chunk.choices)
