"""The tools of a request, and which of them may be called, as the dialect writes them."""

import msgspec

from trollproxy.chat import Request, Tool, ToolChoice
from trollproxy.wire.body import decode_reply

_EMPTY = msgspec.Raw(b'{"type":"object","properties":{}}')
_MODES = {"auto": "auto", "none": "none", "any": "required"}


class _Nested(msgspec.Struct):
    """A grammar as the Chat Completions dialect writes it."""

    type: str
    grammar: dict[str, str]


_NESTED = msgspec.json.Decoder(_Nested)


def write_tools(request: Request) -> dict[str, object]:
    members: dict[str, object] = {}
    if request.tools:
        members["tools"] = [_write_tool(tool) for tool in request.tools]
    if request.tool_choice is not None:
        members["tool_choice"] = _write_choice(request.tool_choice, request.tools)
    if request.parallel_tools is not None:
        members["parallel_tool_calls"] = request.parallel_tools
    return members


def _write_tool(tool: Tool) -> dict[str, object]:
    written: dict[str, object] = {"type": _kind_of(tool), "name": tool.name}
    if tool.description is not None:
        written["description"] = tool.description
    if tool.is_custom:
        return written | {"format": _flat(tool.grammar)} if tool.grammar is not None else written
    # Where nothing is said this vendor is strict, unlike the others: optional parameters would have to be filled in.
    return written | {"parameters": tool.parameters or _EMPTY, "strict": bool(tool.strict)}


def _kind_of(tool: Tool) -> str:
    return "custom" if tool.is_custom else "function"


def _flat(grammar: msgspec.Raw) -> object:
    nested = decode_reply(_NESTED, bytes(grammar))
    return {"type": nested.type, **nested.grammar} if nested is not None else grammar


def _write_choice(choice: ToolChoice, tools: tuple[Tool, ...]) -> object:
    if not choice.names:
        return _MODES[choice.mode]
    kinds = {tool.name: _kind_of(tool) for tool in tools}
    named = [{"type": kinds.get(name, "function"), "name": name} for name in choice.names]
    if choice.mode == "any" and len(named) == 1:
        return named[0]
    return {"type": "allowed_tools", "mode": _MODES[choice.mode], "tools": named}
