"""Conversations and answers in no vendor's words, for the property tests of every format.

What is generated is in the normal form that every format can give back: roles alternate, results of tools come first in
the user's turn after their calls, ids of calls are unique. A `Dialect` says what more a format can say; what it can say
only with a loss is left out, so that writing and reading again must be the identity.
"""

import base64
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any, Literal, get_args

import msgspec
from hypothesis import strategies as st
from hypothesis.strategies import SearchStrategy

from trollproxy.chat import (
    AnswerPart,
    CacheLifetime,
    Choice,
    Citation,
    Effort,
    Feature,
    Finish,
    Media,
    MediaKind,
    OutputSchema,
    Part,
    Reasoning,
    Refusal,
    Reply,
    Request,
    Sampling,
    State,
    Text,
    Thinking,
    TokenScore,
    Tool,
    ToolCall,
    ToolChoice,
    ToolResult,
    Turn,
    Usage,
)

_DETAIL_OF: dict[str, tuple[str, ...]] = {"image": ("low", "high")}
_Mode = Literal["auto", "none", "any"]
_NO_STATE: SearchStrategy[State | None] = st.none()


@dataclass(frozen=True)
class Dialect:
    """What one format can say without loss. `features` are usually those whose loss in `carries` is empty."""

    features: frozenset[Feature]
    state_of: Mapping[str, SearchStrategy[State | None]] = field(default_factory=dict)  # by a part's tag
    has_redacted: bool = False  # thoughts of which only the state exists
    lifetimes: tuple[CacheLifetime, ...] = ("5m",)
    efforts: tuple[Effort, ...] = ("low", "medium", "high")
    reasonings: SearchStrategy[Reasoning] | None = None  # where the features alone do not tell what goes together
    media_types: Mapping[str, tuple[str | None, ...]] = field(
        default_factory=lambda: {
            "image": ("image/png", "image/jpeg"),
            "document": ("application/pdf",),
            "audio": ("audio/wav",),
            "video": ("video/mp4",),
        }
    )
    url_media_types: bool = False  # whether a media's type goes along with its address or file
    named: frozenset[str] = frozenset()  # kinds of media that may have a name
    sampling_max: float = 1.0  # temperature
    tiers: tuple[str, ...] = ("priority",)
    verbosities: tuple[str, ...] = ("low", "high")
    names_results: bool = False  # whether a result says which tool it is of
    result_texts: int = 1  # most texts in one result
    turn_texts: int = 2  # most texts in a row in one turn
    streams: bool = True  # whether the body says `stream`
    schema_is_named: bool = False  # an output schema has a name, and may have a description and `strict`
    # answers
    finishes: tuple[Finish, ...] = ("stop", "length")
    has_stop_sequence: bool = False
    reply_texts: int = 1
    has_refusal: bool = False
    has_thinking: bool = True
    has_citations: bool = False
    has_scores: bool = False
    has_custom_calls: bool = False
    has_media: bool = False
    max_choices: int = 1
    buckets: tuple[str, ...] = ("uncached", "out_text")
    reply_tiers: tuple[str | None, ...] = (None,)
    reply_prefix: str = "id_"


WORDS = st.text(st.characters(codec="utf-8"), min_size=1, max_size=12)
NAMES = st.from_regex(r"[a-zA-Z][a-zA-Z0-9_]{0,11}", fullmatch=True)
FRACTIONS = st.integers(0, 100).map(lambda number: number / 100)
COUNTS = st.integers(0, 10**6)
BASE64 = st.binary(min_size=1, max_size=9).map(lambda data: base64.b64encode(data).decode())
JSON = st.recursive(
    st.none() | st.booleans() | st.integers(-(2**70), 2**70) | st.floats(allow_nan=False, allow_infinity=False) | WORDS,
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(WORDS, inner, max_size=3),
    max_leaves=6,
)
OBJECTS = st.dictionaries(WORDS, JSON, max_size=3)
SCHEMAS = st.dictionaries(WORDS, JSON, max_size=2).map(
    lambda properties: msgspec.Raw(msgspec.json.encode({"type": "object", "properties": properties}))
)


ARGUMENTS = OBJECTS.map(lambda value: msgspec.json.encode(value).decode())


def maybe(strategy: SearchStrategy[Any], *, allowed: bool) -> SearchStrategy[Any]:
    return st.none() | strategy if allowed else st.none()


def states_of(dialect: Dialect, tag: str) -> SearchStrategy[State | None]:
    return dialect.state_of.get(tag, _NO_STATE)


def lifetimes(dialect: Dialect) -> SearchStrategy[Any]:
    return maybe(st.sampled_from(dialect.lifetimes), allowed="cache_marks" in dialect.features)


def texts(dialect: Dialect, tag: str = "plain") -> SearchStrategy[Text]:
    return st.builds(Text, text=WORDS, cache=lifetimes(dialect), state=states_of(dialect, tag))


@st.composite
def media(draw: st.DrawFn, dialect: Dialect, *, kinds: tuple[MediaKind, ...] = ()) -> Media:
    """One medium that the dialect carries; there must be one."""
    features = dialect.features
    ways: list[tuple[MediaKind, str, str]] = [
        (kind, place, field_name)
        for kind in kinds or ("image", "document", "audio", "video")
        for place, field_name in (("data", "data"), ("url", "url"), ("file", "file_id"), ("text", "text"))
        if f"{kind}_{place}" in features
    ]
    kind, place, field_name = draw(st.sampled_from(ways))
    content = {"data": BASE64, "url": NAMES.map("https://example.com/{}".format), "file": NAMES.map("file-{}".format)}
    members: dict[str, Any] = {field_name: draw(content.get(place, WORDS))}
    if place == "data" or (place != "text" and dialect.url_media_types):
        members["media_type"] = draw(st.sampled_from(dialect.media_types[kind]))
    if kind in dialect.named:
        members["name"] = draw(st.none() | NAMES)
    if kind == "image" and "image_detail" in features:
        members["detail"] = draw(st.none() | st.sampled_from(_DETAIL_OF["image"]))
    if kind == "document" and "document_context" in features:
        members["context"] = draw(st.none() | WORDS)
    if kind == "document" and "document_citations" in features:
        members["wants_citations"] = draw(st.booleans())
    return Media(kind=kind, cache=draw(lifetimes(dialect)), **members)


def has_media(dialect: Dialect, *kinds: str) -> bool:
    wanted = kinds or ("image", "document", "audio", "video")
    return any(f"{kind}_{place}" in dialect.features for kind in wanted for place in ("data", "url", "file", "text"))


def thoughts(dialect: Dialect) -> SearchStrategy[Thinking]:
    states = states_of(dialect, "thinking")
    spoken = st.builds(Thinking, text=WORDS, state=states)
    if not dialect.has_redacted:
        return spoken
    unspoken = states.filter(lambda state: state is not None)
    return spoken | st.builds(Thinking, state=unspoken, is_redacted=st.just(value=True))


def calls(dialect: Dialect, tools: tuple[Tool, ...], *, cached: bool = True) -> SearchStrategy[ToolCall]:
    """A call of one of the tools; its id is to be replaced by a unique one."""

    def of(tool: Tool) -> SearchStrategy[ToolCall]:
        return st.builds(
            ToolCall,
            call_id=st.just(""),
            name=st.just(tool.name),
            arguments=WORDS if tool.is_custom else ARGUMENTS,
            is_custom=st.just(tool.is_custom),
            cache=lifetimes(dialect) if cached else st.none(),
            state=states_of(dialect, "tool_call"),
        )

    return st.sampled_from(tools).flatmap(of)


@st.composite
def tools_of(draw: st.DrawFn, dialect: Dialect) -> tuple[Tool, ...]:
    features = dialect.features
    names = draw(st.lists(NAMES, max_size=3, unique=True)) if "tools" in features else []
    made = []
    for name in names:
        description, cache = draw(st.none() | WORDS), draw(lifetimes(dialect))
        if "tools_custom" in features and draw(st.booleans()):
            made.append(Tool(name=name, description=description, is_custom=True, cache=cache))
            continue
        strict = draw(maybe(st.just(value=True), allowed="tools_strict" in features))
        parameters = draw(SCHEMAS)
        made.append(Tool(name=name, description=description, parameters=parameters, strict=strict, cache=cache))
    return tuple(made)


@st.composite
def choices_of(draw: st.DrawFn, dialect: Dialect, tools: tuple[Tool, ...]) -> ToolChoice | None:
    features = dialect.features
    options = [ToolChoice(mode=mode) for mode in get_args(_Mode) if f"tool_choice_{mode}" in features]
    if tools and "tool_choice_one" in features:
        options.append(ToolChoice(mode="any", names=(tools[0].name,)))
    if len(tools) > 1 and "tool_choice_some" in features:
        names = (tools[0].name, tools[1].name)
        options += [ToolChoice(mode="any", names=names), ToolChoice(mode="auto", names=names)]
    return draw(st.none() | st.sampled_from(options)) if tools and options else None


@st.composite
def results_of(draw: st.DrawFn, dialect: Dialect, call: ToolCall) -> ToolResult:
    features = dialect.features
    parts: list[Text | Media] = draw(st.lists(st.builds(Text, text=WORDS), min_size=1, max_size=dialect.result_texts))
    if "result_media" in features and has_media(dialect, "image") and draw(st.booleans()):
        parts.append(msgspec.structs.replace(draw(media(dialect, kinds=("image",))), cache=None))
    return ToolResult(
        call_id=call.call_id,
        name=call.name if dialect.names_results else None,
        parts=tuple(parts),
        is_error="result_error" in features and draw(st.booleans()),
        is_custom=call.is_custom,
        cache=draw(lifetimes(dialect)),
    )


@st.composite
def _said_by_assistant(draw: st.DrawFn, dialect: Dialect, tools: tuple[Tool, ...], *, may_call: bool) -> list[Part]:
    parts: list[Part] = []
    if "thinking_inside" in dialect.features:
        parts += draw(st.lists(thoughts(dialect), max_size=1))
    made = draw(st.lists(calls(dialect, tools), max_size=2)) if tools and may_call else []
    parts += draw(st.lists(texts(dialect, "text"), min_size=0 if made else 1, max_size=dialect.turn_texts))
    return parts + made


@st.composite
def _said_by_user(draw: st.DrawFn, dialect: Dialect) -> list[Part]:
    spoken: SearchStrategy[Part] = texts(dialect)
    if has_media(dialect):
        spoken = spoken | media(dialect)
    return draw(st.lists(spoken, min_size=1, max_size=dialect.turn_texts))


@st.composite
def turns_of(draw: st.DrawFn, dialect: Dialect, tools: tuple[Tool, ...]) -> tuple[Turn, ...]:
    """User, assistant, user ...; every call is answered in the next turn, and the user has the last word."""
    turns = [Turn("user", tuple(draw(_said_by_user(dialect))))]
    calls_made = 0
    for _ in range(draw(st.integers(0, 2))):
        if "system_inside" in dialect.features and draw(st.booleans()):
            turns.append(Turn("system", tuple(draw(st.lists(texts(dialect), min_size=1, max_size=1)))))
        parts = draw(_said_by_assistant(dialect, tools, may_call=True))
        answers: list[Part] = []
        for place, part in enumerate(parts):
            if isinstance(part, ToolCall):
                calls_made += 1
                call = msgspec.structs.replace(part, call_id=f"call_{calls_made}")
                parts[place] = call
                answers.append(draw(results_of(dialect, call)))
        turns.append(Turn("assistant", tuple(parts)))
        more = draw(_said_by_user(dialect)) if not answers or draw(st.booleans()) else []
        turns.append(Turn("user", (*answers, *more)))
    return tuple(turns)


@st.composite
def samplings(draw: st.DrawFn, dialect: Dialect) -> Sampling:
    features = dialect.features

    def value(name: Feature, strategy: SearchStrategy[Any]) -> Any:
        return draw(maybe(strategy, allowed=name in features))

    bias = st.just(msgspec.Raw(b'{"50256":-100}'))
    return Sampling(
        temperature=value("temperature", FRACTIONS.map(lambda number: number * dialect.sampling_max)),
        top_p=value("top_p", FRACTIONS),
        top_k=value("top_k", st.integers(1, 64)),
        seed=value("seed", st.integers(0, 2**31 - 1)),
        presence_penalty=value("presence_penalty", FRACTIONS),
        frequency_penalty=value("frequency_penalty", FRACTIONS),
        logit_bias=value("logit_bias", bias),
        logprobs=value("logprobs", st.integers(0, 20)),
        choices=draw(st.integers(1, 4)) if "choices" in features else 1,
    )


def outputs(dialect: Dialect) -> SearchStrategy[OutputSchema | None]:
    options: list[SearchStrategy[OutputSchema | None]] = [st.none()]
    if "output_json" in dialect.features:
        options.append(st.just(OutputSchema()))
    if "output_schema" in dialect.features:
        named = dialect.schema_is_named
        options.append(
            st.builds(
                OutputSchema,
                schema=SCHEMAS,
                name=NAMES if named else st.none(),
                description=maybe(WORDS, allowed=named),
                strict=maybe(st.booleans(), allowed=named),
            )
        )
    return st.one_of(options)


def _reasonings(dialect: Dialect) -> SearchStrategy[Reasoning | None]:
    if dialect.reasonings is not None:
        return st.none() | dialect.reasonings
    options: list[SearchStrategy[Reasoning | None]] = [st.none()]
    if "reasoning_off" in dialect.features:
        options.append(st.just(Reasoning(mode="off")))
    if "reasoning_effort" in dialect.features:
        options.append(st.builds(Reasoning, effort=st.sampled_from(dialect.efforts)))
    return st.one_of(options)


@st.composite
def requests(draw: st.DrawFn, dialect: Dialect) -> Request:
    """A request that the dialect can say without loss."""
    features = dialect.features

    def value(name: Feature, strategy: SearchStrategy[Any]) -> Any:
        return draw(maybe(strategy, allowed=name in features))

    tools = draw(tools_of(dialect))
    parallel = [flag for flag, name in ((False, "parallel_off"), (True, "parallel_on")) if name in features]
    return Request(
        model="some-model",
        system=tuple(draw(st.lists(texts(dialect), max_size=2))) if "system" in features else (),
        turns=draw(turns_of(dialect, tools)),
        tools=tools,
        tool_choice=draw(choices_of(dialect, tools)),
        parallel_tools=draw(st.none() | st.sampled_from(parallel)) if tools and parallel else None,
        max_output_tokens=value("max_output_tokens", st.integers(1, 10**6)),
        stop=tuple(draw(st.lists(WORDS, max_size=4))) if "stop" in features else (),
        sampling=draw(samplings(dialect)),
        output=draw(outputs(dialect)),
        reasoning=draw(_reasonings(dialect)),
        user=value("user", NAMES),
        tier=value("tier", st.sampled_from(dialect.tiers)),
        cache=value("cache_whole", st.sampled_from(dialect.lifetimes)),
        cache_key=value("cache_key", NAMES),
        verbosity=value("verbosity", st.sampled_from(dialect.verbosities)),
        metadata=value("metadata", st.just(msgspec.Raw(b'{"team":"blue"}'))),
        stream=dialect.streams and draw(st.booleans()),
    )


SCORES = st.builds(
    TokenScore,
    token=WORDS,
    logprob=st.integers(-500, 0).map(lambda number: number / 100),
    bytes=st.none() | st.lists(st.integers(0, 255), min_size=1, max_size=3).map(tuple),
    top=st.lists(st.builds(TokenScore, token=WORDS, logprob=st.just(-0.5)), max_size=2).map(tuple),
)
CITATIONS = st.builds(
    Citation,
    url=NAMES.map("https://example.com/{}".format),
    title=WORDS,
    start=st.integers(0, 9),
    end=st.integers(10, 19),
)


def answer_texts(dialect: Dialect) -> SearchStrategy[Text]:
    return st.builds(
        Text,
        text=WORDS,
        citations=st.lists(CITATIONS, max_size=2).map(tuple) if dialect.has_citations else st.just(()),
        scores=st.lists(SCORES, max_size=2).map(tuple) if dialect.has_scores else st.just(()),
        state=states_of(dialect, "text"),
    )


@st.composite
def answers(draw: st.DrawFn, dialect: Dialect) -> Choice:
    parts: list[AnswerPart] = []
    if dialect.has_thinking:
        parts += draw(st.lists(thoughts(dialect), max_size=1))
    parts += draw(st.lists(answer_texts(dialect), max_size=dialect.reply_texts))
    if dialect.has_media:
        parts += draw(st.lists(media(dialect, kinds=("image",)), max_size=1))
    if dialect.has_refusal and draw(st.booleans()):
        return Choice(parts=(*parts, Refusal(text=draw(WORDS))), finish="refusal")
    made = draw(st.lists(_answer_calls(dialect), max_size=2))
    if made:
        return Choice(parts=(*parts, *made), finish="tool_calls")
    if dialect.has_stop_sequence and draw(st.booleans()):
        return Choice(parts=tuple(parts), finish="stop_sequence", stop_sequence=draw(WORDS))
    return Choice(parts=tuple(parts), finish=draw(st.sampled_from(dialect.finishes)))


@st.composite
def _answer_calls(draw: st.DrawFn, dialect: Dialect) -> ToolCall:
    tool = Tool(name=draw(NAMES), is_custom=dialect.has_custom_calls and draw(st.booleans()))
    return draw(calls(dialect, (tool,), cached=False))


def usages(dialect: Dialect) -> SearchStrategy[Usage]:
    return st.fixed_dictionaries(dict.fromkeys(dialect.buckets, COUNTS)).map(lambda counts: Usage(**counts))


@st.composite
def replies(draw: st.DrawFn, dialect: Dialect) -> Reply:
    """An answer that the dialect can say without loss, all ids of calls different."""
    choices = draw(st.lists(answers(dialect), min_size=1, max_size=dialect.max_choices))
    calls_made = iter(range(99))

    def numbered(part: AnswerPart) -> AnswerPart:
        if isinstance(part, ToolCall):
            return msgspec.structs.replace(part, call_id=f"call_{next(calls_made)}", cache=None)
        return msgspec.structs.replace(part, cache=None) if isinstance(part, Media | Text) else part

    return Reply(
        reply_id=dialect.reply_prefix + draw(NAMES),
        model="some-model",
        choices=tuple(
            msgspec.structs.replace(choice, parts=tuple(numbered(part) for part in choice.parts)) for choice in choices
        ),
        usage=draw(usages(dialect)),
        tier=draw(st.sampled_from(dialect.reply_tiers)),
    )


def chunked(data: bytes) -> SearchStrategy[list[bytes]]:
    """The bytes cut anywhere."""
    cuts = st.lists(st.integers(0, len(data)), max_size=8).map(sorted)
    return cuts.map(lambda places: [data[a:b] for a, b in zip([0, *places], [*places, len(data)], strict=True)])
