"""A stream of the dialect, written event by event.

The vendor's SDKs keep a tally: every part must be announced before it grows, numbers count up, ids stay, and there is
exactly one last event. Items may overlap; texts in a row are parts of one message, which ends when something else
begins.
"""

import msgspec

from trollproxy.chat import (
    AnswerPart,
    Citation,
    Counted,
    Ended,
    Finish,
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
    TokenScore,
    ToolCall,
    Usage,
)
from trollproxy.errors import GatewayError
from trollproxy.wire.format import Asked
from trollproxy.wire.openai_responses import answers_out as out
from trollproxy.wire.openai_responses.failures import failed_stream, write_event
from trollproxy.wire.openai_responses.sealed import Signed, id_of, own_thought, seal_signature


class _Message:
    """The message that is being said."""

    __slots__ = ("content", "open_parts", "output_index", "place")

    def __init__(self, output_index: int, item_id: str) -> None:
        self.output_index = output_index
        self.place: out.Item = {"item_id": item_id, "output_index": output_index}
        self.content: list[out.Item] = []
        self.open_parts = 0


class _Open:
    """A part that is being said. `place` is where its events say it is."""

    __slots__ = ("citations", "grown", "message", "output_index", "part", "place", "scores", "state")

    def __init__(self, part: AnswerPart, output_index: int, place: out.Item) -> None:
        self.part = part
        self.output_index = output_index
        self.place = place
        self.message: _Message | None = None
        self.grown: list[str] = []
        self.citations: list[Citation] = []
        self.scores: list[TokenScore] = []
        self.state: State | None = None if isinstance(part, Refusal) else part.state


class ResponsesWriter:
    def __init__(self, asked: Asked) -> None:
        self._asked = asked
        self._names = out.Names(asked, "")
        self._shell: out.Item = {}
        self._sequence = 0
        self._open: dict[int, _Open] = {}
        self._message: _Message | None = None
        self._output: dict[int, object] = {}
        self._next_output = 0
        self._has_refusal = False
        self._finish: Finish = "stop"
        self._usage: Usage | None = None

    def write(self, event: StreamEvent) -> bytes:
        written = b""
        match event:
            case PartGrew():
                written = self._grow(event.index, event.text)
            case PartStarted(choice=0):
                written = self._begin() + self._start(event)
            case PartEnded():
                written = self._end_part(event.index)
            case PartCited() | PartScored() | PartSigned():
                written = self._adorn(event)
            case Started():
                written = self._begin(event.reply_id)
            case Finished(choice=0):
                self._finish = event.finish
            case Counted():
                self._usage = event.usage
            case Ended():
                written = self._begin() + self._end()
        return written

    def fail(self, error: GatewayError) -> bytes:
        self._shell = self._shell or out.write_shell(self._asked, self._names.reply_id)
        output = [self._output[place] for place in sorted(self._output)]
        return failed_stream(error, sequence=self._sequence, response=self._shell | {"output": output})

    def _say(self, kind: str, members: out.Item) -> bytes:
        members = members | {"sequence_number": self._sequence}
        self._sequence += 1
        return write_event(kind, members)

    def _begin(self, reply_id: str = "") -> bytes:
        if self._shell:
            return b""
        self._names = out.Names(self._asked, reply_id)
        self._shell = out.write_shell(self._asked, self._names.reply_id)
        return self._say("response.created", {"response": self._shell}) + self._say(
            "response.in_progress", {"response": self._shell}
        )

    def _start(self, event: PartStarted) -> bytes:
        match event.part:
            case Media():
                return self._image(event.part) if out.is_image(event.part) else self._described(event)
            case Text() | Refusal():
                return self._start_said(event.index, event.part)
            case Thinking():
                return self._start_thought(event.index, event.part)
            case ToolCall():
                return self._start_call(event.index, event.part)

    def _start_said(self, index: int, part: Text | Refusal) -> bytes:
        written = b""
        message = self._message
        if message is None:
            output_index = self._place()
            message = self._message = _Message(output_index, self._names.item_id("msg", output_index))
            item = out.write_message(str(message.place["item_id"]), []) | {"status": "in_progress"}
            written = self._say("response.output_item.added", {"output_index": output_index, "item": item})
        place = message.place | {"content_index": len(message.content)}
        opened = self._open[index] = _Open(part, message.output_index, place)
        opened.message = message
        message.open_parts += 1
        message.content.append({})
        self._has_refusal = self._has_refusal or isinstance(part, Refusal)
        bare = out.write_refusal(Refusal(text="")) if isinstance(part, Refusal) else out.write_text(Text(text=""))
        written += self._say("response.content_part.added", place | {"part": bare}) + self._grow(index, part.text)
        if isinstance(part, Text):
            written += b"".join(self._cite(opened, citation) for citation in part.citations)
            written += self._score(opened, part.scores) if part.scores else b""
        return written

    def _start_thought(self, index: int, part: Thinking) -> bytes:
        written = self._close_message()
        output_index = self._place()
        own = own_thought(part)
        item_id = (id_of(own) if own is not None else None) or self._names.item_id("rs", output_index)
        self._open[index] = _Open(part, output_index, {"item_id": item_id, "output_index": output_index})
        item = out.write_thought(
            item_id, Thinking(state=part.state if own is None else None, is_redacted=part.is_redacted)
        )
        written += self._say("response.output_item.added", {"output_index": output_index, "item": item})
        return written + self._grow(index, part.text)

    def _start_call(self, index: int, part: ToolCall) -> bytes:
        written = self._close_message()
        output_index = self._place()
        item_id = self._names.item_id(out.prefix_of(part, self._names), output_index)
        self._open[index] = _Open(part, output_index, {"item_id": item_id, "output_index": output_index})
        bare = out.write_call(item_id, msgspec.structs.replace(part, arguments=""), self._names)
        empty = {"arguments": ""} if bare["type"] == "function_call" else {}
        item = bare | {"status": "in_progress"} | empty
        written += self._say("response.output_item.added", {"output_index": output_index, "item": item})
        return written + self._grow(index, part.arguments)

    def _image(self, media: Media) -> bytes:
        written = self._close_message()
        output_index = self._place()
        item = out.write_image(self._names.item_id("ig", output_index), media)
        bare = item | {"status": "in_progress", "result": None}
        written += self._say("response.output_item.added", {"output_index": output_index, "item": bare})
        return written + self._finish_item(output_index, item)

    def _described(self, event: PartStarted) -> bytes:
        assert isinstance(event.part, Media)
        return self._start_said(event.index, out.described(event.part))

    def _place(self) -> int:
        self._next_output += 1
        return self._next_output - 1

    def _grow(self, index: int, text: str) -> bytes:
        opened = self._open.get(index)
        if opened is None or not text:
            return b""
        is_first = not opened.grown
        opened.grown.append(text)
        if isinstance(opened.part, Thinking):
            return self._grow_thought(opened, text, is_first=is_first)
        kind = self._delta_of(opened.part)
        scores: out.Item = {"logprobs": []} if isinstance(opened.part, Text) else {}
        return self._say(kind, opened.place | {"delta": text} | scores) if kind else b""

    def _delta_of(self, part: AnswerPart) -> str:
        if isinstance(part, Text):
            return "response.output_text.delta"
        if isinstance(part, Refusal):
            return "response.refusal.delta"
        assert isinstance(part, ToolCall), "media come whole, thoughts have more than a delta"
        if part.is_custom:
            return "response.custom_tool_call_input.delta"
        # A search is said at once, in the end.
        return "" if self._names.is_search(part.name) else "response.function_call_arguments.delta"

    def _grow_thought(self, opened: _Open, text: str, *, is_first: bool) -> bytes:
        written = b""
        place = opened.place | {"summary_index": 0}
        if is_first:
            bare = {"type": "summary_text", "text": ""}
            written = self._say("response.reasoning_summary_part.added", place | {"part": bare})
        return written + self._say("response.reasoning_summary_text.delta", place | {"delta": text})

    def _adorn(self, event: PartCited | PartScored | PartSigned) -> bytes:
        opened = self._open.get(event.index)
        if opened is None:
            return b""
        match event:
            case PartSigned():
                opened.state = event.state
                return b""
            case PartCited():
                return self._cite(opened, event.citation)
            case PartScored():
                return self._score(opened, event.scores)

    def _cite(self, opened: _Open, citation: Citation) -> bytes:
        annotation = out.write_annotation(citation, sum(map(len, opened.grown)))
        number = len(opened.citations)
        opened.citations.append(citation)
        members = opened.place | {"annotation_index": number, "annotation": annotation}
        return self._say("response.output_text.annotation.added", members)

    def _score(self, opened: _Open, scores: tuple[TokenScore, ...]) -> bytes:
        """Scores come with deltas; one without text lets them come at any time."""
        opened.scores += scores
        written = [out.write_score(score) for score in scores]
        return self._say("response.output_text.delta", opened.place | {"delta": "", "logprobs": written})

    def _end_part(self, index: int) -> bytes:
        opened = self._open.pop(index, None)
        if opened is None:
            return b""
        whole = "".join(opened.grown)
        match opened.part:
            case Text():
                return self._end_text(opened, whole)
            case Refusal():
                done = self._say("response.refusal.done", opened.place | {"refusal": whole})
                return done + self._end_content(opened, out.write_refusal(Refusal(text=whole)))
            case Thinking():
                return self._end_thought(opened, whole)
            case ToolCall():
                return self._end_call(opened, opened.part, whole)
        return b""

    def _end_text(self, opened: _Open, whole: str) -> bytes:
        text = Text(text=whole, citations=tuple(opened.citations), scores=tuple(opened.scores))
        content = out.write_text(text)
        carried = self._carry(opened.state, "text", whole)
        done = self._say("response.output_text.done", opened.place | {"text": whole, "logprobs": content["logprobs"]})
        return carried + done + self._end_content(opened, content)

    def _end_content(self, opened: _Open, content: out.Item) -> bytes:
        message = opened.message
        assert message is not None, "texts are in a message"
        message.content[_number(opened.place["content_index"])] = content
        message.open_parts -= 1
        written = self._say("response.content_part.done", opened.place | {"part": content})
        if message is not self._message and not message.open_parts:
            written += self._finish_message(message)
        return written

    def _close_message(self) -> bytes:
        """Something else begins: the message is over, once its parts are."""
        message, self._message = self._message, None
        return self._finish_message(message) if message is not None and not message.open_parts else b""

    def _finish_message(self, message: _Message) -> bytes:
        item = out.write_message(str(message.place["item_id"]), message.content)
        return self._finish_item(message.output_index, item)

    def _end_thought(self, opened: _Open, whole: str) -> bytes:
        written = b""
        if whole:
            place = opened.place | {"summary_index": 0}
            told = {"type": "summary_text", "text": whole}
            written = self._say("response.reasoning_summary_text.done", place | {"text": whole})
            written += self._say("response.reasoning_summary_part.done", place | {"part": told})
        assert isinstance(opened.part, Thinking)
        thought = Thinking(text=whole, state=opened.state, is_redacted=opened.part.is_redacted)
        own, item_id = own_thought(thought), str(opened.place["item_id"])
        # An item that was announced under another id must keep that one, so the vendor's own goes inside of it.
        is_known = own is not None and id_of(own) == item_id
        return written + self._finish_item(
            opened.output_index, own if is_known else out.write_thought(item_id, thought)
        )

    def _end_call(self, opened: _Open, part: ToolCall, whole: str) -> bytes:
        written = b""
        item = out.write_call(str(opened.place["item_id"]), msgspec.structs.replace(part, arguments=whole), self._names)
        if item["type"] == "function_call":
            arguments = item["arguments"]
            if not whole:
                written = self._say("response.function_call_arguments.delta", opened.place | {"delta": arguments})
            written += self._say("response.function_call_arguments.done", opened.place | {"arguments": arguments})
        elif item["type"] == "custom_tool_call":
            written = self._say("response.custom_tool_call_input.done", opened.place | {"input": whole})
        return written + self._carry(opened.state, "call", part.call_id) + self._finish_item(opened.output_index, item)

    def _carry(self, state: State | None, what: Signed, name: str) -> bytes:
        """An item for a signature, just before the end of what it belongs to."""
        if state is None:
            return b""
        output_index = self._place()
        item = out.write_carrier(self._names.item_id("rs", output_index), seal_signature(state, what, name))
        added = self._say("response.output_item.added", {"output_index": output_index, "item": item})
        return added + self._finish_item(output_index, item)

    def _finish_item(self, output_index: int, item: object) -> bytes:
        self._output[output_index] = item
        return self._say("response.output_item.done", {"output_index": output_index, "item": item})

    def _end(self) -> bytes:
        written = b"".join(self._end_part(index) for index in list(self._open)) + self._close_message()
        members = out.write_end(self._finish, self._usage, has_refusal=self._has_refusal)
        output = [self._output[place] for place in sorted(self._output)]
        return written + self._say(
            f"response.{members['status']}", {"response": self._shell | members | {"output": output}}
        )


def _number(value: object) -> int:
    assert isinstance(value, int)
    return value
