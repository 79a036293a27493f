"""Reading a request as a conversation.

Developer and system messages are one thing; those before the first other message are the conversation's `system`.
Results of tools become a user's turn. What belongs to the vendor's own services is refused by its name.
"""

from collections.abc import Iterable
from typing import get_args

import msgspec

from trollproxy.chat import (
    CacheLifetime,
    Effort,
    Media,
    OutputSchema,
    Part,
    Reasoning,
    Refusal,
    Request,
    Sampling,
    State,
    Text,
    Thinking,
    Tool,
    ToolCall,
    ToolChoice,
    ToolResult,
    Turn,
)
from trollproxy.errors import InvalidRequest
from trollproxy.wire.body import NOT_TRANSLATABLE, check_model, decode_strictly, is_said
from trollproxy.wire.data_urls import read_data_url
from trollproxy.wire.openai_chat import shapes as s
from trollproxy.wire.openai_chat.answers import REASONING

_REQUEST = msgspec.json.Decoder(s.ChatRequest)
_FORM = msgspec.json.Decoder(s.CustomFormat)
_SYSTEM = (s.SystemMessage, s.DeveloperMessage)
_RESULTS = (s.ToolMessage, s.FunctionMessage)
_SPACES = b" \t\r\n"
_LIFETIMES: dict[str | None, CacheLifetime] = {None: "30m", "30m": "30m", "12h": "12h"}
_EPHEMERAL: dict[str | None, CacheLifetime] = {None: "5m", "5m": "5m", "1h": "1h"}
_FOREIGN: dict[str, str] = {
    "audio": "an answer in sound",
    "moderation": "the vendor's own moderation",
    "web_search_options": "the vendor's own search",
}
_PLAIN_TIERS = (None, "auto", "default")
_DOCUMENT_TYPES = {"pdf": "application/pdf", "txt": "text/plain", "md": "text/markdown", "csv": "text/csv"}


def read_request(body: bytes) -> Request:
    asked = decode_strictly(_REQUEST, body)
    check_model(asked.model)
    _refuse_foreign(asked)
    others = (place for place, message in enumerate(asked.messages) if not isinstance(message, _SYSTEM))
    leading = next(others, len(asked.messages))
    system = [text for message in asked.messages[:leading] for text in _system_texts(message)]
    return Request(
        model=asked.model,
        system=tuple(system),
        turns=tuple(_turns(asked.messages[leading:])),
        tools=tuple(_tools(asked)) if asked.tools or asked.functions else (),
        tool_choice=_tool_choice(asked),
        parallel_tools=asked.parallel_tool_calls,
        max_output_tokens=asked.max_completion_tokens if asked.max_completion_tokens is not None else asked.max_tokens,
        stop=_stop(asked.stop),
        sampling=_sampling(asked),
        output=_output(asked.response_format),
        reasoning=_reasoning(asked.reasoning_effort),
        user=asked.safety_identifier or asked.user,
        tier=None if asked.service_tier in _PLAIN_TIERS else asked.service_tier,
        cache=asked.prompt_cache_options.ttl if asked.prompt_cache_options is not None else None,
        cache_key=asked.prompt_cache_key,
        verbosity=asked.verbosity,
        metadata=_filled(asked.metadata),
        stream=bool(asked.stream),
        wants_usage=not asked.stream or bool(asked.stream_options and asked.stream_options.include_usage),
    )


def _refuse_foreign(asked: s.ChatRequest) -> None:
    for name, what in _FOREIGN.items():
        if is_said(getattr(asked, name)):
            raise _refusal(name, f"{what} is not to be had from other providers")
    if asked.modalities and asked.modalities != ["text"]:
        raise _refusal("modalities", "an answer in sound is not to be had from other providers")


def _turns(messages: Iterable[s.Message]) -> Iterable[Turn]:
    """A turn for each message; results of one round of calls together."""
    results: list[Part] = []
    calls = _Calls()
    for message in messages:
        if isinstance(message, _RESULTS):
            results.append(_result(message, calls))
            continue
        if results:
            yield Turn("user", tuple(results))
            results = []
        yield _turn(message, calls)
    if results:
        yield Turn("user", tuple(results))


class _Calls:
    """What results need to know of the calls before them.

    The deprecated functions have no ids: one call at a time, and its result names the function.
    """

    __slots__ = ("_old", "custom")

    def __init__(self) -> None:
        self._old: dict[str, int] = {}
        self.custom: set[str] = set()  # ids of calls of custom tools, whose results look like all others

    def next_old_id(self, name: str) -> str:
        self._old[name] = self._old.get(name, 0) + 1
        return self.latest_old_id(name)

    def latest_old_id(self, name: str) -> str:
        return f"call_{name}_{self._old.get(name, 1)}"


def _turn(message: s.Message, calls: _Calls) -> Turn:
    if isinstance(message, s.AssistantMessage):
        return Turn("assistant", tuple(_said(message, calls)))
    if isinstance(message, s.UserMessage):
        return Turn("user", tuple(_given(message.content)))
    return Turn("system", tuple(_system_texts(message)))


def _system_texts(message: s.Message) -> list[Text]:
    assert isinstance(message, _SYSTEM)
    parts = _parts(message.content)
    texts = [part for part in parts if isinstance(part, Text)]
    if len(texts) != len(parts):
        raise InvalidRequest("A system message holds text only.", param="messages")
    return texts


def _said(message: s.AssistantMessage, calls: _Calls) -> Iterable[Part]:
    """An answer of an earlier turn: thoughts, words, calls."""
    if is_said(message.audio):
        raise _refusal("messages.audio", "a recording of the vendor's is known to the vendor only")
    thoughts = message.reasoning_content or message.reasoning
    if thoughts:
        yield Thinking(text=thoughts, state=State("openai_chat", "" if message.reasoning_content else REASONING))
    yield from _parts(message.content or [])
    if message.refusal:
        yield Refusal(text=message.refusal)
    for call in message.tool_calls or ():
        if call.custom is not None:
            calls.custom.add(call.id)
        yield _call(call)
    if message.function_call is not None:
        yield ToolCall(
            call_id=calls.next_old_id(message.function_call.name),
            name=message.function_call.name,
            arguments=message.function_call.arguments or "",
        )


def _call(call: s.Call) -> ToolCall:
    if call.custom is not None:
        return ToolCall(call_id=call.id, name=call.custom.name, arguments=call.custom.input or "", is_custom=True)
    if call.function is None:
        raise InvalidRequest("A tool call needs a `function` or a `custom`.", param="messages.tool_calls")
    return ToolCall(call_id=call.id, name=call.function.name, arguments=call.function.arguments or "")


def _result(message: s.ToolMessage | s.FunctionMessage, calls: _Calls) -> ToolResult:
    if isinstance(message, s.FunctionMessage):
        texts = (Text(text=message.content),) if message.content else ()
        return ToolResult(call_id=calls.latest_old_id(message.name), name=message.name, parts=texts)
    parts = _given(message.content)
    marks = [part.cache for part in parts if part.cache is not None]
    bare = tuple([msgspec.structs.replace(part, cache=None) for part in parts] if marks else parts)
    return ToolResult(
        call_id=message.tool_call_id,
        name=message.name,
        parts=bare,
        is_custom=message.tool_call_id in calls.custom,
        cache=marks[-1] if marks else None,
    )


def _given(content: s.Content) -> list[Text | Media]:
    """What others than the model say."""
    parts = _parts(content)
    given = [part for part in parts if not isinstance(part, Refusal)]
    if len(given) != len(parts):
        raise InvalidRequest("Only the assistant refuses.", param="messages.content")
    return given


def _parts(content: s.Content | list[s.ContentPart]) -> list[Text | Media | Refusal]:
    if isinstance(content, str):
        return [Text(text=content)] if content else []
    return list(map(_part, content))


def _part(part: s.ContentPart) -> Text | Media | Refusal:
    match part:
        case s.TextPart():
            return Text(text=part.text, cache=_cache(part))
        case s.RefusalPart():
            return Refusal(text=part.refusal)
        case s.ImagePart():
            return _image(part)
        case s.AudioPart():
            audio = part.input_audio
            return Media(kind="audio", data=audio.data, media_type=f"audio/{audio.format}", cache=_cache(part))
        case s.FilePart():
            return _file(part)


def _image(part: s.ImagePart) -> Media:
    inline = read_data_url(part.image_url.url)
    detail = None if part.image_url.detail == "auto" else part.image_url.detail
    if inline is None:
        return Media(kind="image", url=part.image_url.url, detail=detail, cache=_cache(part))
    media_type, data = inline
    return Media(kind="image", data=data, media_type=media_type, detail=detail, cache=_cache(part))


def _file(part: s.FilePart) -> Media:
    file, cache = part.file, _cache(part)
    if file.file_id is not None:
        return Media(kind="document", file_id=file.file_id, name=file.filename, cache=cache)
    if file.file_data is None:
        raise InvalidRequest("A `file` needs `file_data` or a `file_id`.", param="messages.content.file")
    ending = (file.filename or "").rpartition(".")[2].lower()
    media_type, data = read_data_url(file.file_data) or (_DOCUMENT_TYPES.get(ending, "application/pdf"), file.file_data)
    return Media(kind="document", data=data, media_type=media_type, name=file.filename, cache=cache)


def _cache(part: s.Marked) -> CacheLifetime | None:
    if part.prompt_cache_breakpoint is not None:
        return _LIFETIMES[part.prompt_cache_breakpoint.ttl]
    return _EPHEMERAL[part.cache_control.ttl] if part.cache_control is not None else None


def _tools(asked: s.ChatRequest) -> Iterable[Tool]:
    for tool in asked.tools or ():
        cache = _EPHEMERAL[tool.cache_control.ttl] if tool.cache_control is not None else None
        if isinstance(tool, s.CustomTool):
            custom = tool.custom
            grammar = _grammar(custom.format)
            yield Tool(name=custom.name, description=custom.description, is_custom=True, grammar=grammar, cache=cache)
        else:
            yield _function(tool.function, cache)
    for function in asked.functions or ():
        yield _function(function, None)


def _grammar(given: msgspec.Raw) -> msgspec.Raw | None:
    """The form of a custom tool's input, without the extra level that this dialect puts a grammar on."""
    raw = _raw(given)
    if raw is None:
        return None
    form = decode_strictly(_FORM, bytes(raw), place="tools.custom.format")
    if form.grammar is None:
        return raw
    flat = {"type": "grammar", "syntax": form.grammar.syntax, "definition": form.grammar.definition}
    return msgspec.Raw(msgspec.json.encode(flat))


def _function(function: s.Function, cache: CacheLifetime | None) -> Tool:
    return Tool(
        name=function.name,
        description=function.description,
        parameters=_raw(function.parameters),
        strict=function.strict,
        cache=cache,
    )


def _tool_choice(asked: s.ChatRequest) -> ToolChoice | None:
    choice = asked.tool_choice if asked.tool_choice is not None else asked.function_call
    if choice is None:
        return None
    if isinstance(choice, s.Named):
        return ToolChoice(mode="any", names=(choice.name,))
    if isinstance(choice, s.NamedChoice):
        return _named_choice(choice)
    return ToolChoice(mode="any" if choice == "required" else "none" if choice == "none" else "auto")


def _named_choice(choice: s.NamedChoice) -> ToolChoice:
    named = choice.function or choice.custom
    if named is not None:
        return ToolChoice(mode="any", names=(named.name,))
    if choice.allowed_tools is None:
        raise InvalidRequest("`tool_choice` names no tool.", param="tool_choice")
    return ToolChoice(
        mode="any" if choice.allowed_tools.mode == "required" else "auto",
        names=tuple(_allowed(tool) for tool in choice.allowed_tools.tools),
    )


def _allowed(tool: s.AllowedTool) -> str:
    named = tool.function or tool.custom
    if named is None:
        raise _refusal("tool_choice.allowed_tools.tools", "only functions and custom tools are to be had there")
    return named.name


def _stop(stop: str | list[str] | None) -> tuple[str, ...]:
    if stop is None:
        return ()
    return (stop,) if isinstance(stop, str) else tuple(stop)


def _sampling(asked: s.ChatRequest) -> Sampling:
    return Sampling(
        temperature=asked.temperature,
        top_p=asked.top_p,
        top_k=asked.top_k,
        seed=asked.seed,
        presence_penalty=asked.presence_penalty or None,
        frequency_penalty=asked.frequency_penalty or None,
        logit_bias=_filled(asked.logit_bias),
        logprobs=(asked.top_logprobs or 0) if asked.logprobs else None,
        choices=asked.n or 1,
    )


def _output(wanted: s.TextFormat | s.JsonFormat | s.SchemaFormat | None) -> OutputSchema | None:
    if isinstance(wanted, s.SchemaFormat):
        schema = wanted.json_schema
        return OutputSchema(
            schema=_raw(schema.schema) or msgspec.Raw(b"{}"),
            name=schema.name,
            description=schema.description,
            strict=schema.strict,
        )
    return OutputSchema() if isinstance(wanted, s.JsonFormat) else None


def _reasoning(effort: str | None) -> Reasoning | None:
    if effort is None:
        return None
    if effort == "none":
        return Reasoning(mode="off")
    known: Effort | None = next((name for name in get_args(Effort) if name == effort), None)
    if known is None:
        raise InvalidRequest(
            f"`reasoning_effort` is one of none, {', '.join(get_args(Effort))}.", param="reasoning_effort"
        )
    return Reasoning(effort=known)


def _raw(raw: msgspec.Raw) -> msgspec.Raw | None:
    return raw if is_said(raw) else None


def _filled(raw: msgspec.Raw) -> msgspec.Raw | None:
    """An object that says something: an empty one is what the vendor takes for none."""
    return raw if is_said(raw) and bytes(raw).translate(None, _SPACES) != b"{}" else None


def _refusal(param: str, why: str) -> InvalidRequest:
    return InvalidRequest(f"`{param}` cannot be carried to this model: {why}.", code=NOT_TRANSLATABLE, param=param)
