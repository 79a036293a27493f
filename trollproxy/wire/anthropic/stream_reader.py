"""The vendor's streams, read event by event.

The vendor's block indexes are its own: blocks of no meaning elsewhere take one too, and providers that copy the dialect
splice a second beginning into a stream or think inside of a text. Parts are numbered in the order in which they start.
"""

import msgspec

from trollproxy.chat import (
    AnswerPart,
    Counted,
    Ended,
    Finished,
    PartCited,
    PartEnded,
    PartGrew,
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
from trollproxy.wire.anthropic.citations import read_citations
from trollproxy.wire.anthropic.replies import StopDetails, call_id_of, finish_of
from trollproxy.wire.anthropic.shallow import UsageObject
from trollproxy.wire.anthropic.usage import overwrite, to_usage
from trollproxy.wire.body import decode_reply
from trollproxy.wire.errors_in import stream_error
from trollproxy.wire.format import Asked
from trollproxy.wire.sse import event_data

_EMPTY = (b"", b"{}", b"null")
_DONE = b"[DONE]"  # not of this dialect, but providers that copy it send it


class _Block(msgspec.Struct, gc=False):
    type: str
    id: str | None = None
    name: str | None = None
    text: str | None = None
    thinking: str | None = None
    signature: str | None = None
    data: str | None = None
    input: msgspec.Raw = msgspec.Raw()


class _Delta(msgspec.Struct, gc=False):
    type: str = ""
    text: str | None = None
    thinking: str | None = None
    partial_json: str | None = None
    signature: str | None = None
    citation: msgspec.Raw = msgspec.Raw()
    stop_reason: str | None = None
    stop_sequence: str | None = None
    stop_details: StopDetails | None = None


class _Message(msgspec.Struct, gc=False):
    id: str | None = None
    model: str | None = None
    usage: UsageObject | None = None


class _Event(msgspec.Struct, gc=False):
    type: str
    index: int = 0
    message: _Message | None = None
    content_block: _Block | None = None
    delta: _Delta | None = None
    usage: UsageObject | None = None
    error: msgspec.Raw = msgspec.Raw()


_EVENT = msgspec.json.Decoder(_Event)


class _Open:
    """A part that has started and not ended."""

    __slots__ = ("citations", "index", "kind", "length", "whole")

    def __init__(self, index: int, kind: str, whole: str) -> None:
        self.index = index
        self.kind = kind
        self.whole = whole  # arguments that came with the beginning, for a call that no piece follows
        self.length = 0
        self.citations: list[msgspec.Raw] = []


class MessagesReader:
    """Reads one stream."""

    __slots__ = (
        "_asked",
        "_count",
        "_counted",
        "_has_calls",
        "_is_ended",
        "_is_finished",
        "_is_started",
        "_open",
        "_text",
    )

    def __init__(self, asked: Asked) -> None:
        self._asked = asked
        self._open: dict[int, _Open] = {}  # by the vendor's index
        self._count = 0
        self._counted = UsageObject()
        self._text = 0  # characters of the answer's text in blocks that have ended
        self._has_calls = False
        self._is_started = False
        self._is_finished = False
        self._is_ended = False

    def read(self, event: bytes) -> list[StreamEvent]:
        data = event_data(event)
        if not data or data == _DONE:
            return []
        decoded = decode_reply(_EVENT, data)
        if decoded is None:
            raise UpstreamBroken("The provider sent a stream event that is not of its format.")
        if decoded.type == "error":
            raise stream_error(bytes(decoded.error))
        return self._take(decoded)

    def _take(self, event: _Event) -> list[StreamEvent]:
        events: list[StreamEvent] = []
        match event.type:
            case "content_block_delta":
                events = self._grow(event.index, event.delta or _Delta())
            case "content_block_start":
                events = self._start(event.index, event.content_block)
            case "content_block_stop":
                events = self._end(event.index)
            case "message_start":
                events = self._begin(event.message)
            case "message_delta":
                events = self._conclude(event)
            case "message_stop":
                events = self._stop()
        return events

    def finish(self) -> list[StreamEvent]:
        return self._stop() if self._is_finished else []

    def _begin(self, message: _Message | None) -> list[StreamEvent]:
        given = message or _Message()
        events: list[StreamEvent] = []
        if not self._is_started:
            self._is_started = True
            events.append(Started(reply_id=given.id or "", model=given.model or ""))
        if given.usage is not None:
            events.append(self._counted_with(given.usage, is_final=False))
        return events

    def _start(self, index: int, block: _Block | None) -> list[StreamEvent]:
        events = self._end(index)
        part = self._part_of(block) if block is not None else None
        if block is None or part is None:
            return events
        whole = bytes(block.input)
        opened = self._enter(index, block.type, part, whole="" if whole in _EMPTY else whole.decode())
        events.append(opened)
        if block.type == "thinking" and block.signature:
            events.append(PartSigned(index=opened.index, state=State("anthropic", block.signature)))
        if isinstance(part, Text):
            self._open[index].length = len(part.text)
        return events

    def _part_of(self, block: _Block) -> AnswerPart | None:
        match block.type:
            case "text":
                return Text(text=block.text or "")
            case "thinking":
                return Thinking(text=block.thinking or "")
            case "redacted_thinking":
                return Thinking(state=State("anthropic", block.data or ""), is_redacted=True)
            case "tool_use":
                self._has_calls = True
                return ToolCall(call_id=call_id_of(block.id or "", self._asked, self._count), name=block.name or "")
        return None

    def _enter(self, index: int, kind: str, part: AnswerPart, *, whole: str = "") -> PartStarted:
        started = PartStarted(index=self._count, part=part)
        self._open[index] = _Open(self._count, kind, whole)
        self._count += 1
        return started

    def _grow(self, index: int, delta: _Delta) -> list[StreamEvent]:
        if delta.text:
            events, part = self._opened(index, "text", Text(text=""))
            part.length += len(delta.text)
            return [*events, PartGrew(index=part.index, text=delta.text)]
        if delta.thinking:
            events, part = self._opened(index, "thinking", Thinking())
            return [*events, PartGrew(index=part.index, text=delta.thinking)]
        known = self._open.get(index)
        if known is None:
            return []
        if delta.partial_json and known.kind == "tool_use":
            known.whole = ""
            return [PartGrew(index=known.index, text=delta.partial_json)]
        if delta.signature and known.kind == "thinking":
            return [PartSigned(index=known.index, state=State("anthropic", delta.signature))]
        if delta.type == "citations_delta":
            known.citations.append(delta.citation)
        return []

    def _opened(self, index: int, kind: str, part: Text | Thinking) -> tuple[list[StreamEvent], _Open]:
        """The part at this index, begun where its beginning was left out or was of another kind."""
        known = self._open.get(index)
        if known is not None and known.kind == kind:
            return [], known
        events = [*self._end(index), self._enter(index, kind, part)]
        return events, self._open[index]

    def _end(self, index: int) -> list[StreamEvent]:
        part = self._open.pop(index, None)
        if part is None:
            return []
        events: list[StreamEvent] = [PartGrew(index=part.index, text=part.whole)] if part.whole else []
        end = self._text + part.length
        # Citations are of all that the block says, and how much that is shows only now.
        cited = read_citations(part.citations, start=self._text, end=end) if part.kind == "text" else []
        events += [PartCited(index=part.index, citation=citation) for citation in cited]
        self._text = end
        return [*events, PartEnded(index=part.index)]

    def _conclude(self, event: _Event) -> list[StreamEvent]:
        events: list[StreamEvent] = []
        delta = event.delta or _Delta()
        if delta.stop_reason is not None and not self._is_finished:
            events += self._finish(delta)
        if event.usage is not None:
            events.append(self._counted_with(event.usage, is_final=True))
        return events

    def _finish(self, delta: _Delta) -> list[StreamEvent]:
        self._is_finished = True
        events = [event for index in list(self._open) for event in self._end(index)]
        if delta.stop_details is not None and delta.stop_details.explanation:
            started = PartStarted(index=self._count, part=Refusal(text=delta.stop_details.explanation))
            self._count += 1
            events += [started, PartEnded(index=started.index)]
        finish = finish_of(delta.stop_reason, has_calls=self._has_calls)
        return [*events, Finished(finish=finish, stop_sequence=delta.stop_sequence)]

    def _stop(self) -> list[StreamEvent]:
        if self._is_ended:
            return []
        self._is_ended = True
        events = [] if self._is_finished else self._finish(_Delta())
        return [*events, Ended()]

    def _counted_with(self, usage: UsageObject, *, is_final: bool) -> Counted:
        self._counted = overwrite(self._counted, usage)
        return Counted(usage=to_usage(self._counted), is_final=is_final)
