"""Writing a conversation as a request of the dialect.

Results of tools are messages of their own and hold text only; their images stand in a user message behind all of them.
"""

import hashlib
import re
from collections.abc import Iterable, Iterator

import msgspec

from trollproxy.chat import (
    CacheLifetime,
    CannotSay,
    Effort,
    Media,
    Part,
    Reasoning,
    Refusal,
    Request,
    Text,
    Thinking,
    Tool,
    ToolCall,
    ToolChoice,
    ToolResult,
    Turn,
)
from trollproxy.wire.data_urls import write_data_url
from trollproxy.wire.format import Target

Members = dict[str, object]

# The vendor's own models take only the newer name of the output limit; servers that speak its dialect mostly know only
# the older one, and it still works at the vendor for models that do not reason.
_NEWER_LIMIT = re.compile(r"(?:openai/)?(?:gpt-[5-9]|o\d|codex|chatgpt)")
MAX_STOPS = 4
MAX_USER = 128
MAX_MARKS = 4
_RECORDINGS = {"audio/wav": "wav", "audio/x-wav": "wav", "audio/wave": "wav", "audio/mp3": "mp3", "audio/mpeg": "mp3"}
_LIFETIMES: dict[CacheLifetime, str] = {"5m": "30m", "30m": "30m", "1h": "12h", "12h": "12h"}
_BUDGETS: tuple[tuple[int, Effort], ...] = ((1024, "minimal"), (4096, "low"), (12_288, "medium"), (24_576, "high"))
_NO_PARAMETERS = msgspec.Raw(b'{"type":"object","properties":{}}')


def write_request(request: Request, target: Target) -> bytes:
    if len(request.stop) > MAX_STOPS:
        raise CannotSay("stop", f"it takes at most {MAX_STOPS} stop sequences")
    marks = _last_marks(request)
    members: Members = {"model": target.model, "messages": list(_messages(request, marks))}
    members |= _tools(request) | _sampling(request) | _answer(request)
    members |= _given(
        prompt_cache_key=request.cache_key,
        safety_identifier=_user(request.user),
        service_tier=request.tier,
        metadata=request.metadata,
    )
    if request.max_output_tokens is not None:
        name = "max_completion_tokens" if _NEWER_LIMIT.match(target.model) else "max_tokens"
        members[name] = request.max_output_tokens
    if request.stream:
        members |= {"stream": True, "stream_options": {"include_usage": True}}
    return msgspec.json.encode(members)


def _given(**members: object) -> Members:
    return {name: value for name, value in members.items() if value is not None}


def _messages(request: Request, marks: set[int]) -> Iterator[Members]:
    if request.system:
        yield {"role": "system", "content": _content(request.system, marks)}
    for turn in request.turns:
        if turn.role == "assistant":
            yield _assistant(turn, marks)
        elif turn.role == "system":
            yield {"role": "system", "content": _content(turn.parts, marks)}
        else:
            yield from _user_messages(turn, marks)


def _user_messages(turn: Turn, marks: set[int]) -> Iterator[Members]:
    """The results of tools, then everything else, the media of results first."""
    results = [part for part in turn.parts if isinstance(part, ToolResult)]
    for result in results:
        yield {"role": "tool", "tool_call_id": result.call_id, "content": _result_text(result)}
    shown: list[Part] = []
    for result in results:
        media = [part for part in result.parts if isinstance(part, Media)]
        if media:
            shown += [Text(text=f"What {result.name or 'the tool'} returned for {result.call_id}:"), *media]
    others = [part for part in turn.parts if not isinstance(part, ToolResult)]
    if shown or others or not results:
        yield {"role": "user", "content": _content([*shown, *others], marks)}


def _result_text(result: ToolResult) -> str:
    texts = "\n".join(part.text for part in result.parts if isinstance(part, Text))
    if not texts and any(isinstance(part, Media) for part in result.parts):
        texts = "The result is shown below."
    return f"Error: {texts}" if result.is_error else texts


def _assistant(turn: Turn, marks: set[int]) -> Members:
    message: Members = {"role": "assistant"}
    thoughts = [part.text for part in turn.parts if isinstance(part, Thinking) and _is_own(part)]
    words = [part for part in turn.parts if isinstance(part, Text | Media)]
    refusals = [part.text for part in turn.parts if isinstance(part, Refusal)]
    calls = [_call(part) for part in turn.parts if isinstance(part, ToolCall)]
    message["content"] = _content(words, marks) if words else None
    return message | {
        name: value
        for name, value in (
            ("reasoning_content", "".join(thoughts)),
            ("refusal", "".join(refusals)),
            ("tool_calls", calls),
        )
        if value
    }


def _is_own(thought: Thinking) -> bool:
    return thought.state is not None and thought.state.origin == "openai_chat" and bool(thought.text)


def _call(call: ToolCall) -> Members:
    if call.is_custom:
        return {"id": call.call_id, "type": "custom", "custom": {"name": call.name, "input": call.arguments}}
    function = {"name": call.name, "arguments": call.arguments or "{}"}
    return {"id": call.call_id, "type": "function", "function": function}


def _content(parts: Iterable[Part], marks: set[int]) -> str | list[Members]:
    """One plain text as a string, which every server takes; else a list."""
    listed = list(parts)
    if not listed:
        return ""
    first = listed[0]
    if len(listed) == 1 and isinstance(first, Text) and id(first) not in marks:
        return first.text
    return [written for part in listed for written in _part(part, marks)]


def _part(part: Part, marks: set[int]) -> Iterator[Members]:
    if isinstance(part, Media):
        if part.context is not None:
            yield {"type": "text", "text": part.context}
        written = _media(part)
    else:
        assert isinstance(part, Text)
        written = {"type": "text", "text": part.text}
    if id(part) in marks and part.cache is not None:
        written["prompt_cache_breakpoint"] = {"mode": "explicit", "ttl": _LIFETIMES[part.cache]}
    yield written


def _media(media: Media) -> Members:
    if media.kind == "image":
        url = media.url or write_data_url(media.media_type or "image/png", media.data or "")
        return {"type": "image_url", "image_url": {"url": url, **_given(detail=media.detail)}}
    if media.kind == "audio":
        kind = _RECORDINGS.get(media.media_type or "")
        if kind is None:
            raise CannotSay("audio_data", "it takes recordings as wav and mp3 only")
        return {"type": "input_audio", "input_audio": {"data": media.data, "format": kind}}
    if media.text is not None:
        return {"type": "text", "text": f"{media.name}:\n{media.text}" if media.name else media.text}
    assert media.data is not None, "`carries` has no other document"
    media_type = media.media_type or "application/pdf"
    name = media.name or f"document.{media_type.rpartition('/')[2]}"
    return {"type": "file", "file": {"filename": name, "file_data": write_data_url(media_type, media.data)}}


def _last_marks(request: Request) -> set[int]:
    """The parts whose cache mark is written: the vendor takes four, and the last ones cover the most."""
    parts: list[Part] = [*request.system, *(part for turn in request.turns for part in turn.parts)]
    marked = [id(part) for part in parts if isinstance(part, Text | Media) and part.cache is not None]
    return set(marked[-MAX_MARKS:])


def _tools(request: Request) -> Members:
    members = _given(parallel_tool_calls=request.parallel_tools) if request.tools else {}
    if request.tools:
        members["tools"] = [_tool(tool) for tool in request.tools]
    if request.tool_choice is not None and request.tools:
        members["tool_choice"] = _choice(request.tool_choice, request)
    return members


def _tool(tool: Tool) -> Members:
    described = {"name": tool.name, **_given(description=tool.description)}
    if tool.is_custom:
        return {"type": "custom", "custom": described | _given(format=tool.grammar)}
    described |= {"parameters": tool.parameters or _NO_PARAMETERS, **_given(strict=tool.strict)}
    return {"type": "function", "function": described}


def _choice(choice: ToolChoice, request: Request) -> object:
    if not choice.names:
        return "required" if choice.mode == "any" else choice.mode
    custom = {tool.name for tool in request.tools if tool.is_custom}
    named = [
        {"type": "custom", "custom": {"name": name}}
        if name in custom
        else {"type": "function", "function": {"name": name}}
        for name in choice.names
    ]
    if len(named) == 1 and choice.mode == "any":
        return named[0]
    mode = "required" if choice.mode == "any" else "auto"
    return {"type": "allowed_tools", "allowed_tools": {"mode": mode, "tools": named}}


def _sampling(request: Request) -> Members:
    sampling = request.sampling
    members = _given(
        temperature=sampling.temperature,
        top_p=sampling.top_p,
        seed=sampling.seed,
        presence_penalty=sampling.presence_penalty,
        frequency_penalty=sampling.frequency_penalty,
        logit_bias=sampling.logit_bias,
        stop=list(request.stop) or None,
    )
    if sampling.logprobs is not None:
        members |= {"logprobs": True, **_given(top_logprobs=sampling.logprobs or None)}
    return members | ({"n": sampling.choices} if sampling.choices != 1 else {})


def _answer(request: Request) -> Members:
    """The form of the answer, and how much to think before it."""
    members = _given(verbosity=request.verbosity, reasoning_effort=_effort(request.reasoning))
    output = request.output
    if output is None:
        return members
    if output.schema is None:
        return members | {"response_format": {"type": "json_object"}}
    schema: Members = {"name": output.name or "answer", "schema": output.schema}
    schema |= _given(description=output.description, strict=output.strict)
    return members | {"response_format": {"type": "json_schema", "json_schema": schema}}


def _effort(reasoning: Reasoning | None) -> str | None:
    if reasoning is None:
        return None
    if reasoning.mode == "off":
        return "none"
    if reasoning.effort is not None or reasoning.budget_tokens is None:
        return reasoning.effort
    return next((effort for most, effort in _BUDGETS if reasoning.budget_tokens <= most), "xhigh")


def _user(user: str | None) -> str | None:
    """Who asks, as long as the vendor takes it."""
    if user is None or len(user) <= MAX_USER:
        return user
    return hashlib.sha256(user.encode()).hexdigest()
