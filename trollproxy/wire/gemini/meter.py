"""Reading a stream of the vendor while it passes.

There is no last event: the answer is over when each of its candidates has a reason to be, and the body ends. What
carries the last reason is held back until then, so that the charge is made before a client can know the answer whole.
"""

from trollproxy.errors import GatewayError, UpstreamBroken
from trollproxy.wire.body import decode_reply, is_said
from trollproxy.wire.errors_in import stream_error
from trollproxy.wire.format import Meter
from trollproxy.wire.gemini.errors_out import error_object
from trollproxy.wire.gemini.events import framing, is_plain, last_words, read_event
from trollproxy.wire.gemini.shallow import ANSWER, ANSWERS, Answer, Part
from trollproxy.wire.gemini.usage import read_usage

_MEDIA_BYTES = 5_160  # an image is billed as 1,290 tokens, whatever the size of its base64


def read_answer(data: bytes) -> Answer | None:
    """An error in a stream may come as an array of one."""
    if not data.startswith(b"["):
        return decode_reply(ANSWER, data)
    answers = decode_reply(ANSWERS, data)
    return answers[0] if answers else None


def is_error(answer: Answer) -> bool:
    return is_said(answer.error)


def said_by(answer: Answer) -> tuple[int, bytes]:
    """How much of the answer itself there is, and what an equal one is known by."""
    size, said = 0, b""
    for candidate in answer.candidates or ():
        for part in (candidate.content.parts if candidate.content is not None else None) or ():
            more, words = _said_in(part)
            size += more
            said += words
    return size, said


def searches_of(answer: Answer) -> int:
    grounds = [candidate.grounding_metadata for candidate in answer.candidates or ()]
    return sum([len(ground.web_search_queries or ()) for ground in grounds if ground])


class GenerateMeter(Meter):
    """For both forms of a stream: the provider always sends events, an array is made of them here."""

    __slots__ = ("_finished", "_frames", "_held", "_is_blocked", "_is_plain", "_searches", "_seen")

    def __init__(self, *, is_array: bool) -> None:
        super().__init__()
        self._frames = framing(is_array=is_array)
        self._is_plain = not is_array
        self._held: list[bytes] = []
        self._seen: set[int] = set()
        self._finished: set[int] = set()
        self._is_blocked = False
        self._searches = 0

    def feed(self, data: bytes) -> bytes:
        passed: list[bytes] = []
        for event in self._events.feed(data):
            if self._read(event):
                passed += self._held
                self._held = [self._framed(event)]
            elif self.error is not None:
                break
            if not self.may_end:
                passed += self._held
                self._held = []
        return passed[0] if len(passed) == 1 else b"".join(passed)

    def finish(self) -> bytes:
        rest = super().finish()
        if self.error is not None or not self.may_end:
            return rest
        self.is_complete = True
        held, self._held = b"".join(self._held), []
        return rest + held + self._frames.end()

    def write_error(self, error: GatewayError, request_id: str) -> bytes:
        return last_words(self._frames, error_object(error, request_id))

    def _framed(self, event: bytes) -> bytes:
        if self._is_plain and is_plain(event):
            return event
        return self._frames.one(read_event(event))

    def _read(self, event: bytes) -> bool:
        data = read_event(event)
        if not data:
            return False
        answer = decode_reply(ANSWER, data) if data[:1] == b"{" else read_answer(data)
        if answer is None:
            self.error = UpstreamBroken("The provider sent a stream event that is not of its format.")
            return False
        if is_error(answer):
            self.error = stream_error(bytes(answer.error))
            return False
        self._take(answer)
        return True

    def _take(self, answer: Answer) -> None:
        size, said = said_by(answer)
        if size:
            self.hear(said)
            self.text_bytes += size - len(said)  # media count as what they are billed as
        for candidate in answer.candidates or ():
            number = candidate.index or 0
            self._seen.add(number)
            if candidate.finish_reason:
                self._finished.add(number)
            if candidate.grounding_metadata is not None:
                self._searches = max(self._searches, len(candidate.grounding_metadata.web_search_queries or ()))
        if answer.prompt_feedback is not None and answer.prompt_feedback.block_reason:
            self._is_blocked = True
        if self._finished or self._is_blocked:
            self.may_end = self._seen <= self._finished
        if answer.usage_metadata is not None:
            self.usage = read_usage(answer.usage_metadata, tool_requests=self._searches) or self.usage
        self.is_usage_final = self.usage is not None and self.may_end


def _said_in(part: Part) -> tuple[int, bytes]:
    call = part.function_call
    if part.text is not None:
        said = part.text.encode()
    elif call is not None:
        said = (call.name or "").encode() + bytes(call.args) + bytes(call.partial_args)
    else:
        said = bytes(part.executable_code) + bytes(part.code_execution_result)
        if is_said(part.inline_data):
            return len(said) + _MEDIA_BYTES, said + bytes(part.inline_data)
    return len(said), said
