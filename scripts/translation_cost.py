"""Measure what carrying a request, a whole answer and a chunk of a stream costs, for every pair of formats.

    python -m scripts.translation_cost

Two conversations, each with its answer: an ordinary one of 1 KB (a system prompt, a question, a few words) and an
agent's (a system prompt, three tools, nine turns; text and a call). And a stream of 400 chunks of text. Rounds over all
pairs alternate, so that a machine that slows down slows all alike; medians are printed, in microseconds of CPU, and
beside each the ratio to passing the bytes of the client's own format.
"""

import statistics
import sys
import time
from collections.abc import Callable, Iterator
from itertools import product

import msgspec

from trollproxy.chat import (
    Choice,
    Counted,
    Ended,
    Finished,
    FormatName,
    PartEnded,
    PartGrew,
    PartStarted,
    Reply,
    Request,
    Started,
    StreamEvent,
    Text,
    Tool,
    ToolCall,
    ToolResult,
    Turn,
    Usage,
)
from trollproxy.wire import FORMATS
from trollproxy.wire.format import Asked, Entry, Format, Target
from trollproxy.wire.passage import Passage, Passthrough
from trollproxy.wire.thoughts import Memory
from trollproxy.wire.translation import Told, Translation

ROUNDS = 15
REPEATS = 40  # requests and whole answers a round
CHUNKS = 400
PIECE = " and then some"
SCHEMA = msgspec.Raw(b'{"type":"object","properties":{"path":{"type":"string"},"line":{"type":"integer"}}}')
TARGET = Target(model="real-model", max_output_tokens=4096)


class _Forgetful:
    """A vault that keeps nothing: what it costs is not the translation's."""

    def recall(self, call_id: str) -> Memory | None:  # noqa: ARG002 - nothing is known
        return None

    def keep(self, call_id: str, memory: Memory) -> None: ...


def question() -> Request:
    return Request(
        model="m",
        turns=(Turn("user", (Text(text="What can be said of it, and of all that belongs to it? " * 6),)),),
        system=(Text(text="You are a careful assistant who answers in few words. " * 8),),
        max_output_tokens=500,
    )


def words() -> Reply:
    choice = Choice(parts=(Text(text="There is little to be said of it. " * 8),), finish="stop")
    return Reply(reply_id="r", model="m", choices=(choice,), usage=Usage(uncached=180, out_text=64))


def conversation() -> Request:
    turns: list[Turn] = []
    for number in range(3):
        call = ToolCall(call_id=f"call_{number}", name="read_file", arguments='{"path": "a.py", "line": 12}')
        turns.append(Turn("user", (Text(text="Please look at the file and say what is wrong with it. " * 8),)))
        turns.append(Turn("assistant", (Text(text="Let me look."), call)))
        turns.append(Turn("user", (ToolResult(call_id=call.call_id, parts=(Text(text="x = 1\n" * 60),)),)))
    tools = tuple(
        Tool(name=name, description="Works on a file.", parameters=SCHEMA) for name in ("read_file", "edit", "run")
    )
    return Request(
        model="m",
        turns=tuple(turns),
        system=(Text(text="You are a careful programmer. " * 40),),
        tools=tools,
        max_output_tokens=1000,
    )


def answer() -> Reply:
    parts = (
        Text(text="It is line twelve. " * 20),
        ToolCall(call_id="call_9", name="edit", arguments='{"path":"a.py"}'),
    )
    usage = Usage(uncached=1000, out_text=200)
    return Reply(reply_id="r", model="m", choices=(Choice(parts=parts, finish="tool_calls"),), usage=usage)


def long_stream() -> list[StreamEvent]:
    grown: list[StreamEvent] = [PartGrew(index=0, text=PIECE) for _ in range(CHUNKS)]
    ended: list[StreamEvent] = [PartEnded(index=0), Finished(finish="stop")]
    counted = Counted(usage=Usage(uncached=1000, out_text=CHUNKS), is_final=True)
    return [
        Started(reply_id="r", model="m"),
        PartStarted(index=0, part=Text(text="")),
        *grown,
        *ended,
        counted,
        Ended(),
    ]


class Pair:
    """One client's format before one provider's, with bytes of both."""

    def __init__(self, client: Format, upstream: Format, request: Request, reply: Reply) -> None:
        self._client, self._upstream = client, upstream
        self.name: tuple[FormatName, FormatName] = (client.name, upstream.name)
        self._entry = Entry(model="m") if client.name == "gemini" else Entry()
        self._asked = Asked(request=request, entry=Entry(), model="m", request_id="req_" + "0" * 24, now_s=1)
        self._body = client.tongue.write_request(request, TARGET)
        self._reply = upstream.tongue.write_reply(reply, self._asked)
        writer = upstream.tongue.stream_writer(self._asked)
        self._chunks = [written for event in long_stream() if (written := writer.write(event))]

    def open(self) -> Passage:
        if self._client is self._upstream:
            return Passthrough(self._client, self._client.read_ask(self._body, self._entry), self._entry)
        told = Told(request_id=self._asked.request_id, now_s=1, model="m", entry=self._entry)
        return Translation(self._client, self._upstream, told=told, recollection=_Forgetful())

    def request_us(self) -> float:
        return _cpu_us(lambda: self.open().write_request(self._body, TARGET), REPEATS)

    def reply_us(self) -> float:
        passage = self._opened()
        return _cpu_us(lambda: passage.read_whole(self._reply), REPEATS)

    def chunk_us(self) -> float:
        meter = self._opened().meter()
        feed = iter(self._chunks)
        return _cpu_us(lambda: meter.feed(next(feed)), len(self._chunks))

    def _opened(self) -> Passage:
        passage = self.open()
        passage.write_request(self._body, TARGET)
        return passage


def _cpu_us(work: Callable[[], object], times: int) -> float:
    began = time.process_time_ns()
    for _ in range(times):
        work()
    return (time.process_time_ns() - began) / times / 1000


def measure(request: Request, reply: Reply) -> dict[tuple[FormatName, FormatName], list[float]]:
    """Request, whole answer and chunk, in microseconds, by pair."""
    formats = FORMATS.values()
    pairs = [Pair(client, upstream, request, reply) for client, upstream in product(formats, formats)]
    taken: dict[tuple[FormatName, FormatName], list[tuple[float, ...]]] = {pair.name: [] for pair in pairs}
    for _ in range(ROUNDS):
        for pair in pairs:
            taken[pair.name].append((pair.request_us(), pair.reply_us(), pair.chunk_us()))
    return {name: [statistics.median(column) for column in zip(*rounds, strict=True)] for name, rounds in taken.items()}


def table(title: str, measured: dict[tuple[FormatName, FormatName], list[float]]) -> Iterator[str]:
    yield title
    yield ""
    yield "| client | provider | request µs | whole answer µs | both µs | stream chunk µs |"
    yield "|---|---|---|---|---|---|"
    for (client, upstream), (request, reply, chunk) in measured.items():
        figures = (request, reply, request + reply, chunk)
        own_request, own_reply, own_chunk = measured[client, client]
        own = (own_request, own_reply, own_request + own_reply, own_chunk)
        cells = (f"{figure:.1f} (x{figure / base:.1f})" for figure, base in zip(figures, own, strict=True))
        yield f"| {client} | {upstream} | {' | '.join(cells)} |"


def tables() -> Iterator[str]:
    yield from table("An ordinary request:", measure(question(), words()))
    yield ""
    yield from table("An agent's request:", measure(conversation(), answer()))


if __name__ == "__main__":
    sys.stdout.write("\n".join(tables()) + "\n")
