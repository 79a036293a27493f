"""A conversation written as a request. It is never stored at the provider, so its thoughts are asked for encrypted."""

import hashlib
import re

import msgspec

from trollproxy.chat import (
    CacheLifetime,
    CannotSay,
    Citation,
    Media,
    OutputSchema,
    Part,
    Reasoning,
    Refusal,
    Request,
    Text,
    Thinking,
    ToolCall,
    ToolResult,
    Turn,
)
from trollproxy.wire.format import Target
from trollproxy.wire.openai_responses.media import write_context, write_media
from trollproxy.wire.openai_responses.sealed import own_thought
from trollproxy.wire.openai_responses.tools_out import write_tools

_LEAST_OUTPUT = 16  # the vendor's own bound
_LONGEST_USER = 128
_TIERS = {"standard": "default", "standard_only": "default"}
_KNOWN_TIERS = {"default", "flex", "scale", "priority", "fast", "ultrafast"}
_LIFETIMES: dict[CacheLifetime, str] = {"5m": "30m", "30m": "30m", "1h": "12h", "12h": "12h"}
_BUDGETS = ((2_048, "low"), (8_192, "medium"))
_DEFAULT_EFFORT = "medium"
_MODEL = re.compile(r"(?:.*/)?gpt-(?P<major>\d+)(?:\.(?P<minor>\d+))?")
_FIRST_WITH_BREAKPOINTS = (5, 6)

Item = dict[str, object] | msgspec.Raw


def write_request(request: Request, target: Target) -> bytes:
    takes_marks = _takes_marks(target.model)
    written = _Input(takes_marks=takes_marks)
    instructions = written.system(request.system)
    for turn in request.turns:
        written.turn(turn)
    body: dict[str, object] = {"model": target.model}
    if instructions is not None:
        body["instructions"] = instructions
    body["input"] = written.finish()
    body |= write_tools(request) | _write_sampling(request) | _write_labels(request)
    text = _write_text(request)
    if text:
        body["text"] = text
    if request.reasoning is not None:
        body["reasoning"] = _write_reasoning(request.reasoning)
    options = _write_cache(request, takes_marks=takes_marks)
    if options:
        body["prompt_cache_options"] = options
    if request.stream:
        body["stream"] = True
    return msgspec.json.encode(body | {"store": False})


class _Input:
    """The items, as they come."""

    __slots__ = ("_items", "_shown", "_takes_marks")

    def __init__(self, *, takes_marks: bool) -> None:
        self._items: list[Item] = []
        self._shown: list[dict[str, object]] = []  # pictures that the model made: the user shows them to it
        self._takes_marks = takes_marks

    def finish(self) -> list[Item]:
        self._show()
        return self._items

    def system(self, texts: tuple[Text, ...]) -> str | None:
        """What goes into `instructions`. There is no mark in there, nor a border between texts."""
        has_mark = self._takes_marks and any(text.cache is not None for text in texts)
        first, rest = (None, texts) if has_mark or not texts else (texts[0].text, texts[1:])
        if rest:
            self._message("developer", [self._content(text, "system") for text in rest])
        return first

    def turn(self, turn: Turn) -> None:
        content: list[dict[str, object]] = []
        for part in turn.parts:
            match part:
                case Text() | Refusal() | Media():
                    content += self._contents(part, turn.role)
                    continue
            content = self._close(turn.role, content)
            item = self._item(part)
            if item is not None:
                self._items.append(item)
        self._close(turn.role, content)

    def _close(self, role: str, content: list[dict[str, object]]) -> list[dict[str, object]]:
        if content:
            if role != "assistant":
                self._show()
            self._message("developer" if role == "system" else role, content)
        return []

    def _message(self, role: str, content: list[dict[str, object]]) -> None:
        self._items.append({"type": "message", "role": role, "content": content})

    def _show(self) -> None:
        if self._shown:
            self._message("user", self._shown)
            self._shown = []

    def _contents(self, part: Text | Refusal | Media, role: str) -> list[dict[str, object]]:
        if not isinstance(part, Media):
            return [self._content(part, role)]
        context = write_context(part)
        written = [*([context] if context else []), self._marked(write_media(part), part.cache)]
        if role != "assistant":
            return written
        self._shown += written
        return []

    def _content(self, part: Text | Refusal, role: str) -> dict[str, object]:
        if isinstance(part, Refusal):
            return {"type": "refusal", "refusal": part.text}
        if role != "assistant":
            return self._marked({"type": "input_text", "text": part.text}, part.cache)
        annotations = [annotation for citation in part.citations if (annotation := write_citation(citation))]
        said: dict[str, object] = {"type": "output_text", "text": part.text}
        return said | {"annotations": annotations} if annotations else said

    def _marked(self, content: dict[str, object], cache: CacheLifetime | None) -> dict[str, object]:
        if cache is None or not self._takes_marks:
            return content
        return content | {"prompt_cache_breakpoint": {"mode": "explicit", "ttl": _LIFETIMES[cache]}}

    def _item(self, part: Part) -> Item | None:
        match part:
            case Thinking():
                return own_thought(part)
            case ToolCall(is_custom=True):
                members = {"call_id": part.call_id, "name": part.name, "input": part.arguments}
                return {"type": "custom_tool_call", **members}
            case ToolCall():
                members = {"call_id": part.call_id, "name": part.name, "arguments": part.arguments or "{}"}
                return {"type": "function_call", **members}
            case ToolResult():
                kind = "custom_tool_call_output" if part.is_custom else "function_call_output"
                return {"type": kind, "call_id": part.call_id, "output": self._output(part)}
        return None

    def _output(self, result: ToolResult) -> object:
        parts = _told_error(result.parts) if result.is_error else result.parts
        is_marked = result.cache is not None and self._takes_marks
        if not is_marked and all(isinstance(part, Text) for part in parts) and len(parts) <= 1:
            return "".join(part.text for part in parts if isinstance(part, Text))
        contents = [content for part in parts or (Text(text=""),) for content in self._contents(part, "user")]
        contents[-1] = self._marked(contents[-1], result.cache)
        return contents


def _told_error(parts: tuple[Text | Media, ...]) -> tuple[Text | Media, ...]:
    match parts:
        case (Text(text=text), *_) if text.lower().startswith("error"):
            return parts
        case (Text(text=text), *rest):
            return (Text(text=f"Error: {text}"), *rest)
    return (Text(text="Error:"), *parts)


def write_citation(citation: Citation) -> dict[str, object] | None:
    """A place in the client's own document has no words here that lead anywhere; its title does."""
    if citation.url is not None:
        where = {"start_index": citation.start or 0, "end_index": citation.end or citation.start or 0}
        return {"type": "url_citation", "url": citation.url, "title": citation.title or "", **where}
    return None


def _write_sampling(request: Request) -> dict[str, object]:
    sampling = request.sampling
    members: dict[str, object] = {}
    include = ["reasoning.encrypted_content"]
    if request.max_output_tokens:
        members["max_output_tokens"] = max(_LEAST_OUTPUT, request.max_output_tokens)
    if sampling.temperature is not None:
        members["temperature"] = sampling.temperature
    if sampling.top_p is not None:
        members["top_p"] = sampling.top_p
    if sampling.logprobs is not None:
        members["top_logprobs"] = sampling.logprobs
        include.append("message.output_text.logprobs")
    return {**members, "include": include}


def _write_labels(request: Request) -> dict[str, object]:
    members: dict[str, object] = {}
    if request.user is not None:
        members["safety_identifier"] = _short(request.user)
    if request.tier is not None:
        tier = _TIERS.get(request.tier, request.tier)
        if tier not in _KNOWN_TIERS:
            raise CannotSay("tier", f"there is no `{request.tier}`")
        members["service_tier"] = tier
    if request.cache_key is not None:
        members["prompt_cache_key"] = request.cache_key
    if request.metadata is not None:
        members["metadata"] = request.metadata
    return members


def _short(user: str) -> str:
    return user if len(user) <= _LONGEST_USER else hashlib.blake2b(user.encode(), digest_size=32).hexdigest()


def _write_text(request: Request) -> dict[str, object]:
    members: dict[str, object] = {}
    if request.output is not None:
        members["format"] = _write_format(request.output)
    if request.verbosity is not None:
        members["verbosity"] = request.verbosity
    return members


def _write_format(output: OutputSchema) -> dict[str, object]:
    if output.schema is None:
        return {"type": "json_object"}
    members: dict[str, object] = {"type": "json_schema", "name": output.name or "answer", "schema": output.schema}
    if output.description is not None:
        members["description"] = output.description
    return members | {"strict": output.strict} if output.strict is not None else members


def _write_reasoning(reasoning: Reasoning) -> dict[str, object]:
    members: dict[str, object] = {}
    effort = _effort_of(reasoning)
    if effort is not None:
        members["effort"] = effort
    if reasoning.shows_thoughts:
        members["summary"] = "auto"
    return members


def _effort_of(reasoning: Reasoning) -> str | None:
    if reasoning.mode == "off":
        return "none"
    if reasoning.effort is not None:
        return reasoning.effort
    if reasoning.budget_tokens is not None:
        most = reasoning.budget_tokens
        return next((effort for budget, effort in _BUDGETS if most <= budget), "high")
    # The vendor's newer models do not think unless they are told to.
    return _DEFAULT_EFFORT if reasoning.mode is not None else None


def _write_cache(request: Request, *, takes_marks: bool) -> dict[str, object]:
    members: dict[str, object] = {}
    if request.cache is not None and takes_marks:
        members["ttl"] = _LIFETIMES[request.cache]
    if request.max_output_tokens == 0:
        members["prewarm"] = True
    return members


def _takes_marks(model: str) -> bool:
    """Older models refuse the members that say what to keep."""
    known = _MODEL.match(model)
    return known is not None and (int(known["major"]), int(known["minor"] or 0)) >= _FIRST_WITH_BREAKPOINTS
