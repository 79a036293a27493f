"""The tools of a request, with what messages in the midst of the conversation add and take away."""

from collections.abc import Iterable

import msgspec

from trollproxy.chat import Tool
from trollproxy.errors import InvalidRequest
from trollproxy.wire.anthropic import shapes
from trollproxy.wire.anthropic.blocks_in import read_mark
from trollproxy.wire.body import NOT_TRANSLATABLE, decode_request, decode_strictly


class _Kind(msgspec.Struct, gc=False):
    type: str | None = None


_KIND = msgspec.json.Decoder(_Kind)
_TOOL = msgspec.json.Decoder(shapes.ToolParam)
_CUSTOM = (None, "custom")
_SEARCH = "tool_search_tool_"


def read_tools(request: shapes.MessagesRequest) -> tuple[Tool, ...]:
    declared: dict[str, Tool] = {}
    for number, raw in enumerate(request.tools or ()):
        _declare(declared, raw, place=f"tools[{number}]")
    removed: set[str] = set()
    for place, change in _changes(request.messages):
        tool = change.tool
        if isinstance(change, shapes.ToolRemovalBlock):
            removed.add(change.tool.name)
        elif isinstance(tool, shapes.ToolDefinition):
            removed.discard(_declare(declared, tool.definition, place=place))
        else:
            removed.discard(tool.name)
    return tuple(tool for name, tool in declared.items() if name not in removed)


def _changes(
    messages: list[shapes.Message],
) -> Iterable[tuple[str, shapes.ToolAdditionBlock | shapes.ToolRemovalBlock]]:
    for number, message in enumerate(messages):
        if not isinstance(message, shapes.SystemMessage) or isinstance(message.content, str):
            continue
        for inner, block in enumerate(message.content or ()):
            if not isinstance(block, shapes.TextBlock):
                yield f"messages[{number}].content[{inner}].tool.definition", block


def _declare(declared: dict[str, Tool], raw: msgspec.Raw, *, place: str) -> str:
    """Read one tool; its name is what later changes call it by."""
    kind = decode_request(_KIND, raw).type
    if kind not in _CUSTOM and kind.startswith(_SEARCH):
        return ""
    if kind not in _CUSTOM:
        words = f"`{place}`: a tool of type `{kind}` works at its vendor only and cannot be carried to this model."
        raise InvalidRequest(words, code=NOT_TRANSLATABLE, param=f"{place}.type")
    tool = decode_strictly(_TOOL, raw, place=place)
    if tool.allowed_callers and "direct" not in tool.allowed_callers:
        words = f"`{place}.allowed_callers`: only `direct` calls can be carried to this model."
        raise InvalidRequest(words, code=NOT_TRANSLATABLE, param=f"{place}.allowed_callers")
    declared[tool.name] = Tool(
        name=tool.name,
        description=_described(tool),
        parameters=tool.input_schema,
        strict=tool.strict or None,
        cache=read_mark(tool.cache_control),
    )
    return tool.name


def _described(tool: shapes.ToolParam) -> str | None:
    """Other vendors have no member for examples, and the model shall see them all the same."""
    if not tool.input_examples:
        return tool.description
    examples = "\n".join(bytes(example).decode() for example in tool.input_examples)
    told = f"Examples of its input:\n{examples}"
    return f"{tool.description}\n\n{told}" if tool.description else told
