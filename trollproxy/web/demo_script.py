"""What the demo provider says: a friendly scripted answer to any request, and misbehaviour on demand.

Pure: no I/O, no clock, no randomness; the same request gives the same `Script`. Invariants: the reported usage is what
was sent (a piece of text is a token, four bytes of prompt are one), and `max_tokens` is kept. It must not know sockets
or aiohttp; `demo.py` performs what is planned here.

Tests steer it from the last user message, when that begins with `#demo ` and words up to the end of the line:

    delay_ms=N       wait N ms before each token (a reply in one piece: before the reply); default 20 (0)
    tokens=N         answer with N tokens of text, also when tools are offered
    status=N         answer with this HTTP status and an error body of the format
    retry_after_s=N  with `status`: send Retry-After
    cut=head|N       drop the connection before the answer, or after N tokens (a reply in one piece: at its half)
    hang=head|N      fall silent at the same places, with the connection open
    error_event=N    send an error event after N tokens of a stream; 0: in place of its first event
    nousage=1        leave the usage out
    empty=1          a well-formed answer without content
    garbage=1        a body, or an event, that is not JSON

Otherwise: the first (or the forced) tool is called when the last user message contains its name or the word `tool`;
after a tool result, the answer quotes it. Chat Completions reports a system prompt over 4 kB as cached. Anthropic
reports what `cache_control` marks as written to the cache, or as read when the word `cached` is in `metadata`. There,
or in `user`, that word also makes Chat Completions report a short system prompt as cached.
"""

import re
from collections.abc import Sequence
from itertools import cycle, islice
from typing import Annotated, Literal
from zlib import crc32

import msgspec

from trollproxy.chat import FormatName
from trollproxy.web.demo_dialects import CREATED_AT_S, Answer, ChatCompletions, Counts, Dialect, Json, Messages, Stop
from trollproxy.web.demo_prompt import InvalidDemand, Part, Prompt, arguments_for, read_prompt

Action = Literal["send", "cut", "hang"]
Amount = Annotated[int, msgspec.Meta(ge=0, le=100_000)]  # a streamed token is 300 bytes of memory, so many are 30 MB

JSON_TYPE = "application/json"
SSE_TYPE = "text/event-stream; charset=utf-8"
TOKEN_DELAY_S = 0.02  # about 50 tokens/s, what a mid-sized model gives
CACHED_SYSTEM_BYTES = 4_096  # OpenAI caches prompts of 1,024 tokens and more
MODELS = ("demo", "demo-small")

DIALECTS: dict[FormatName, Dialect] = {"openai_chat": ChatCompletions(), "anthropic": Messages()}

_PIECE = re.compile(r"\s*\S+")
_FILLER = ("The", "troll", "guards", "the", "bridge", "and", "counts", "every", "token", "that", "comes", "across.")


class Piece(msgspec.Struct, frozen=True):
    """Wait, then send `data`, or break off instead."""

    data: bytes = b""
    delay_s: float = 0.0
    action: Action = "send"


class Script(msgspec.Struct, frozen=True, kw_only=True):
    """One answer. Its head goes out with the first piece that is sent, so what breaks off before it sends no head."""

    status: int = 200
    content_type: str = JSON_TYPE
    headers: tuple[tuple[str, str], ...] = ()
    pieces: tuple[Piece, ...]

    @property
    def is_stream(self) -> bool:
        return self.content_type == SSE_TYPE

    @property
    def body(self) -> bytes:
        return b"".join(piece.data for piece in self.pieces)


class Control(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """The control words of one request."""

    delay_ms: Amount | None = None
    tokens: Amount | None = None
    status: Annotated[int, msgspec.Meta(ge=400, le=599)] | None = None
    retry_after_s: Amount | None = None
    cut: Amount | Literal["head"] | None = None
    hang: Amount | Literal["head"] | None = None
    error_event: Amount | None = None
    nousage: bool = False
    empty: bool = False
    garbage: bool = False


def play(format: FormatName, body: bytes) -> Script:  # noqa: A002 - the word of records and of the configuration
    """The answer to a request for a completion."""
    dialect = DIALECTS[format]
    try:
        prompt = read_prompt(format, body)
        control = read_control(prompt.last_user_text)
    except InvalidDemand as wrong:
        return refuse(format, 400, str(wrong))
    if control.status is not None:
        return _with_retry_after(refuse(format, control.status, "The demo provider was asked to fail."), control)
    answer = compose(prompt, control, body)
    if prompt.stream:
        return Script(content_type=SSE_TYPE, pieces=tuple(_streamed(dialect, answer, control)))
    return Script(pieces=tuple(_whole(dialect, answer, control)))


def count(body: bytes) -> Script:
    """The answer to Anthropic's `/v1/messages/count_tokens`."""
    try:
        prompt = read_prompt("anthropic", body, is_count=True)
    except InvalidDemand as wrong:
        return refuse("anthropic", 400, str(wrong))
    return _json({"input_tokens": sum(part.tokens for part in prompt.parts)})


def models(format: FormatName) -> Script:  # noqa: A002 - as above
    if format == "openai_chat":
        rows = [{"id": m, "object": "model", "created": CREATED_AT_S, "owned_by": "trollproxy"} for m in MODELS]
        return _json({"object": "list", "data": rows})
    facts = {"type": "model", "created_at": "2026-01-01T00:00:00Z", "lifecycle": "active"}
    named = [{"id": m, "display_name": m.replace("-", " ").title(), **facts} for m in MODELS]
    return _json({"data": named, "has_more": False, "first_id": MODELS[0], "last_id": MODELS[-1]})


def refuse(format: FormatName, status: int, message: str) -> Script:  # noqa: A002 - as above
    return _json(DIALECTS[format].error(status, message), status=status)


def read_control(text: str) -> Control:
    """Read the control line; an unknown or malformed word is an error, for a test that has it wrong must not pass."""
    line, _, _ = text.partition("\n")
    if not line.startswith("#demo "):
        return Control()
    words = dict(word.partition("=")[::2] for word in line.split()[1:])
    try:
        return msgspec.convert(words, Control, strict=False)
    except msgspec.ValidationError as wrong:
        raise InvalidDemand(f"#demo: {wrong}") from None


def compose(prompt: Prompt, control: Control, body: bytes) -> Answer:
    """Decide what is said, cut it to the allowance, and count it."""
    text, tool, arguments = _words(prompt, control)
    left = prompt.max_tokens
    kept, kept_arguments = text[:left], arguments[: left - len(text[:left])]
    is_short = len(kept) + len(kept_arguments) < len(text) + len(arguments)
    stop: Stop = "length" if is_short else "tool" if tool else "stop"
    out = (len(kept) + len(kept_arguments)) * prompt.choices
    return Answer(
        model=prompt.model,
        reply_id=f"demo{crc32(body):08x}",
        text=tuple(kept),
        tool=tool if kept_arguments else None,
        arguments=tuple(kept_arguments),
        stop=stop,
        counts=None if control.nousage else count_prompt(prompt, out),
        stream_usage=prompt.stream_usage,
        choices=prompt.choices,
    )


def _words(prompt: Prompt, control: Control) -> tuple[Sequence[str], str | None, Sequence[str]]:
    if control.empty:
        return (), None, ()
    if control.tokens is not None:
        return [f" {word}" for word in islice(cycle(_FILLER), control.tokens)], None, ()
    tool = prompt.tool_to_call()
    if tool is None:
        return _PIECE.findall(_say(prompt)), None, ()
    arguments = msgspec.json.encode(arguments_for(tool.schema)).decode()
    before = _PIECE.findall(f"Let me ask the tool {tool.name}.") if prompt.format == "anthropic" else ()
    return before, tool.name, [arguments[i : i + 8] for i in range(0, len(arguments), 8)]


def _say(prompt: Prompt) -> str:
    if prompt.tool_result is not None:
        return f"The tool answered: {prompt.tool_result[:400]}\nThat is all that I needed. Shall we go on?"
    size = sum(part.size for part in prompt.parts)
    about = sum(part.tokens for part in prompt.parts)
    return (
        f"Hello from the trollproxy demo provider! I am a script and not a model, so nothing was spent on this answer. "
        f"You asked {prompt.model} with {prompt.messages} message{'s' * (prompt.messages != 1)}: "
        f"{size} bytes, about {about} tokens. Your last words were: “{prompt.last_user_text[:120]}”. "
        f"Point a provider at a real service and the same request gets a real answer."
    )


def count_prompt(prompt: Prompt, out: int) -> Counts:
    """Sort the prompt's tokens into the buckets that the format would report."""
    if prompt.format == "openai_chat":
        system = [part for part in prompt.parts if part.is_system]
        is_cached = sum(part.size for part in system) > CACHED_SYSTEM_BYTES or prompt.says_cached
        read = sum(part.tokens for part in system) if is_cached else 0
        return Counts(uncached=sum(part.tokens for part in prompt.parts) - read, read=read, out=out)
    return _count_marked(prompt.parts, out, is_read=prompt.says_cached)


def _count_marked(parts: Sequence[Part], out: int, *, is_read: bool) -> Counts:
    """A mark covers everything from the mark before it (or the beginning) up to and with its own part."""
    pending, written = 0, {"5m": 0, "1h": 0}
    for part in parts:
        pending += part.tokens
        if part.cache_ttl is not None:
            written[part.cache_ttl] += pending
            pending = 0
    if is_read:
        return Counts(uncached=pending, read=sum(written.values()), out=out)
    return Counts(uncached=pending, write_5m=written["5m"], write_1h=written["1h"], out=out)


def _streamed(dialect: Dialect, answer: Answer, control: Control) -> list[Piece]:
    if control.garbage:
        return [Piece(dialect.garbage_frame())]
    delay_s = TOKEN_DELAY_S if control.delay_ms is None else control.delay_ms / 1000
    frames = dialect.frames(answer)
    tokens = [Piece(frame, delay_s) for frame in frames.tokens]
    pieces = [Piece(frames.opening), *tokens, Piece(frames.closing)]
    if control.error_event is not None:
        error = Piece(dialect.error_frame(529, "The demo provider was asked to fail in its stream."))
        before = pieces[: 1 + min(control.error_event, len(tokens))] if control.error_event else []
        return [*before, error]
    return _broken_off(pieces, control, last=len(tokens))


def _whole(dialect: Dialect, answer: Answer, control: Control) -> list[Piece]:
    body = b'{"id": "demo", oops' if control.garbage else msgspec.json.encode(dialect.body(answer))
    half = len(body) // 2
    return _broken_off([Piece(body[:half], (control.delay_ms or 0) / 1000), Piece(body[half:])], control, last=0)


def _broken_off(pieces: list[Piece], control: Control, *, last: int) -> list[Piece]:
    """Insert the break. What follows it is kept, as a reply in one piece announces its full length."""
    action: Action = "cut" if control.cut is not None else "hang"
    place = control.cut if control.cut is not None else control.hang
    if place is None:
        return pieces
    index = 0 if place == "head" else 1 + min(place, last)
    return [*pieces[:index], Piece(action=action), *pieces[index:]]


def _with_retry_after(script: Script, control: Control) -> Script:
    if control.retry_after_s is None:
        return script
    return msgspec.structs.replace(script, headers=(("Retry-After", str(control.retry_after_s)),))


def _json(value: Json, *, status: int = 200) -> Script:
    return Script(status=status, pieces=(Piece(msgspec.json.encode(value)),))
