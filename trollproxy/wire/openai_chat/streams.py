"""Streams of the dialect, read and written.

A reader follows each choice by itself: what is being said, and its calls by their index. A writer numbers the calls of
a choice from 0, and says an id and a name once only, since clients join what comes twice.
"""

from collections.abc import Iterator

import msgspec

from trollproxy.chat import (
    AnswerPart,
    Counted,
    Ended,
    Finished,
    Media,
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
    Usage,
)
from trollproxy.errors import GatewayError, UpstreamBroken
from trollproxy.wire.body import decode_reply
from trollproxy.wire.errors_in import stream_error
from trollproxy.wire.format import Asked
from trollproxy.wire.openai_chat import answers
from trollproxy.wire.openai_chat.answers import Call, Delta, Logprobs
from trollproxy.wire.openai_chat.errors_out import error_event
from trollproxy.wire.openai_chat.replies import media_words
from trollproxy.wire.sse import event_data


class _ChunkChoice(msgspec.Struct):
    index: int = 0
    delta: Delta | None = None
    finish_reason: str | None = None
    logprobs: Logprobs | None = None


class _Chunk(msgspec.Struct):
    id: str | None = None
    model: str | None = None
    choices: list[_ChunkChoice] | None = None
    usage: msgspec.Raw = msgspec.Raw()
    error: msgspec.Raw = msgspec.Raw()


_CHUNK = msgspec.json.Decoder(_Chunk)
_NOTHING = (b"", b"null")
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

    __slots__ = ("_calls", "_kind", "_last_call", "_number", "_numbers", "_open", "_text", "is_finished")

    def __init__(self, number: int, numbers: _Numbers) -> None:
        self._number = number
        self._numbers = numbers
        self._kind: type[AnswerPart] | None = None  # of the part that is being said
        self._open = -1
        self._text: int | None = None  # the last text, where scores and citations belong
        self._calls: dict[int, _OpenCall] = {}
        self._last_call = 0
        self.is_finished = False

    def read(self, choice: _ChunkChoice) -> Iterator[StreamEvent]:
        delta = choice.delta or Delta()
        yield from self._say(Thinking, delta.thoughts)
        yield from self._say(Text, delta.words)
        yield from self._say(Refusal, delta.refusal or "")
        yield from self._annotate(delta, choice.logprobs)
        for call in delta.calls:
            yield from self._call(call)
        if choice.finish_reason is not None and not self.is_finished:
            self.is_finished = True
            yield from self._close()
            for opened in self._calls.values():
                yield from self._end_call(opened)
            finish = answers.read_finish(choice.finish_reason, has_calls=bool(self._calls))
            yield Finished(finish=finish, choice=self._number)

    def _say(self, kind: type[AnswerPart], text: str) -> Iterator[StreamEvent]:
        if not text:
            return
        if self._kind is not kind:
            yield from self._close()
            yield self._begin(_EMPTY[kind])
            self._kind, self._open = kind, self._numbers.parts - 1
            self._text = self._open if kind is Text else self._text
        yield PartGrew(index=self._open, text=text)

    def _begin(self, part: AnswerPart) -> PartStarted:
        return PartStarted(index=self._numbers.next_part(), part=part, choice=self._number)

    def _close(self) -> Iterator[StreamEvent]:
        """End what is being said."""
        if self._kind is None:
            return
        if self._kind is Thinking:
            yield PartSigned(index=self._open, state=State("openai_chat", ""))
        yield PartEnded(index=self._open)
        self._kind = None

    def _annotate(self, delta: Delta, logprobs: Logprobs | None) -> Iterator[StreamEvent]:
        scores = answers.read_scores(logprobs)
        if scores and self._text is None:
            yield self._begin(Text(text=""))
            self._kind = Text
            self._text = self._open = self._numbers.parts - 1
        if self._text is None:
            return
        if scores:
            yield PartScored(index=self._text, scores=scores)
        for citation in answers.read_citations(delta.annotations):
            yield PartCited(index=self._text, citation=citation)

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
        place = call.index if call.index is not None else self._last_call
        known = self._calls.get(place)
        is_other = known is not None and call.id and known.given_id and call.id != known.given_id and has_name
        if is_other or (known is not None and call.index is None and has_name and known.name):
            place, known = max(self._calls) + 1, None
        self._last_call = place
        if known is None:
            known = self._calls[place] = _OpenCall(call.id)
        known.given_id = known.given_id or call.id
        return known

    def _begin_call(self, opened: _OpenCall) -> PartStarted:
        call_id = self._numbers.next_call_id(opened.given_id)
        started = self._begin(ToolCall(call_id=call_id, name=opened.name, is_custom=opened.is_custom))
        opened.index = started.index
        return started

    def _end_call(self, opened: _OpenCall) -> Iterator[StreamEvent]:
        if opened.index is None:
            raise UpstreamBroken("The provider sent a tool call without a name.")
        yield PartEnded(index=opened.index)


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
            self._is_ended = True
            return [*self._finish_silent(), Ended()]
        chunk = decode_reply(_CHUNK, data)
        if chunk is None:
            raise UpstreamBroken("The provider sent a stream event that is not of its format.")
        if bytes(chunk.error) not in _NOTHING:
            raise stream_error(bytes(chunk.error))
        return list(self._read_chunk(chunk))

    def finish(self) -> list[StreamEvent]:
        if self._is_ended or not self._choices or not all(choice.is_finished for choice in self._choices.values()):
            return []
        self._is_ended = True
        return [Ended()]

    def _read_chunk(self, chunk: _Chunk) -> Iterator[StreamEvent]:
        if not self._is_started:
            self._is_started = True
            yield Started(reply_id=chunk.id or "", model=chunk.model or "")
        for choice in chunk.choices or ():
            if choice.index not in self._choices:
                self._choices[choice.index] = _ChoiceReader(choice.index, self._numbers)
            yield from self._choices[choice.index].read(choice)
        usage = answers.read_usage(bytes(chunk.usage)) if bytes(chunk.usage) not in _NOTHING else None
        if usage is not None:
            is_finished = any(choice.is_finished for choice in self._choices.values())
            yield Counted(usage=usage, is_final=is_finished or not chunk.choices)

    def _finish_silent(self) -> Iterator[StreamEvent]:
        """A server that says [DONE] without a reason to finish: what was said is what there is."""
        for number, choice in self._choices.items():
            if not choice.is_finished:
                yield from choice.read(_ChunkChoice(index=number, finish_reason="stop"))


class ChatWriter:
    """One stream for a client."""

    __slots__ = ("_asked", "_calls", "_choices", "_head", "_parts", "_places", "_usage")

    def __init__(self, asked: Asked) -> None:
        self._asked = asked
        self._head: dict[str, object] = {}
        self._choices: set[int] = set()  # that have had their role
        self._calls: dict[int, int] = {}  # choice -> how many calls
        self._places: dict[int, int] = {}  # part -> number of the call in its choice
        self._parts: dict[int, PartStarted] = {}
        self._usage: Usage | None = None

    def write(self, event: StreamEvent) -> bytes:
        written = b""
        match event:
            case Started():
                written = self._start(event)
            case PartStarted():
                written = self._begin_part(event)
            case PartGrew():
                written = self._grow(event.index, event.text)
            case PartScored():
                scores = answers.write_scores(event.scores)
                written = self._chunk({}, choice=self._parts[event.index].choice, logprobs=scores)
            case PartCited():
                cited = answers.write_citation(event.citation)
                choice = self._parts[event.index].choice
                written = self._chunk({"annotations": [cited]}, choice=choice) if cited else b""
            case Finished():
                written = self._finish(event)
            case Counted():
                self._usage = event.usage
            case Ended():
                written = self._end()
        return written

    def fail(self, error: GatewayError) -> bytes:
        return error_event(error, self._asked.request_id)

    def _start(self, event: Started) -> bytes:
        self._head = {
            "id": answers.reply_id(event.reply_id, self._asked.request_id),
            "object": "chat.completion.chunk",
            "created": self._asked.now_s,
            "model": self._asked.model,
        }
        return self._role(0)

    def _role(self, choice: int) -> bytes:
        if choice in self._choices:
            return b""
        self._choices.add(choice)
        return self._chunk({"role": "assistant", "content": ""}, choice=choice)

    def _begin_part(self, event: PartStarted) -> bytes:
        self._parts[event.index] = event
        role, part = self._role(event.choice), event.part
        if isinstance(part, ToolCall):
            return role + self._begin_call(event, part)
        if isinstance(part, Media):
            return role + self._chunk({"content": media_words(part)}, choice=event.choice)
        written = self._grow(event.index, part.text) if part.text else b""
        if isinstance(part, Text) and part.scores:
            written += self.write(PartScored(index=event.index, scores=part.scores))
        if isinstance(part, Text):
            written += b"".join(self.write(PartCited(index=event.index, citation=cited)) for cited in part.citations)
        return role + written

    def _begin_call(self, event: PartStarted, call: ToolCall) -> bytes:
        place = self._calls[event.choice] = self._calls.get(event.choice, -1) + 1
        self._places[event.index] = place
        said = {"name": call.name, "input" if call.is_custom else "arguments": call.arguments}
        kind = "custom" if call.is_custom else "function"
        opened = {"index": place, "id": call.call_id, "type": kind, kind: said}
        return self._chunk({"tool_calls": [opened]}, choice=event.choice)

    def _grow(self, index: int, text: str) -> bytes:
        started = self._parts[index]
        match started.part:
            case ToolCall(is_custom=is_custom):
                said = {"custom": {"input": text}} if is_custom else {"function": {"arguments": text}}
                delta: dict[str, object] = {"tool_calls": [{"index": self._places[index], **said}]}
            case Thinking():
                delta = {"reasoning_content": text}
            case Refusal():
                delta = {"refusal": text}
            case _:
                delta = {"content": text}
        return self._chunk(delta, choice=started.choice)

    def _finish(self, event: Finished) -> bytes:
        word = answers.FINISH_WORDS.get(event.finish)
        if word is None:
            raise UpstreamBroken("The model's output could not be used.")
        return self._role(event.choice) + self._chunk({}, choice=event.choice, finish=word)

    def _end(self) -> bytes:
        done = b"data: [DONE]\n\n"
        if self._usage is None or not self._asked.request.wants_usage:
            return done
        return _data({**self._head, "choices": [], "usage": answers.write_usage(self._usage)}) + done

    def _chunk(
        self, delta: dict[str, object], *, choice: int, finish: str | None = None, logprobs: object = None
    ) -> bytes:
        said = {"index": choice, "delta": delta, "logprobs": logprobs, "finish_reason": finish}
        usage = {"usage": None} if self._asked.request.wants_usage else {}
        return _data({**self._head, "choices": [said], **usage})


def _data(body: dict[str, object]) -> bytes:
    return b"data: " + msgspec.json.encode(body) + b"\n\n"
