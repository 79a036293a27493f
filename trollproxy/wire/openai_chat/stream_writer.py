"""Writing streams of the dialect.

Calls of a choice are numbered from 0, and say an id and a name once only, since clients join what comes twice. One call
is written after the other: the vendor's SDK takes a call for complete as soon as another one speaks.
"""

from collections import deque

import msgspec

from trollproxy.chat import (
    Counted,
    Ended,
    Finished,
    Media,
    PartCited,
    PartEnded,
    PartGrew,
    PartScored,
    PartStarted,
    Refusal,
    Started,
    StreamEvent,
    Text,
    Thinking,
    ToolCall,
    Usage,
)
from trollproxy.errors import GatewayError, UpstreamBroken
from trollproxy.wire.format import Asked
from trollproxy.wire.openai_chat import answers
from trollproxy.wire.openai_chat.errors_out import error_event
from trollproxy.wire.openai_chat.replies import media_words
from trollproxy.wire.openai_chat.usage import write_usage


class _SaidCall:
    """A call on its way to a client; what it says before its turn waits."""

    __slots__ = ("_call", "_kind", "_member", "_place", "has_spoken", "is_ended", "waiting")

    def __init__(self, *, place: int, call: ToolCall) -> None:
        self._place = place
        self._call = call
        self._kind, self._member = ("custom", "input") if call.is_custom else ("function", "arguments")
        self.has_spoken = call.is_custom or bool(call.arguments)
        self.is_ended = False
        self.waiting: deque[dict[str, object]] = deque()

    def begin(self) -> dict[str, object]:
        said = {"name": self._call.name, self._member: self._call.arguments}
        return {"index": self._place, "id": self._call.call_id, "type": self._kind, self._kind: said}

    def grow(self, text: str) -> dict[str, object]:
        self.has_spoken = True
        return {"index": self._place, self._kind: {self._member: text}}

    def say_nothing(self) -> dict[str, object]:
        """A function without arguments; clients read what stands there as JSON."""
        return self.grow("{}")


class _SaidChoice:
    """One choice on its way to a client."""

    __slots__ = ("calls", "cited", "open")

    def __init__(self) -> None:
        self.calls = 0
        self.cited: list[dict[str, object]] = []
        self.open: dict[int, _SaidCall] = {}  # by the part's index, the one whose turn it is first


class ChatWriter:
    """One stream for a client."""

    __slots__ = ("_asked", "_choices", "_has_failed", "_head", "_parts", "_usage")

    def __init__(self, asked: Asked) -> None:
        self._asked = asked
        self._head: dict[str, object] = {}
        self._choices: list[_SaidChoice] = []  # that have had their role
        self._parts: dict[int, PartStarted] = {}
        self._usage: Usage | None = None
        self._has_failed = False

    def write(self, event: StreamEvent) -> bytes:
        return b"" if self._has_failed else self._write(event)

    def _write(self, event: StreamEvent) -> bytes:
        written = b""
        match event:
            case PartGrew():
                written = self._grow(event.index, event.text)
            case Started():
                written = self._start(event)
            case PartStarted():
                written = self._begin_part(event)
            case PartScored():
                scores = answers.write_scores(event.scores)
                written = self._chunk({}, choice=self._parts[event.index].choice, logprobs=scores)
            case PartCited():
                self._cite(event)
            case PartEnded():
                written = self._end_part(event.index)
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
        """The choice's first word. Clients keep choices in a list, so those before it have theirs too."""
        written = b""
        while len(self._choices) <= choice:
            written += self._chunk({"role": "assistant", "content": ""}, choice=len(self._choices))
            self._choices.append(_SaidChoice())
        return written

    def _begin_part(self, event: PartStarted) -> bytes:
        self._parts[event.index] = event
        role, part = self._role(event.choice), event.part
        if isinstance(part, ToolCall):
            return role + self._begin_call(event, part)
        if isinstance(part, Media):
            return role + self._chunk({"content": media_words(part)}, choice=event.choice)
        written = self._grow(event.index, part.text) if part.text else b""
        if isinstance(part, Text) and part.scores:
            written += self._write(PartScored(index=event.index, scores=part.scores))
        for cited in part.citations if isinstance(part, Text) else ():
            self._cite(PartCited(index=event.index, citation=cited))
        return role + written

    def _cite(self, event: PartCited) -> None:
        """Kept for the end: clients take a second list of them for a mistake, or for all."""
        cited = answers.write_citation(event.citation)
        if cited is not None:
            self._choices[self._parts[event.index].choice].cited.append(cited)

    def _begin_call(self, event: PartStarted, call: ToolCall) -> bytes:
        said = self._choices[event.choice]
        opened = _SaidCall(place=said.calls, call=call)
        said.calls += 1
        said.open[event.index] = opened
        return self._pass_call(event.choice, opened, opened.begin())

    def _pass_call(self, choice: int, opened: "_SaidCall", delta: dict[str, object]) -> bytes:
        """A piece of a call, now if it is the call's turn."""
        if next(iter(self._choices[choice].open.values())) is not opened:
            opened.waiting.append(delta)
            return b""
        return self._chunk({"tool_calls": [delta]}, choice=choice)

    def _end_part(self, index: int) -> bytes:
        choice = self._parts[index].choice
        opened = self._choices[choice].open.get(index)
        if opened is None:
            return b""
        written = b"" if opened.has_spoken else self._pass_call(choice, opened, opened.say_nothing())
        opened.is_ended = True
        return written + self._go_on(choice)

    def _go_on(self, choice: int) -> bytes:
        """Leave the calls that have ended; the next one's turn has come."""
        still, written = self._choices[choice].open, b""
        while still and next(iter(still.values())).is_ended:
            del still[next(iter(still))]
            waiting = next(iter(still.values())).waiting if still else deque()
            while waiting:
                written += self._chunk({"tool_calls": [waiting.popleft()]}, choice=choice)
        return written

    def _grow(self, index: int, text: str) -> bytes:
        started = self._parts[index]
        match started.part:
            case Text():
                delta: dict[str, object] = {"content": text}
            case ToolCall():
                opened = self._choices[started.choice].open[index]
                return self._pass_call(started.choice, opened, opened.grow(text))
            case Thinking():
                delta = {"reasoning_content": text}
            case Refusal():
                delta = {"refusal": text}
        return self._chunk(delta, choice=started.choice)

    def _finish(self, event: Finished) -> bytes:
        word = answers.FINISH_WORDS.get(event.finish)
        if word is None:
            self._has_failed = True
            return self.fail(UpstreamBroken("The model's answer could not be used."))
        written = self._role(event.choice)
        cited = self._choices[event.choice].cited
        if cited:
            written += self._chunk({"annotations": cited}, choice=event.choice)
        return written + self._chunk({}, choice=event.choice, finish=word)

    def _end(self) -> bytes:
        done = b"data: [DONE]\n\n"
        if self._usage is None or not self._asked.request.wants_usage:
            return done
        return _data({**self._head, "choices": [], "usage": write_usage(self._usage)}) + done

    def _chunk(
        self, delta: dict[str, object], *, choice: int, finish: str | None = None, logprobs: object = None
    ) -> bytes:
        said = {"index": choice, "delta": delta, "logprobs": logprobs, "finish_reason": finish}
        usage = {"usage": None} if self._asked.request.wants_usage else {}
        return _data({**self._head, "choices": [said], **usage})


def _data(body: dict[str, object]) -> bytes:
    return b"data: " + msgspec.json.encode(body) + b"\n\n"
