"""Reading a stream of the vendor while it passes.

There is no last event: the answer is over when each of its candidates has a reason to be, and the body ends. What
carries the last reason is held back until then, so that the charge is made before a client can know the answer whole.
"""

import msgspec

from trollproxy.errors import GatewayError, UpstreamBroken
from trollproxy.wire.body import decode_reply
from trollproxy.wire.errors_in import stream_error
from trollproxy.wire.format import Meter
from trollproxy.wire.gemini.errors_out import error_object
from trollproxy.wire.gemini.events import Array, framing, is_plain, last_words, read_event
from trollproxy.wire.gemini.usage import UsageMetadata, read_usage

_MEDIA_BYTES = 5_160  # an image is billed as 1,290 tokens, whatever the size of its base64
_NOTHING = (b"", b"null")


class _Call(msgspec.Struct, rename="camel"):
    name: str | None = None
    args: msgspec.Raw = msgspec.Raw()
    partial_args: msgspec.Raw = msgspec.Raw()


class _Part(msgspec.Struct, rename="camel"):
    text: str | None = None
    function_call: _Call | None = None
    inline_data: msgspec.Raw = msgspec.Raw()
    executable_code: msgspec.Raw = msgspec.Raw()
    code_execution_result: msgspec.Raw = msgspec.Raw()


class _Content(msgspec.Struct):
    parts: list[_Part] | None = None


class _Grounding(msgspec.Struct, rename="camel"):
    web_search_queries: list[str] | None = None


class _Candidate(msgspec.Struct, rename="camel"):
    content: _Content | None = None
    finish_reason: str | None = None
    index: int | None = None
    grounding_metadata: _Grounding | None = None


class _Feedback(msgspec.Struct, rename="camel"):
    block_reason: str | None = None


class Answer(msgspec.Struct, rename="camel"):
    """A whole answer, or one chunk of a stream: they have one shape."""

    candidates: list[_Candidate] | None = None
    usage_metadata: UsageMetadata | None = None
    prompt_feedback: _Feedback | None = None
    error: msgspec.Raw = msgspec.Raw()


ANSWER = msgspec.json.Decoder(Answer)
_ANSWERS = msgspec.json.Decoder(list[Answer])


def read_answer(data: bytes) -> Answer | None:
    """An error in a stream may come as an array of one."""
    if not data.startswith(b"["):
        return decode_reply(ANSWER, data)
    answers = decode_reply(_ANSWERS, data)
    return answers[0] if answers else None


def is_error(answer: Answer) -> bool:
    return bytes(answer.error) not in _NOTHING


def said_by(answer: Answer) -> int:
    """Bytes of the answer itself."""
    contents = (candidate.content for candidate in answer.candidates or ())
    return sum(_size_of(part) for content in contents if content for part in content.parts or ())


def searches_of(answer: Answer) -> int:
    grounds = (candidate.grounding_metadata for candidate in answer.candidates or ())
    return sum(len(ground.web_search_queries or ()) for ground in grounds if ground)


class GenerateMeter(Meter):
    """For both forms of a stream: the provider always sends events, an array is made of them here."""

    __slots__ = ("_finished", "_frames", "_held", "_is_blocked", "_searches", "_seen")

    def __init__(self, *, is_array: bool) -> None:
        super().__init__()
        self._frames = framing(is_array=is_array)
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
            if not self.may_end:
                passed += self._held
                self._held = []
            if self.error is not None:
                break
        return b"".join(passed)

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
        if not isinstance(self._frames, Array) and is_plain(event):
            return event
        return self._frames.one(read_event(event))

    def _read(self, event: bytes) -> bool:
        data = read_event(event)
        if not data:
            return False
        answer = read_answer(data)
        if answer is None:
            self.error = UpstreamBroken("The provider sent a stream event that is not of its format.")
            return False
        if is_error(answer):
            self.error = stream_error(bytes(answer.error))
            return False
        self._take(answer)
        return True

    def _take(self, answer: Answer) -> None:
        for candidate in answer.candidates or ():
            number = candidate.index or 0
            self._seen.add(number)
            if candidate.finish_reason:
                self._finished.add(number)
            if candidate.content is not None:
                self._add(candidate.content)
            if candidate.grounding_metadata is not None:
                self._searches = max(self._searches, len(candidate.grounding_metadata.web_search_queries or ()))
        if answer.prompt_feedback is not None and answer.prompt_feedback.block_reason:
            self._is_blocked = True
        self.may_end = self._seen <= self._finished and bool(self._seen or self._is_blocked)
        if answer.usage_metadata is not None:
            self.usage = read_usage(answer.usage_metadata, tool_requests=self._searches) or self.usage
        self.is_usage_final = self.usage is not None and self.may_end

    def _add(self, content: _Content) -> None:
        size = sum([_size_of(part) for part in content.parts or ()])
        self.hear("".join([part.text for part in content.parts or () if part.text]).encode())
        if size:
            self.text_bytes += size
            self.has_output = True


def _size_of(part: _Part) -> int:
    if part.text is not None:
        return len(part.text.encode())
    call = part.function_call
    if call is not None:
        return len((call.name or "").encode()) + len(bytes(call.args)) + len(bytes(call.partial_args))
    media = _MEDIA_BYTES if bytes(part.inline_data) not in _NOTHING else 0
    return media + len(bytes(part.executable_code)) + len(bytes(part.code_execution_result))
