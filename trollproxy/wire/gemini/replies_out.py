"""Answers written for the vendor's clients, whole and as streams.

Every chunk of a stream is a full response. Calls are written whole, and in the order of their start. The finish reason
and usage come last, with an empty text: the vendor's chat clients drop a turn that has a chunk without parts.
"""

from collections.abc import Iterable

import msgspec

from trollproxy.chat import (
    AnswerPart,
    Choice,
    Citation,
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
    Reply,
    Started,
    State,
    StreamEvent,
    Text,
    Thinking,
    TokenScore,
    ToolCall,
    Usage,
)
from trollproxy.errors import GatewayError
from trollproxy.wire.body import as_object
from trollproxy.wire.format import Asked
from trollproxy.wire.gemini.answers import write_finish
from trollproxy.wire.gemini.errors_out import error_object
from trollproxy.wire.gemini.events import framing, last_words
from trollproxy.wire.gemini.grounding import write_citations
from trollproxy.wire.gemini.media import media_part
from trollproxy.wire.gemini.scores import write_scores
from trollproxy.wire.gemini.signatures import write_signature
from trollproxy.wire.gemini.usage import write_usage

Json = dict[str, object]
_SILENCE: Json = {"text": ""}


def write_reply(reply: Reply, asked: Asked) -> bytes:
    answer: Json = {"candidates": [_write_choice(choice, number) for number, choice in enumerate(reply.choices)]}
    if reply.usage is not None:
        answer["usageMetadata"] = write_usage(reply.usage, reply.tier)
    return msgspec.json.encode(answer | _identity(reply.reply_id, asked))


def _identity(reply_id: str, asked: Asked) -> Json:
    return {"modelVersion": asked.model, "responseId": reply_id or asked.request_id}


def _write_choice(choice: Choice, number: int) -> Json:
    parts = [_write_part(part) for part in choice.parts] or [_SILENCE]
    written = _candidate(number, parts)
    written["finishReason"] = write_finish(choice.finish)
    texts = [part for part in choice.parts if isinstance(part, Text)]
    return written | _annotations(
        [citation for text in texts for citation in text.citations],
        text="".join(text.text for text in texts),
        scores=[score for text in texts for score in text.scores],
    )


def _candidate(number: int, parts: list[Json]) -> Json:
    return {"content": {"parts": parts, "role": "model"}, "index": number}


def _annotations(citations: list[Citation], *, text: str, scores: Iterable[TokenScore] = ()) -> Json:
    written: Json = {"groundingMetadata": write_citations(citations, text)} if citations else {}
    result = write_scores(scores)
    return written | {"logprobsResult": result} if result["chosenCandidates"] else written


def _write_part(part: AnswerPart) -> Json:
    match part:
        case Text():
            return _signed({"text": part.text}, part.state)
        case Refusal():
            return {"text": part.text}
        case Thinking():
            words: Json = {} if part.is_redacted else {"text": part.text}
            return _signed(words | {"thought": True}, part.state)
        case ToolCall():
            call = {"id": part.call_id, "name": part.name, "args": as_object(part.arguments)}
            return _signed({"functionCall": call}, part.state)
        case Media():
            return _signed(media_part(part), part.state)


def _signed(part: Json, state: State | None) -> Json:
    return part | {"thoughtSignature": write_signature(state)} if state is not None else part


class _Open:
    """A part that has begun, and what of it is not yet written."""

    __slots__ = ("is_ended", "part", "pieces", "scores", "state")

    def __init__(self, part: AnswerPart) -> None:
        self.part = part
        self.pieces: list[str] = []
        self.state: State | None = None if isinstance(part, Refusal) else part.state
        self.scores: list[TokenScore] = []
        self.is_ended = False

    @property
    def is_spoken(self) -> bool:
        """Whether pieces of it are worth sending. Calls and media go whole, redacted thoughts have no words."""
        if isinstance(self.part, Thinking):
            return not self.part.is_redacted
        return isinstance(self.part, Text | Refusal)


class _Candidate:
    """One choice: parts are written in order of their start, those that overlap wait for their turn."""

    __slots__ = ("_number", "citations", "finished", "queue", "said")

    def __init__(self, number: int) -> None:
        self._number = number
        self.queue: list[_Open] = []
        self.citations: list[Citation] = []
        self.said: list[str] = []
        self.finished: Finished | None = None

    def ready(self) -> list[Json]:
        """The candidates of the chunks that can be written."""
        written: list[Json] = []
        while self.queue:
            head = self.queue[0]
            written += self._spoken(head)
            if not head.is_ended:
                break
            written += self._ending(head)
            self.queue.pop(0)
        return written

    def last(self) -> Json:
        assert self.finished is not None
        written = _candidate(self._number, [_SILENCE])
        written["finishReason"] = write_finish(self.finished.finish)
        return written | _annotations(self.citations, text="".join(self.said))

    def _spoken(self, head: _Open) -> list[Json]:
        if not head.is_spoken or not (head.pieces or head.scores):
            return []
        text = "".join(head.pieces)
        head.pieces.clear()
        if not isinstance(head.part, Thinking):
            self.said.append(text)
        return [self._chunk(head, {"text": text})]

    def _ending(self, head: _Open) -> list[Json]:
        if head.is_spoken:
            return [self._chunk(head, _signed({"text": ""}, head.state))] if head.state is not None else []
        part = head.part
        if isinstance(part, ToolCall):
            arguments = as_object(part.arguments + "".join(head.pieces))
            compact = msgspec.Raw(msgspec.json.format(bytes(arguments), indent=-1))
            call: Json = {"functionCall": {"id": part.call_id, "name": part.name, "args": compact}}
            return [_candidate(self._number, [_signed(call, head.state)])]
        if not isinstance(part, Refusal):
            part = msgspec.structs.replace(part, state=head.state)
        return [_candidate(self._number, [_write_part(part)])]

    def _chunk(self, head: _Open, words: Json) -> Json:
        part = words | {"thought": True} if isinstance(head.part, Thinking) else words
        written = _candidate(self._number, [part]) | _annotations([], text="", scores=head.scores)
        head.scores.clear()
        return written


class AnswerWriter:
    """Writes one stream, as events or as one array."""

    __slots__ = ("_asked", "_candidates", "_frames", "_homes", "_reply_id", "_usage")

    def __init__(self, asked: Asked) -> None:
        self._asked = asked
        self._frames = framing(is_array=asked.entry.is_array)
        self._reply_id = ""
        self._candidates: dict[int, _Candidate] = {}
        self._homes: dict[int, tuple[_Candidate, _Open]] = {}  # by part index
        self._usage: Usage | None = None

    def write(self, event: StreamEvent) -> bytes:
        match event:
            case Started():
                self._reply_id = event.reply_id
            case PartStarted():
                return self._start(event)
            case PartGrew() | PartSigned() | PartCited() | PartScored() | PartEnded():
                return self._change(event)
            case Finished():
                self._candidate(event.choice).finished = event
            case Counted():
                self._usage = event.usage
            case Ended():
                return self._end()
        return b""

    def fail(self, error: GatewayError) -> bytes:
        return last_words(self._frames, error_object(error, self._asked.request_id))

    def _candidate(self, number: int) -> _Candidate:
        return self._candidates.setdefault(number, _Candidate(number))

    def _start(self, event: PartStarted) -> bytes:
        candidate, part = self._candidate(event.choice), _Open(event.part)
        if isinstance(event.part, Text | Refusal | Thinking) and event.part.text:
            part.pieces.append(event.part.text)
        if isinstance(event.part, Text):
            candidate.citations += event.part.citations
            part.scores += event.part.scores
        candidate.queue.append(part)
        self._homes[event.index] = candidate, part
        return self._chunks(candidate.ready())

    def _change(self, event: PartGrew | PartSigned | PartCited | PartScored | PartEnded) -> bytes:
        candidate, part = self._homes[event.index]
        match event:
            case PartGrew():
                part.pieces.append(event.text)
            case PartSigned():
                part.state = event.state
            case PartCited():
                candidate.citations.append(event.citation)
            case PartScored():
                part.scores += event.scores
            case PartEnded():
                part.is_ended = True
        return self._chunks(candidate.ready())

    def _end(self) -> bytes:
        last = [candidate.last() for candidate in self._candidates.values() if candidate.finished is not None]
        answer: Json = {"candidates": last} if last else {}
        if self._usage is not None:
            answer["usageMetadata"] = write_usage(self._usage)
        return self._one(answer) + self._frames.end()

    def _chunks(self, candidates: list[Json]) -> bytes:
        return b"".join([self._one({"candidates": [candidate]}) for candidate in candidates])

    def _one(self, answer: Json) -> bytes:
        return self._frames.one(msgspec.json.encode(answer | _identity(self._reply_id, self._asked)))
