"""One candidate of an answer, read piece by piece into events.

Pieces of one text are one part. The vendor signs any kind of part; a signature often comes alone in an empty text
behind what it signs. What is signed is not continued.
"""

from collections.abc import Iterator

import msgspec

from trollproxy.chat import (
    AnswerPart,
    Finished,
    PartCited,
    PartEnded,
    PartGrew,
    PartScored,
    PartSigned,
    PartStarted,
    State,
    StreamEvent,
    Text,
    Thinking,
    ToolCall,
)
from trollproxy.wire.body import is_said
from trollproxy.wire.gemini.answers import Candidate, FunctionCall, Part, read_finish
from trollproxy.wire.gemini.grounding import CitationMetadata, GroundingMetadata, read_citations
from trollproxy.wire.gemini.media import inline_media, linked_media
from trollproxy.wire.gemini.partial_args import PartialArgs
from trollproxy.wire.gemini.scores import read_scores
from trollproxy.wire.gemini.signatures import read_signature


class Numbers:
    """What candidates of one answer share: part indexes, ids of calls."""

    __slots__ = ("_calls", "_parts", "_request_id", "seen_calls")

    def __init__(self, request_id: str) -> None:
        self._request_id = request_id
        self._parts = 0
        self._calls = 0
        self.seen_calls: set[str] = set()

    def next_part(self) -> int:
        self._parts += 1
        return self._parts - 1

    def id_of_call(self, given: str | None) -> str:
        self._calls += 1
        return given or f"call_{self._request_id.removeprefix('req_')}_{self._calls - 1}"


class CandidateReader:
    __slots__ = (
        "_has_calls",
        "_index",
        "_is_signed",
        "_joins",
        "_kind",
        "_number",
        "_numbers",
        "_partial",
        "_quotes",
        "_said",
        "_sources",
        "is_finished",
    )

    def __init__(self, number: int, numbers: Numbers, *, joins: bool) -> None:
        self._number = number
        self._numbers = numbers
        self._joins = joins  # in a whole answer every part is one of its own
        self._kind: type[Text | Thinking] | None = None  # of the part that is open
        self._index = 0
        self._is_signed = False
        self._said: list[str] = []  # the open text: citations are placed in it
        self._sources: GroundingMetadata | None = None
        self._quotes: CitationMetadata | None = None
        self._partial: PartialArgs | None = None
        self._has_calls = False
        self.is_finished = False

    def read(self, candidate: Candidate) -> Iterator[StreamEvent]:
        if self.is_finished:
            return
        for part in (candidate.content.parts if candidate.content else None) or ():
            yield from self._read_part(part)
        self._sources = candidate.grounding_metadata or self._sources
        self._quotes = candidate.citation_metadata or self._quotes
        scores = read_scores(candidate.logprobs_result)
        if scores and self._kind is Text:
            yield PartScored(index=self._index, scores=scores)
        if candidate.finish_reason:
            yield from self.finish(candidate.finish_reason)

    def finish(self, reason: str) -> Iterator[StreamEvent]:
        self.is_finished = True
        yield from self._end_call()
        if self._kind is Text:
            for citation in read_citations(self._sources, self._quotes, "".join(self._said)):
                yield PartCited(index=self._index, citation=citation)
        yield from self._end()
        yield Finished(finish=read_finish(reason, has_calls=self._has_calls), choice=self._number)

    def _read_part(self, part: Part) -> Iterator[StreamEvent]:
        if part.function_call is not None:
            yield from self._end()
            yield from self._read_call(part.function_call, read_signature(part.thought_signature))
        elif part.inline_data is not None:
            medium = inline_media(part.inline_data.mime_type, part.inline_data.data)
            yield from self._whole(msgspec.structs.replace(medium, state=read_signature(part.thought_signature)))
        elif part.file_data is not None:
            yield from self._whole(linked_media(part.file_data.file_uri, part.file_data.mime_type))
        else:
            yield from self._read_words(part, read_signature(part.thought_signature))

    def _read_words(self, part: Part, state: State | None) -> Iterator[StreamEvent]:
        text, kind = part.text or "", Thinking if part.thought else Text
        if not text and state is None:
            return
        if part.thought and part.text is None:
            yield from self._whole(Thinking(state=state, is_redacted=True))
            return
        can_join = self._joins and self._kind is not None and not self._is_signed
        if not can_join or (text and self._kind is not kind):
            yield from self._end()
            yield self._start(kind(text=""))
            self._kind = kind
        if text:
            self._said.append(text)
            yield PartGrew(index=self._index, text=text)
        if state is not None:
            self._is_signed = True
            yield PartSigned(index=self._index, state=state)

    def _read_call(self, call: FunctionCall, state: State | None) -> Iterator[StreamEvent]:
        is_known = bool(call.id) and call.id in self._numbers.seen_calls
        if self._partial is None or (call.name and not is_known):
            yield from self._end_call()
            # Some models of the vendor send a call a second time, without its signature.
            if not call.name or is_known:
                return
            yield self._start_call(call, state)
            self._partial = PartialArgs() if call.partial_args or call.will_continue else None
        if self._partial is None:
            if is_said(call.args):
                yield PartGrew(index=self._index, text=bytes(call.args).decode())
            yield PartEnded(index=self._index)
            return
        for arg in call.partial_args or ():
            self._partial.add(arg)
        if not call.will_continue:
            yield from self._end_call()

    def _start_call(self, call: FunctionCall, state: State | None) -> PartStarted:
        self._has_calls = True
        call_id = self._numbers.id_of_call(call.id)
        self._numbers.seen_calls.add(call_id)
        return self._start(ToolCall(call_id=call_id, name=call.name or "", state=state))

    def _end_call(self) -> Iterator[StreamEvent]:
        if self._partial is not None:
            yield PartGrew(index=self._index, text=self._partial.text())
            yield PartEnded(index=self._index)
            self._partial = None

    def _whole(self, part: AnswerPart) -> Iterator[StreamEvent]:
        yield from self._end()
        yield self._start(part)
        yield PartEnded(index=self._index)

    def _start(self, part: AnswerPart) -> PartStarted:
        self._index = self._numbers.next_part()
        return PartStarted(index=self._index, part=part, choice=self._number)

    def _end(self) -> Iterator[StreamEvent]:
        if self._kind is not None:
            yield PartEnded(index=self._index)
        self._kind, self._is_signed = None, False
        self._said.clear()
