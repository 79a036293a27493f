"""A stream of the dialect, read event by event.

Parts are told apart by the item they are in and their place in it. Whatever a `done` holds beyond its deltas is taken
from there: some providers send no deltas, or lose the first.
"""

from collections.abc import Callable, Sequence

import msgspec

from trollproxy.chat import (
    AnswerPart,
    Citation,
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
    StreamEvent,
    Text,
    Thinking,
    ToolCall,
)
from trollproxy.errors import UpstreamBroken
from trollproxy.wire.body import decode_reply
from trollproxy.wire.errors_in import stream_error
from trollproxy.wire.openai_responses.history import read_citations
from trollproxy.wire.openai_responses.replies import (
    OUTPUT,
    RESPONSE,
    Content,
    Likelihood,
    Output,
    call_of,
    image_of,
    read_content,
    read_finish,
    read_scores,
    thought_of,
)
from trollproxy.wire.openai_responses.sealed import Sealed, open_sealed
from trollproxy.wire.openai_responses.usage import read_usage
from trollproxy.wire.sse import event_data


class _Event(msgspec.Struct, gc=False):
    type: str = ""
    output_index: int = 0
    content_index: int = 0
    summary_index: int = 0
    delta: object = None
    text: str | None = None
    refusal: str | None = None
    arguments: object = None
    input: str | None = None
    part: Content | None = None
    annotation: msgspec.Raw = msgspec.Raw()
    logprobs: list[Likelihood] | None = None
    item: msgspec.Raw = msgspec.Raw()
    response: msgspec.Raw = msgspec.Raw()
    error: msgspec.Raw = msgspec.Raw()


_EVENT = msgspec.json.Decoder(_Event)
_NOTHING = (b"", b"null")
_ENDS = {"response.completed", "response.incomplete", "response.failed", "response.cancelled"}
_GROWS = {
    "response.output_text.delta",
    "response.refusal.delta",
    "response.function_call_arguments.delta",
    "response.custom_tool_call_input.delta",
    "response.reasoning_summary_text.delta",
    "response.reasoning_text.delta",
}
_GROWN = {
    "response.output_text.done",
    "response.refusal.done",
    "response.function_call_arguments.done",
    "response.custom_tool_call_input.done",
}
_SUMMARY = "response.reasoning_summary"
_WHOLE = -1  # the place in its item of a part that is the item

_Key = tuple[int, int]


class _Open:
    """A part that may grow."""

    __slots__ = ("by_summary", "citations", "grown", "has_scores", "index", "is_ended", "part", "summary")

    def __init__(self, index: int, part: AnswerPart) -> None:
        self.index = index
        self.part = part
        self.grown: list[str] = []
        self.citations: list[Citation] = []
        self.has_scores = False
        self.is_ended = False
        self.summary = 0  # the piece of the summary that is being told
        self.by_summary: bool | None = None  # whether a thought is told as a summary or in full: one of them is read


class ResponsesReader:
    def __init__(self) -> None:
        self._parts: dict[_Key, _Open] = {}
        self._said: list[AnswerPart] = []
        self._is_started = False
        self._is_over = False

    def read(self, event: bytes) -> list[StreamEvent]:
        data = event_data(event)
        if not data or data == b"[DONE]" or self._is_over:
            return []
        told = decode_reply(_EVENT, data)
        if told is None:
            raise UpstreamBroken("The provider sent a stream event that is not of its format.")
        if told.type == "error":
            raise stream_error(bytes(told.error) if bytes(told.error) not in _NOTHING else data)
        return self._started(told) + self._take(told)

    def finish(self) -> list[StreamEvent]:
        """The dialect's last event has the reason of the end in it; without that one a stream is cut off."""
        return []

    def _started(self, told: _Event) -> list[StreamEvent]:
        if self._is_started or not told.type.startswith("response."):
            return []
        self._is_started = True
        response = decode_reply(RESPONSE, bytes(told.response))
        return [Started(reply_id=response.id, model=response.model) if response is not None else Started()]

    def _take(self, told: _Event) -> list[StreamEvent]:
        kind = told.type
        if kind in _GROWS:
            return self._grow(told)
        if kind in _GROWN:
            return self._complete(told)
        if kind in _ENDS:
            return self._end(told)
        known = _OTHERS.get(kind)
        return known(self, told) if known is not None else []

    def _announce(self, told: _Event) -> list[StreamEvent]:
        return self._take_content(told, told.content_index, told.part) if told.part is not None else []

    def _finish_content(self, told: _Event) -> list[StreamEvent]:
        if told.part is None:
            return []
        return self._take_content(told, told.content_index, told.part, ends=True)

    def _annotate(self, told: _Event) -> list[StreamEvent]:
        part, events = self._text((told.output_index, told.content_index))
        return events + _cite(part, read_citations([told.annotation]))

    def _start(self, key: _Key, part: AnswerPart) -> tuple[_Open, list[StreamEvent]]:
        opened = self._parts.get(key)
        if opened is not None:
            return opened, []
        opened = self._parts[key] = _Open(len(self._said), part)
        self._said.append(part)
        return opened, [PartStarted(index=opened.index, part=part)]

    def _text(self, key: _Key) -> tuple[_Open, list[StreamEvent]]:
        return self._start(key, Text(text=""))

    def _grow(self, told: _Event) -> list[StreamEvent]:
        part, events = self._of(told)
        if part is None or not isinstance(told.delta, str):
            return events
        if isinstance(part.part, Thinking):
            return events + _think(part, told, told.delta)
        events += _grow(part, told.delta)
        return events + _score(part, told.logprobs) if told.logprobs and isinstance(part.part, Text) else events

    def _of(self, told: _Event) -> tuple[_Open | None, list[StreamEvent]]:
        """The part that an event is about. Calls and thoughts must have been announced, texts need not."""
        if told.type.startswith("response.output_text"):
            return self._text((told.output_index, told.content_index))
        if told.type.startswith("response.refusal"):
            return self._start((told.output_index, told.content_index), Refusal(text=""))
        if told.type.startswith("response.reasoning"):
            return self._start((told.output_index, _WHOLE), Thinking())
        return self._parts.get((told.output_index, _WHOLE)), []

    def _complete(self, told: _Event) -> list[StreamEvent]:
        part, events = self._of(told)
        if part is None:
            return events
        arguments = told.arguments if isinstance(told.arguments, str) else None
        whole = next((text for text in (told.text, told.refusal, arguments, told.input) if text is not None), "")
        return events + _reach(part, whole)

    def _add_item(self, told: _Event) -> list[StreamEvent]:
        raw = bytes(told.item)
        item = decode_reply(OUTPUT, raw)
        if item is None:
            return []
        if item.type == "reasoning":
            sealed = open_sealed(item.encrypted_content)
            if sealed is not None and sealed.what is not None:
                return self._sign(sealed)
            thought = Thinking(is_redacted=sealed.is_redacted if sealed is not None else False)
            return self._start((told.output_index, _WHOLE), thought)[1]
        call = call_of(item)
        if call is None:
            return []
        return self._start((told.output_index, _WHOLE), msgspec.structs.replace(call, arguments=""))[1]

    def _sign(self, sealed: Sealed) -> list[StreamEvent]:
        """A signature beside what it belongs to: the call or the text that was begun last."""
        kind = ToolCall if sealed.what == "call" else Text
        signed = [part for part in self._parts.values() if isinstance(part.part, kind) and not part.is_ended]
        return [PartSigned(index=signed[-1].index, state=sealed.state)] if signed else []

    def _finish_item(self, told: _Event) -> list[StreamEvent]:
        raw, place = bytes(told.item), told.output_index
        item = decode_reply(OUTPUT, raw)
        if item is None:
            return self._close(place)
        match item.type:
            case "message":
                contents = enumerate(item.content or ())
                said = [self._take_content(told, number, content, ends=True) for number, content in contents]
                return [event for events in said for event in events] + self._close(place)
            case "reasoning":
                return self._finish_thought(place, item, raw)
            case "image_generation_call" if item.result:
                return self._start((place, _WHOLE), image_of(item))[1] + self._close(place)
        return self._finish_call(place, item)

    def _finish_call(self, place: int, item: Output) -> list[StreamEvent]:
        call = call_of(item)
        if call is None:
            return self._close(place)
        part, events = self._start((place, _WHOLE), msgspec.structs.replace(call, arguments=""))
        return events + _reach(part, call.arguments) + self._close(place)

    def _finish_thought(self, place: int, item: Output, raw: bytes) -> list[StreamEvent]:
        thought = thought_of(item, raw)
        if isinstance(thought, Sealed):
            return []
        part, events = self._start((place, _WHOLE), Thinking(is_redacted=thought.is_redacted))
        if not part.grown:
            events += _grow(part, thought.text)
        if thought.state is not None and not part.is_ended:
            events.append(PartSigned(index=part.index, state=thought.state))
        return events + self._close(place)

    def _take_content(self, told: _Event, number: int, content: Content, *, ends: bool = False) -> list[StreamEvent]:
        """A part of a message: announced, or whole."""
        whole = read_content(content)
        if whole is None:
            return []
        bare = Refusal(text="") if isinstance(whole, Refusal) else Text(text="")
        part, events = self._start((told.output_index, number), bare)
        if not ends or part.is_ended:
            return events
        events += _reach(part, whole.text)
        if isinstance(whole, Text):
            events += _cite(part, _untold(part, whole.citations))
            events += _score(part, content.logprobs) if content.logprobs and not part.has_scores else []
        part.is_ended = True
        return [*events, PartEnded(index=part.index)]

    def _close(self, place: int) -> list[StreamEvent]:
        """End what is open in an item."""
        events: list[StreamEvent] = []
        for (item, _), part in self._parts.items():
            if item == place and not part.is_ended:
                part.is_ended = True
                events.append(PartEnded(index=part.index))
        return events

    def _end(self, told: _Event) -> list[StreamEvent]:
        response = decode_reply(RESPONSE, bytes(told.response))
        if response is None:
            raise UpstreamBroken("The provider sent a stream event that is not of its format.")
        self._is_over = True
        response.status = told.type.removeprefix("response.")
        events = self._unsaid(response.output) if not self._said else []
        finish = read_finish(response, tuple(self._said))
        events += [event for place in {item for item, _ in self._parts} for event in self._close(place)]
        events.append(Finished(finish=finish))
        usage = read_usage(response.usage, response.tool_usage)
        if usage is not None:
            events.append(Counted(usage=usage, is_final=True))
        return [*events, Ended()]

    def _unsaid(self, output: list[msgspec.Raw] | None) -> list[StreamEvent]:
        """What only the last event holds."""
        items = (_Event(output_index=number, item=raw) for number, raw in enumerate(output or ()))
        return [event for item in items for event in self._finish_item(item)]


def _grow(part: _Open, text: str) -> list[StreamEvent]:
    if not text or part.is_ended:
        return []
    part.grown.append(text)
    return [PartGrew(index=part.index, text=text)]


def _reach(part: _Open, whole: str) -> list[StreamEvent]:
    """Grow by what is missing of the whole."""
    grown = "".join(part.grown)
    return _grow(part, whole[len(grown) :]) if whole.startswith(grown) else []


def _think(part: _Open, told: _Event, text: str) -> list[StreamEvent]:
    is_summary = told.type.startswith(_SUMMARY)
    if part.by_summary is None:
        part.by_summary = is_summary
    if part.by_summary is not is_summary:
        return []
    piece = told.summary_index if is_summary else told.content_index
    border = "\n\n" if piece != part.summary and part.grown else ""
    part.summary = piece
    return _grow(part, border + text)


def _cite(part: _Open, citations: Sequence[Citation]) -> list[StreamEvent]:
    if not isinstance(part.part, Text) or part.is_ended:
        return []
    part.citations += citations
    return [PartCited(index=part.index, citation=citation) for citation in citations]


def _untold(part: _Open, citations: Sequence[Citation]) -> list[Citation]:
    """Those of a whole part that did not come one by one before. One may be there twice."""
    told, new = part.citations[:], []
    for citation in citations:
        if citation in told:
            told.remove(citation)
        else:
            new.append(citation)
    return new


def _score(part: _Open, told: list[Likelihood]) -> list[StreamEvent]:
    if part.is_ended:
        return []
    part.has_scores = True
    return [PartScored(index=part.index, scores=read_scores(told))]


_OTHERS: dict[str, Callable[[ResponsesReader, _Event], list[StreamEvent]]] = {
    "response.output_item.added": ResponsesReader._add_item,  # noqa: SLF001 - the class's own table
    "response.output_item.done": ResponsesReader._finish_item,  # noqa: SLF001
    "response.content_part.added": ResponsesReader._announce,  # noqa: SLF001
    "response.content_part.done": ResponsesReader._finish_content,  # noqa: SLF001
    "response.output_text.annotation.added": ResponsesReader._annotate,  # noqa: SLF001
}
