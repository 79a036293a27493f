"""From the client's format to the provider's and back, by way of the conversation itself.

What the provider's format has no words for is refused here, by its table, under the name that the client gave it.
"""

from collections.abc import Callable, Mapping

from trollproxy.chat import (
    FEATURES,
    CannotSay,
    Choice,
    Counted,
    Ended,
    Feature,
    Gathering,
    PartGrew,
    PartStarted,
    Request,
    StreamEvent,
    features_of,
    said_in,
)
from trollproxy.errors import GatewayError, InvalidRequest
from trollproxy.wire.adapt import Adaptation
from trollproxy.wire.body import NOT_TRANSLATABLE
from trollproxy.wire.estimate import estimate_input
from trollproxy.wire.format import (
    Asked,
    Entry,
    Format,
    Headers,
    StreamMeter,
    StreamReader,
    StreamWriter,
    Target,
    Tongue,
    Whole,
)
from trollproxy.wire.passage import Passage
from trollproxy.wire.sse import EventSplitter
from trollproxy.wire.thoughts import Recollection, memories, with_thoughts


class Told:
    """What a translation needs to know beyond the bytes."""

    __slots__ = ("entry", "model", "now_s", "request_id")

    def __init__(self, *, request_id: str, now_s: int, model: str, entry: Entry) -> None:
        self.request_id = request_id
        self.now_s = now_s
        self.model = model  # the name that the client used
        self.entry = entry


class Translation(Passage):
    """One exchange between two formats. Used once, in the order of the methods."""

    __slots__ = ("_adaptation", "_asked", "_client", "_recollection", "_target", "_told", "upstream")

    is_translated = True

    def __init__(self, client: Format, upstream: Format, *, told: Told, recollection: Recollection) -> None:
        self.upstream = upstream
        self._client = client
        self._told = told
        self._recollection = recollection

    def count_tokens(self, body: bytes) -> bytes:
        """Our answer to a client that asks how long its prompt is; the provider has no such endpoint for it."""
        request = self._client.tongue.read_request(body, self._told.entry)
        return self._client.tongue.write_count(estimate_input(request))

    def write_request(self, body: bytes, target: Target) -> bytes:
        told, theirs = self._told, self.upstream.tongue
        request = with_thoughts(self._client.tongue.read_request(body, told.entry), self._recollection.recall)
        _require_words(request, self._client.tongue, theirs, cannot=target.cannot)
        self._asked = Asked(
            request=request,
            entry=told.entry,
            model=told.model,
            request_id=told.request_id,
            now_s=told.now_s,
        )
        self._target = target
        self._adaptation = Adaptation(request, theirs.rules)
        try:
            return theirs.write_request(self._adaptation.request, target)
        except CannotSay as cannot:
            raise _refusal(self._client.tongue, cannot.feature, cannot.why) from cannot

    def upstream_path(self, path: str, target: Target) -> str:
        return self.upstream.upstream_path(path, Entry(stream=self._asked.request.stream), target.model)

    def upstream_headers(self, headers: Mapping[str, str]) -> Headers:  # noqa: ARG002 - the client's are of its own dialect
        return self.upstream.tongue.request_headers(self._adaptation.request, self._target)

    def meter(self) -> StreamMeter:
        return _TranslatedStream(self)

    def read_whole(self, body: bytes) -> tuple[Whole, bytes]:
        reply = self._adaptation.restore_reply(self.upstream.tongue.read_reply(body, self._asked))
        self.remember(reply.choices)
        said = b"".join([said_in(part) for choice in reply.choices for part in choice.parts])
        return Whole(reply.usage, said), self._client.tongue.write_reply(reply, self._asked)

    def remember(self, choices: tuple[Choice, ...]) -> None:
        for choice in choices:
            for call_id, memory in memories(choice.parts).items():
                self._recollection.keep(call_id, memory)

    def restore(self, event: StreamEvent) -> list[StreamEvent]:
        return self._adaptation.restore(event)

    def open_stream(self) -> tuple[StreamReader, StreamWriter]:
        return self.upstream.tongue.stream_reader(self._asked), self._client.tongue.stream_writer(self._asked)


class _TranslatedStream(StreamMeter):
    """Reads the provider's events, writes the client's, and counts what passes."""

    __slots__ = ("_events", "_gathering", "_reader", "_translation", "_writer")

    def __init__(self, translation: Translation) -> None:
        super().__init__()
        self._events = EventSplitter()
        self._translation = translation
        self._reader, self._writer = translation.open_stream()
        self._gathering = Gathering()

    def feed(self, data: bytes) -> bytes:
        written = []
        for event in self._events.feed(data):
            written.append(self._pass(self._reader.read, event))
            if self.error is not None:
                break
        return b"".join(written)

    def finish(self) -> bytes:
        written = self.feed(b"\n\n") if self._events.held else b""
        if self.is_complete or self.error is not None:
            return written
        return written + self._pass(self._reader.finish)

    def _pass(self, read: Callable[..., list[StreamEvent]], *event: bytes) -> bytes:
        try:
            return self._write(read(*event))
        except GatewayError as error:
            self.error = error
            return b""

    def _write(self, events: list[StreamEvent]) -> bytes:
        restored = [restored for event in events for restored in self._translation.restore(event)]
        for event in restored:
            self._count(event)
        return b"".join([self._writer.write(event) for event in restored])

    def _count(self, event: StreamEvent) -> None:
        self._gathering.take(event)
        if isinstance(event, PartGrew):
            self.hear(event.text.encode())
        elif isinstance(event, PartStarted):
            self.hear(said_in(event.part))
        elif isinstance(event, Counted):
            self.usage, self.is_usage_final = event.usage, event.is_final
        elif isinstance(event, Ended):
            self.is_complete = True
            self._translation.remember(self._gathering.reply().choices)

    def write_error(self, error: GatewayError, request_id: str) -> bytes:  # noqa: ARG002 - the writer knows it
        return self._writer.fail(error)


def _require_words(request: Request, client: Tongue, upstream: Tongue, *, cannot: frozenset[Feature]) -> None:
    """Refuse what the provider's format cannot carry, or this provider does not take, the first of it by name."""
    carries = upstream.carries
    missing = [feature for feature in features_of(request) if feature not in carries or feature in cannot]
    if missing:
        first = min(missing, key=FEATURES.index)
        raise _refusal(client, first, _why(upstream, first))


def _refusal(client: Tongue, feature: Feature, why: str) -> InvalidRequest:
    param = client.params.get(feature, feature)
    return InvalidRequest(f"`{param}` cannot be carried to this model: {why}.", code=NOT_TRANSLATABLE, param=param)


def _why(upstream: Tongue, feature: Feature) -> str:
    if feature in upstream.carries:
        return "its provider does not take it"
    return f"the provider's format ({upstream.name}) has no place for it"
