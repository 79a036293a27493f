"""How the demo provider understands a request: what was said, how large it is, which tool to call with what.

Owns the reading of both formats into one `Prompt`, as loosely as a demo may: what it does not know is counted and
otherwise ignored. Pure. It must not know answers.
"""

import re
from collections.abc import Iterator
from typing import Any, Literal

import msgspec

from trollproxy.chat import FormatName

Json = dict[str, Any]
Ttl = Literal["5m", "1h"]

BYTES_PER_TOKEN = 4
DEFAULT_MAX_TOKENS = 1_000_000  # Chat Completions without a limit; longer than anything that is scripted
MAX_SCHEMA_DEPTH = 6  # a schema may refer to itself
MAX_ITEMS = 10  # of an array that wants a minimum

_PLAUSIBLE = {
    "city": "Trondheim",
    "location": "Trondheim, Norway",
    "country": "Norway",
    "name": "Dovregubben",
    "query": "how to cross a bridge",
    "path": "README.md",
    "url": "https://example.com/",
    "email": "troll@example.com",
    "date": "2026-01-01",
    "unit": "celsius",
}
_FORMATS = {
    "date": "2026-01-01",
    "date-time": "2026-01-01T12:00:00Z",
    "time": "12:00:00Z",
    "email": "troll@example.com",
    "uri": "https://example.com/",
    "uuid": "00000000-0000-4000-8000-000000000000",
}
_TOOL_WORD = re.compile(r"\btools?\b", re.IGNORECASE)


class InvalidDemand(Exception):  # noqa: N818 - named as in errors: by what is wrong
    """The request is one that a provider would answer with 400."""


class Part(msgspec.Struct, frozen=True, kw_only=True):
    """A piece of the prompt in the order in which a provider would cache it."""

    size: int
    is_system: bool = False
    cache_ttl: Ttl | None = None

    @property
    def tokens(self) -> int:
        return -(-self.size // BYTES_PER_TOKEN)


class Tool(msgspec.Struct, frozen=True):
    """A tool that the client offers."""

    name: str
    schema: Json


class Prompt(msgspec.Struct, frozen=True, kw_only=True):
    """All that matters of a request. `forced_tool`: a name, "" for whichever, None for the provider's own choice."""

    format: FormatName
    model: str
    stream: bool
    stream_usage: bool
    max_tokens: int
    choices: int
    messages: int
    parts: tuple[Part, ...]
    last_user_text: str
    tool_result: str | None
    tools: tuple[Tool, ...]
    forced_tool: str | None
    says_cached: bool

    def tool_to_call(self) -> Tool | None:
        if not self.tools or self.tool_result is not None:
            return None
        if self.forced_tool is not None:
            return next((tool for tool in self.tools if tool.name == self.forced_tool), self.tools[0])
        named = [tool for tool in self.tools if tool.name.lower() in self.last_user_text.lower()]
        if named or _TOOL_WORD.search(self.last_user_text):
            return (named or self.tools)[0]
        return None


def read_prompt(format: FormatName, body: bytes, *, is_count: bool = False) -> Prompt:  # noqa: A002 - as in records
    """Raise InvalidDemand where a provider would answer 400."""
    request = _request(body)
    messages = request["messages"]
    is_openai = format == "openai_chat"
    offered, forced = _tools(request)
    last = messages[-1]
    options = request.get("stream_options")
    return Prompt(
        format=format,
        model=request["model"],
        stream=request.get("stream") is True,
        stream_usage=not is_openai or (isinstance(options, dict) and options.get("include_usage") is True),
        max_tokens=_max_tokens(request, is_required=not is_openai and not is_count),
        choices=_positive(request, "n", 1) if is_openai else 1,
        messages=len(messages),
        parts=tuple(_parts(request)),
        last_user_text=next((_text(m.get("content")) for m in reversed(messages) if m.get("role") == "user"), ""),
        tool_result=_tool_result(last),
        tools=offered if last.get("role") == "user" else (),
        forced_tool=forced,
        says_cached="cached" in _compact([request.get("metadata"), request.get("user")]),
    )


def _request(body: bytes) -> Json:
    try:
        request = msgspec.json.decode(body)
    except msgspec.DecodeError as wrong:
        raise InvalidDemand(f"The body is not JSON: {wrong}") from None
    if not isinstance(request, dict):
        raise InvalidDemand("The body is not an object.")
    if not isinstance(request.get("model"), str):
        raise InvalidDemand("model: a string is required")
    messages = request.get("messages")
    if not isinstance(messages, list) or not messages or not all(isinstance(m, dict) for m in messages):
        raise InvalidDemand("messages: at least one is required")
    return request


def _max_tokens(request: Json, *, is_required: bool) -> int:
    name = "max_completion_tokens" if request.get("max_completion_tokens") is not None else "max_tokens"
    if is_required and request.get(name) is None:
        raise InvalidDemand("max_tokens: Field required")
    return _positive(request, name, DEFAULT_MAX_TOKENS)


def _positive(request: Json, name: str, default: int) -> int:
    value = request.get(name)
    if value is None:
        return default
    if not isinstance(value, int) or value < 1:
        raise InvalidDemand(f"{name}: must be a positive integer")
    return value


def _parts(request: Json) -> Iterator[Part]:
    """Tools, system, messages: Anthropic's order, in which a cache mark covers what stands before it."""
    for tool in _list(request.get("tools")):
        yield Part(size=len(_compact(tool)), cache_ttl=_ttl(tool))
    yield from _content_parts(request.get("system"), is_system=True)
    for message in request["messages"]:
        is_system = str(message.get("role")) in {"system", "developer"}
        yield from _content_parts(message.get("content"), is_system=is_system)
        if message.get("tool_calls"):
            yield Part(size=len(_compact(message["tool_calls"])))
    if request.get("cache_control"):  # a mark on the whole request stands at its end
        yield Part(size=0, cache_ttl=_ttl(request))


def _content_parts(content: object, *, is_system: bool) -> Iterator[Part]:
    blocks = [content] if isinstance(content, str) else _list(content)
    for block in blocks:
        words = _text([block]) or ("" if block == "" else _compact(block))
        yield Part(size=len(words.encode(errors="replace")), is_system=is_system, cache_ttl=_ttl(block))


def _ttl(block: object) -> Ttl | None:
    mark = block.get("cache_control") if isinstance(block, dict) else None
    if not isinstance(mark, dict):
        return None
    return "1h" if mark.get("ttl") == "1h" else "5m"


def _text(content: object) -> str:
    """The words of a message: its string, or those of its text blocks."""
    if isinstance(content, str):
        return content
    texts = (block if isinstance(block, str) else _block_text(block) for block in _list(content))
    return "\n".join(text for text in texts if text)


def _block_text(block: object) -> str:
    text = block.get("text") if isinstance(block, dict) else None
    return text if isinstance(text, str) else ""


def _tool_result(message: Json) -> str | None:
    if message.get("role") == "tool":
        return _text(message.get("content"))
    results = [b for b in _list(message.get("content")) if isinstance(b, dict) and b.get("type") == "tool_result"]
    return _text(results[-1].get("content")) if results else None


def _tools(request: Json) -> tuple[tuple[Tool, ...], str | None]:
    """The tools on offer (none when the client forbids calls), and which of them must be called."""
    choice = request.get("tool_choice")
    kind = str(choice.get("type") if isinstance(choice, dict) else choice)
    if kind == "none":
        return (), None
    offered = tuple(tool for tool in map(_tool, _list(request.get("tools"))) if tool is not None)
    if kind in {"any", "required"}:
        return offered, ""
    if isinstance(choice, dict) and kind in {"tool", "function"}:
        function = choice.get("function")
        return offered, str((function if isinstance(function, dict) else choice).get("name", ""))
    return offered, None


def _tool(tool: object) -> Tool | None:
    if not isinstance(tool, dict):
        return None
    function = tool.get("function")
    described = function if isinstance(function, dict) else tool
    schema = described.get("parameters") or described.get("input_schema")
    name = described.get("name")
    return Tool(name, schema if isinstance(schema, dict) else {}) if isinstance(name, str) and name else None


def arguments_for(schema: Json) -> Json:
    """Plausible arguments: the required properties, as their schema wants them."""
    made = _make(schema, schema, "", depth=0)
    return made if isinstance(made, dict) else {}


def _make(schema: object, root: Json, name: str, *, depth: int) -> object:
    schema = _resolve(schema, root)
    if depth > MAX_SCHEMA_DEPTH:
        return None
    for given in ("const", "default"):
        if given in schema:
            return schema[given]
    if _list(schema.get("enum")):
        return schema["enum"][0]
    kinds = _list(schema.get("type")) or [schema.get("type", "object" if "properties" in schema else "string")]
    if kinds[0] == "object":
        properties = _object(schema.get("properties"))
        required = map(str, _list(schema.get("required")))
        return {key: _make(properties.get(key), root, key, depth=depth + 1) for key in required}
    if kinds[0] == "array":
        item = _make(schema.get("items"), root, name, depth=depth + 1)
        return [item] * (schema["minItems"] if schema.get("minItems") in range(2, MAX_ITEMS) else 1)
    return _scalar(schema, str(kinds[0]), name)


def _scalar(schema: Json, kind: str, name: str) -> object:
    if kind in {"integer", "number"}:
        return schema.get("minimum", 1)
    if kind == "boolean":
        return True
    if kind == "null":
        return None
    return _FORMATS.get(str(schema.get("format"))) or _PLAUSIBLE.get(name.lower(), f"demo {name}".strip())


def _resolve(schema: object, root: Json) -> Json:
    """Follow references within the document and take the first of alternatives."""
    for _ in range(MAX_SCHEMA_DEPTH):
        if not isinstance(schema, dict):
            return {}
        alternatives = next((schema[word] for word in ("anyOf", "oneOf", "allOf") if _list(schema.get(word))), None)
        if isinstance(schema.get("$ref"), str):
            schema = _referred(schema["$ref"], root)
        elif alternatives:
            schema = alternatives[0]
        else:
            return schema
    return {}


def _referred(reference: str, root: Json) -> object:
    found: object = root
    for step in reference.removeprefix("#/").split("/"):
        found = found.get(step) if isinstance(found, dict) else None
    return found


def _object(value: object) -> Json:
    return value if isinstance(value, dict) else {}


def _list(value: object) -> list[Any]:
    return value if isinstance(value, list) else []


def _compact(value: object) -> str:
    return msgspec.json.encode(value).decode()
