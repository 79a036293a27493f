"""Writing a conversation as a request of the dialect.

Results of tools are messages of their own and hold text only; their images stand in a user message behind all of them.
"""

import hashlib
import re
from collections.abc import Iterable, Iterator, Sequence

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
from trollproxy.wire.body import decode_reply
from trollproxy.wire.data_urls import write_data_url
from trollproxy.wire.format import Target
from trollproxy.wire.openai_chat.answers import REASONING
from trollproxy.wire.openai_chat.replies import write_call

Members = dict[str, object]

# A model's name is all that tells the vendor's own service from the many that speak its dialect. Those refuse members
# that they do not know, and several take a list of texts for a mistake, so they get what the dialect had in its youth.
_OWN = re.compile(r"(?:openai/|ft:)?(?:gpt-(?!oss)|o\d|codex|chatgpt)")
# The vendor's reasoning models take only the newer name of the output limit; the older one works for the rest of its
# models, and is the only one that most others know.
_NEWER_LIMIT = re.compile(r"(?:openai/|ft:)?(?:gpt-(?:[5-9]|1\d)|o\d|codex|chatgpt)")
_TAKES_MARKS = re.compile(r"(?:openai/|ft:)?gpt-(?:5\.(?:[6-9]|1\d)|[6-9]|1\d)")  # the vendor says from which on
_BETWEEN_TEXTS = "\n\n"
_LIST = 2  # texts make one
MAX_STOPS = 4
MAX_USER = 128
MAX_MARKS = 4
_RECORDINGS = {"audio/wav": "wav", "audio/x-wav": "wav", "audio/wave": "wav", "audio/mp3": "mp3", "audio/mpeg": "mp3"}
_LIFETIMES: dict[CacheLifetime, str] = {"5m": "30m", "30m": "30m", "1h": "12h", "12h": "12h"}
_BUDGETS: tuple[tuple[int, Effort], ...] = ((1024, "minimal"), (4096, "low"), (12_288, "medium"), (24_576, "high"))


class _Form(msgspec.Struct):
    """As `chat.Tool.grammar` holds it."""

    syntax: str | None = None
    definition: str | None = None


_FORM = msgspec.json.Decoder(_Form)
_NO_SAMPLING = Sampling()
_NO_PARAMETERS = msgspec.Raw(b'{"type":"object","properties":{}}')


def write_request(request: Request, target: Target) -> bytes:
    if len(request.stop) > MAX_STOPS:
        raise CannotSay("stop", f"it takes at most {MAX_STOPS} stop sequences")
    is_own = _OWN.match(target.model) is not None
    marks = _last_marks(request) if _TAKES_MARKS.match(target.model) else set()
    members: Members = {"model": target.model, "messages": list(_Messages(marks, takes_lists=is_own).write(request))}
    if request.tools:
        members |= _tools(request)
    if request.sampling != _NO_SAMPLING or request.stop:
        members |= _sampling(request)
    members |= _answer(request)
    members |= _given(service_tier=request.tier, metadata=request.metadata)
    if request.user is not None:
        members["safety_identifier" if is_own else "user"] = _user(request.user)
    if is_own:
        members |= _given(prompt_cache_key=request.cache_key)
    if request.max_output_tokens is not None:
        name = "max_completion_tokens" if _NEWER_LIMIT.match(target.model) else "max_tokens"
        members[name] = request.max_output_tokens
    if request.stream:
        members |= {"stream": True, "stream_options": {"include_usage": True}}
    return msgspec.json.encode(members)


def _given(**members: object) -> Members:
    return {name: value for name, value in members.items() if value is not None}


class _Messages:
    """The messages of one request."""

    __slots__ = ("_has_thoughts", "_marks", "_takes_lists")

    def __init__(self, marks: set[int], *, takes_lists: bool) -> None:
        self._has_thoughts = False
        self._marks = marks
        self._takes_lists = takes_lists

    def write(self, request: Request) -> Iterator[Members]:
        self._has_thoughts = any(_thoughts(turn.parts, "") for turn in request.turns)
        if request.system:
            yield {"role": "system", "content": self._content(request.system)}
        for turn in request.turns:
            if turn.role == "assistant":
                yield self._assistant(turn)
            elif turn.role == "system":
                yield {"role": "system", "content": self._content(turn.parts)}
            else:
                yield from self._user(turn)

    def _user(self, turn: Turn) -> Iterator[Members]:
        """The results of tools, then everything else, the media of results first."""
        results = [part for part in turn.parts if isinstance(part, ToolResult)]
        if not results:
            yield {"role": "user", "content": self._content(turn.parts)}
            return
        for result in results:
            yield {"role": "tool", "tool_call_id": result.call_id, "content": self._result(result)}
        shown: list[Part] = []
        for result in results:
            media = [part for part in result.parts if isinstance(part, Media)]
            if media:
                shown += [Text(text=f"What {result.name or 'the tool'} returned for {result.call_id}:"), *media]
        others = [part for part in turn.parts if not isinstance(part, ToolResult)]
        if shown or others:
            yield {"role": "user", "content": self._content([*shown, *others])}

    def _result(self, result: ToolResult) -> str | list[Members]:
        text = _result_text(result)
        return [self._marked({"type": "text", "text": text}, result)] if id(result) in self._marks else text

    def _assistant(self, turn: Turn) -> Members:
        words: list[Part] = []
        calls: list[Members] = []
        others: list[Part] = []
        for part in turn.parts:
            if isinstance(part, Text):
                words.append(part)
            elif isinstance(part, ToolCall):
                calls.append(write_call(part))
            else:
                (words if isinstance(part, Media) else others).append(part)
        refusal = "".join([part.text for part in others if isinstance(part, Refusal)])
        # Nothing at all is refused by servers; "" is not.
        content = self._content(words, between="") if words or not (refusal or calls) else None
        message: Members = {"role": "assistant", "content": content}
        if calls and self._has_thoughts:  # DeepSeek wants its thoughts back with every call, were there none too
            message["reasoning_content"] = ""
        for name in ("", REASONING) if others else ():
            thoughts = _thoughts(others, name)
            if thoughts:
                message[name or "reasoning_content"] = thoughts
        if refusal:
            message["refusal"] = refusal
        if calls:
            message["tool_calls"] = calls
        return message

    def _content(self, parts: Sequence[Part], *, between: str = _BETWEEN_TEXTS) -> str | list[Members]:
        """One plain text as a string, which every server takes; else a list."""
        texts = [part.text for part in parts if isinstance(part, Text) and id(part) not in self._marks]
        if len(texts) == len(parts) and (len(texts) < _LIST or not self._takes_lists):
            return between.join(texts)
        return [written for part in parts for written in self._part(part)]

    def _part(self, part: Part) -> Iterator[Members]:
        if isinstance(part, Media):
            if part.context is not None:
                yield {"type": "text", "text": part.context}
            yield self._marked(_media(part), part)
        else:
            assert isinstance(part, Text)
            yield self._marked({"type": "text", "text": part.text}, part)

    def _marked(self, written: Members, part: Text | Media | ToolResult) -> Members:
        if id(part) not in self._marks or part.cache is None:
            return written
        return written | {"prompt_cache_breakpoint": {"mode": "explicit", "ttl": _LIFETIMES[part.cache]}}


def _result_text(result: ToolResult) -> str:
    texts = "\n".join([part.text for part in result.parts if isinstance(part, Text)])
    if not texts and any(isinstance(part, Media) for part in result.parts):
        texts = "The result is shown below."
    return f"Error: {texts}" if result.is_error else texts


def _thoughts(parts: Iterable[Part], name: str) -> str:
    """The thoughts that came under this name from a provider of the dialect; others' are not for it to see."""
    own = State("openai_chat", name)
    return "".join([part.text for part in parts if isinstance(part, Thinking) and part.state == own])


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
    marked = [id(part) for part in parts if isinstance(part, Text | Media | ToolResult) and part.cache is not None]
    return set(marked[-MAX_MARKS:])


def _tools(request: Request) -> Members:
    members = _given(parallel_tool_calls=request.parallel_tools)
    members["tools"] = [_tool(tool) for tool in request.tools]
    if request.tool_choice is not None:
        members["tool_choice"] = _choice(request.tool_choice, request)
    return members


def _tool(tool: Tool) -> Members:
    described: Members = {"name": tool.name}
    if tool.description is not None:
        described["description"] = tool.description
    if tool.is_custom:
        return {"type": "custom", "custom": described | _given(format=_form(tool.grammar))}
    described["parameters"] = tool.parameters or _NO_PARAMETERS
    if tool.strict is not None:
        described["strict"] = tool.strict
    return {"type": "function", "function": described}


def _form(grammar: msgspec.Raw | None) -> object:
    """The form of a custom tool's input; this dialect puts a grammar on a level of its own."""
    form = decode_reply(_FORM, bytes(grammar)) if grammar is not None else None
    if form is None or form.definition is None:
        return grammar
    return {"type": "grammar", "grammar": {"syntax": form.syntax, "definition": form.definition}}


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


def _user(user: str) -> str:
    """Who asks, as long as the vendor takes it."""
    return user if len(user) <= MAX_USER else hashlib.sha256(user.encode()).hexdigest()
