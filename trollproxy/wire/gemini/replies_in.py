"""The vendor's answers, whole and as streams, which are chunks of one shape: the same reader takes both."""

import msgspec

from trollproxy.chat import (
    Counted,
    Ended,
    Finished,
    PartEnded,
    PartStarted,
    Refusal,
    Reply,
    Started,
    StreamEvent,
    Usage,
    collect,
)
from trollproxy.errors import UpstreamBroken
from trollproxy.wire.body import decode_reply, is_said
from trollproxy.wire.errors_in import stream_error
from trollproxy.wire.format import Asked
from trollproxy.wire.gemini.answers import ANSWER, ANSWERS, Answer, Feedback
from trollproxy.wire.gemini.candidates_in import CandidateReader, Numbers
from trollproxy.wire.gemini.events import read_event
from trollproxy.wire.gemini.usage import TIERS, read_usage


class AnswerReader:
    """Reads one stream. The dialect has no last event: who has all finish reasons at the body's end has it all."""

    __slots__ = ("_candidates", "_is_blocked", "_is_started", "_joins", "_numbers", "_searches", "_usage")

    def __init__(self, asked: Asked, *, joins: bool = True) -> None:
        self._numbers = Numbers(asked.request_id)
        self._candidates: dict[int, CandidateReader] = {}
        self._joins = joins
        self._is_started = False
        self._is_blocked = False
        self._usage: Usage | None = None
        self._searches = 0

    def read(self, event: bytes) -> list[StreamEvent]:
        data = read_event(event)
        if not data:
            return []
        answer = _decode(data)
        if answer is None:
            raise UpstreamBroken("The provider sent a stream event that is not of its format.")
        if is_said(answer.error):
            raise stream_error(bytes(answer.error))
        return self.take(answer)

    def finish(self) -> list[StreamEvent]:
        return [Ended()] if self._is_over else []

    def take(self, answer: Answer) -> list[StreamEvent]:
        events: list[StreamEvent] = []
        if not self._is_started:
            self._is_started = True
            events.append(Started(reply_id=answer.response_id or "", model=answer.model_version or ""))
        for candidate in answer.candidates or ():
            events += self.candidate(candidate.index or 0).read(candidate)
            queries = candidate.grounding_metadata and candidate.grounding_metadata.web_search_queries
            self._searches = max(self._searches, len(queries or ()))
        feedback = answer.prompt_feedback
        if feedback is not None and feedback.block_reason and not self._candidates and not self._is_blocked:
            events += self._block(feedback)
        counted = answer.usage_metadata
        usage = read_usage(counted, tool_requests=self._searches) if counted is not None else None
        if usage is not None:
            self._usage = usage
            events.append(Counted(usage=usage, is_final=self._is_over))
        return events

    def candidate(self, number: int) -> CandidateReader:
        if number not in self._candidates:
            self._candidates[number] = CandidateReader(number, self._numbers, joins=self._joins)
        return self._candidates[number]

    @property
    def _is_over(self) -> bool:
        is_finished = all(candidate.is_finished for candidate in self._candidates.values())
        return is_finished and bool(self._candidates or self._is_blocked)

    def _block(self, feedback: Feedback) -> list[StreamEvent]:
        """A prompt that is refused has no candidates."""
        self._is_blocked = True
        finished = Finished(finish="refusal")
        if not feedback.block_reason_message:
            return [finished]
        index = self._numbers.next_part()
        part = Refusal(text=feedback.block_reason_message)
        return [PartStarted(index=index, part=part), PartEnded(index=index), finished]


def _decode(data: bytes) -> Answer | None:
    """An error may come as an array of one."""
    if not data.startswith(b"["):
        return decode_reply(ANSWER, data)
    answers = decode_reply(ANSWERS, data)
    return answers[0] if answers else None


def read_reply(body: bytes, asked: Asked) -> Reply:
    answer = decode_reply(ANSWER, body)
    if answer is None or (answer.candidates is None and answer.prompt_feedback is None):
        raise UpstreamBroken("The provider's answer is not of its format.")
    reader = AnswerReader(asked, joins=False)
    events = reader.take(answer)
    for candidate in answer.candidates or ():
        unfinished = reader.candidate(candidate.index or 0)
        if not unfinished.is_finished:
            events += unfinished.finish("STOP")
    reply = collect(events)
    if not reply.choices:
        raise UpstreamBroken("The provider's answer holds nothing.")
    traffic = answer.usage_metadata.traffic_type if answer.usage_metadata else None
    return msgspec.structs.replace(reply, tier=TIERS.get(traffic or ""))
