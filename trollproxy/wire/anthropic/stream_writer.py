"""Any answer's stream, written for the dialect's clients.

Their SDKs stop at the smallest difference: every event has its name in an `event:` line, blocks are numbered from 0
without a gap and never overlap, there is one signature to a block, and `message_delta` comes once and with usage.
"""

from collections import deque

import msgspec

from trollproxy.chat import (
    AnswerPart,
    Counted,
    Ended,
    Finish,
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
    Usage,
)
from trollproxy.errors import GatewayError, UpstreamBroken
from trollproxy.wire.anthropic.citations import write_citation
from trollproxy.wire.anthropic.errors_out import error_event
from trollproxy.wire.anthropic.replies import message_object, reason_of, shown_as_text, stop_details
from trollproxy.wire.anthropic.usage import usage_object
from trollproxy.wire.envelope import seal
from trollproxy.wire.format import Asked

_BYTES_PER_TOKEN = 4  # for a figure where the provider gave none
_ENCODE = msgspec.json.Encoder().encode


def _event(kind: str, **members: object) -> bytes:
    return b"event: " + kind.encode() + b"\ndata: " + _ENCODE({"type": kind, **members}) + b"\n\n"


class _Block:
    """One part on its way to the client. It is opened when it has something to say: empty blocks cannot be replayed."""

    __slots__ = ("_number", "_part", "_state", "is_ended", "is_open", "size", "waiting")

    def __init__(self, part: AnswerPart) -> None:
        self._part = part
        self._state: State | None = getattr(part, "state", None)
        self._number = -1
        self.is_open = False
        self.is_ended = False
        self.size = 0
        self.waiting: list[StreamEvent] = []

    def begin(self, number: int) -> bytes:
        self._number = number
        part = self._part
        if isinstance(part, ToolCall):
            call: dict[str, object] = {"type": "tool_use", "id": part.call_id, "name": part.name, "input": {}}
            return self._open(call) + self._grow(part.arguments)
        shown = shown_as_text(part)
        return self._grow(shown if shown is not None else getattr(part, "text", ""))

    def take(self, event: StreamEvent) -> bytes:
        match event:
            case PartGrew(text=text):
                return self._grow(text)
            case PartSigned(state=state):
                self._state = state
            case PartCited(citation=citation) if isinstance(self._part, Text):
                return self._opened() + self._delta("citations_delta", citation=write_citation(citation))
            case PartEnded():
                return self._end()
        return b""

    def _grow(self, text: str) -> bytes:
        if not text or (isinstance(self._part, Thinking) and self._part.is_redacted):
            return b""
        self.size += len(text.encode())
        if isinstance(self._part, ToolCall):
            return self._delta("input_json_delta", partial_json=text)
        if isinstance(self._part, Thinking):
            return self._opened() + self._delta("thinking_delta", thinking=text)
        return self._opened() + self._delta("text_delta", text=text)

    def _end(self) -> bytes:
        self.is_ended = True
        written = b""
        if isinstance(self._part, Thinking) and self._state is not None:
            written = self._signed(seal(self._state, "anthropic"))
        else:
            cited = self._part.citations if isinstance(self._part, Text) and self.is_open else ()
            written = b"".join(self._delta("citations_delta", citation=write_citation(known)) for known in cited)
        return written + (_event("content_block_stop", index=self._number) if self.is_open else b"")

    def _signed(self, sealed: str) -> bytes:
        assert isinstance(self._part, Thinking)
        if self._part.is_redacted:
            return self._open({"type": "redacted_thinking", "data": sealed})
        return self._opened() + self._delta("signature_delta", signature=sealed)

    def _opened(self) -> bytes:
        if self.is_open:
            return b""
        if isinstance(self._part, Thinking):
            return self._open({"type": "thinking", "thinking": "", "signature": ""})
        return self._open({"type": "text", "text": ""})

    def _open(self, block: dict[str, object]) -> bytes:
        self.is_open = True
        return _event("content_block_start", index=self._number, content_block=block)

    def _delta(self, kind: str, **members: object) -> bytes:
        return _event("content_block_delta", index=self._number, delta={"type": kind, **members})


class MessagesWriter:
    """Writes one stream."""

    __slots__ = (
        "_asked",
        "_blocks",
        "_finished",
        "_has_calls",
        "_has_refusal",
        "_is_begun",
        "_number",
        "_order",
        "_said",
        "_started",
        "_usage",
    )

    def __init__(self, asked: Asked) -> None:
        self._asked = asked
        self._started = Started()
        self._is_begun = False
        self._usage: Usage | None = None
        self._finished: Finished | None = None
        self._blocks: dict[int, _Block] = {}  # by the part's index
        self._order: deque[int] = deque()  # parts that are not written to their end; the first one is being written
        self._number = 0
        self._said = 0
        self._has_calls = False
        self._has_refusal = False

    def write(self, event: StreamEvent) -> bytes:
        if isinstance(event, Started):
            # A figure that comes right after is better than our estimate, so the beginning waits for what follows.
            self._started = event
            return b""
        if isinstance(event, PartGrew | PartSigned | PartCited | PartEnded):
            return self._pass(event)
        if isinstance(event, Counted):
            self._usage = event.usage
        elif isinstance(event, Finished) and event.choice == 0:
            self._finished = event
        return self._begun() + self._told(event)

    def _told(self, event: StreamEvent) -> bytes:
        if isinstance(event, PartStarted):
            return self._start(event)
        return self._conclude() if isinstance(event, Ended) else b""

    def fail(self, error: GatewayError) -> bytes:
        return error_event(error, self._asked.request_id)

    def _begun(self) -> bytes:
        if self._is_begun:
            return b""
        self._is_begun = True
        usage = self._usage if self._usage is not None else Usage(uncached=self._asked.estimate)
        message = message_object(self._started.reply_id, self._asked) | {"usage": usage_object(usage)}
        return _event("message_start", message=message)

    def _start(self, event: PartStarted) -> bytes:
        if event.choice != 0:
            return b""  # the dialect's clients cannot have asked for a second answer
        self._has_calls = self._has_calls or isinstance(event.part, ToolCall)
        self._has_refusal = self._has_refusal or isinstance(event.part, Refusal)
        block = _Block(event.part)
        self._blocks[event.index] = block
        self._order.append(event.index)
        return block.begin(self._number) if self._order[0] == event.index else b""

    def _pass(self, event: PartGrew | PartSigned | PartCited | PartEnded) -> bytes:
        block = self._blocks.get(event.index)
        if block is None:
            return b""
        if self._order[0] != event.index:
            block.waiting.append(event)
            return b""
        written = block.take(event)
        return written + self._next() if block.is_ended else written

    def _next(self) -> bytes:
        """What waited for the block that has ended: the next one, and those after it that are whole already."""
        written = []
        self._leave()
        while self._order:
            block = self._blocks[self._order[0]]
            written.append(block.begin(self._number))
            written += [block.take(event) for event in block.waiting]
            block.waiting.clear()
            if not block.is_ended:
                break
            self._leave()
        return b"".join(written)

    def _leave(self) -> None:
        block = self._blocks.pop(self._order.popleft())
        self._number += block.is_open
        self._said += block.size

    def _conclude(self) -> bytes:
        finish: Finish = self._finished.finish if self._finished is not None else "stop"
        if finish == "malformed":
            return self.fail(UpstreamBroken("The model's answer could not be used."))
        reason = reason_of(finish, has_calls=self._has_calls, has_refusal=self._has_refusal)
        delta = {
            "stop_reason": reason,
            "stop_sequence": self._finished.stop_sequence if self._finished is not None else None,
            "stop_details": stop_details(reason),
        }
        usage = self._usage
        if usage is None:
            usage = Usage(uncached=self._asked.estimate, out_text=self._said // _BYTES_PER_TOKEN)
        counted = usage_object(usage)
        return _event("message_delta", delta=delta, usage=counted) + _event("message_stop")
