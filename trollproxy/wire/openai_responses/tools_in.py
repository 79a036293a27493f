"""The tools that a request brings: on its own, in groups, and in items of its history.

A group (`namespace`) is taken apart, since no other format has them: its tools are called `group__tool` elsewhere, and
calls come back to the client under the names that it gave.
"""

from collections.abc import Iterator

import msgspec

from trollproxy.chat import Tool, ToolChoice
from trollproxy.errors import InvalidRequest
from trollproxy.wire.body import NOT_TRANSLATABLE, decode_strictly, is_said
from trollproxy.wire.openai_responses.shapes import Choice, CustomTool, FunctionTool, NamespaceTool, SearchTool

SEARCH = "tool_search"  # the tool by which Codex finds tools; it runs at the client, so it is a function elsewhere
_UNGROUPED = "functions"  # Codex's name for those that are in no group; the vendor calls them back without it
_JOINT = "__"


class _Kind(msgspec.Struct, gc=False):
    type: str = "function"
    external_web_access: bool | None = None


class _Format(msgspec.Struct):
    type: str


_KIND = msgspec.json.Decoder(_Kind)
_FUNCTION = msgspec.json.Decoder(FunctionTool)
_CUSTOM = msgspec.json.Decoder(CustomTool)
_NAMESPACE = msgspec.json.Decoder(NamespaceTool)
_SEARCH = msgspec.json.Decoder(SearchTool)
_FORMAT = msgspec.json.Decoder(_Format)
_HINT = {
    "web_search": ' (in Codex: `web_search = "disabled"` in config.toml)',
    "image_generation": " (in Codex: `image_generation = false` under `[features]` in config.toml)",
}


def joined_name(namespace: str | None, name: str) -> str:
    """What a tool of a group is called where there are no groups."""
    return name if namespace in {None, "", _UNGROUPED, name} else f"{namespace}{_JOINT}{name}"


def parted_name(tool: Tool) -> str:
    """What the tool is called inside of its group."""
    if tool.namespace is None:
        return tool.name
    return tool.name.removeprefix(f"{tool.namespace}{_JOINT}")


def is_search(tool: Tool) -> bool:
    return tool.namespace == SEARCH == tool.name


def read_tools(given: list[msgspec.Raw], place: str) -> Iterator[Tool]:
    for number, raw in enumerate(given):
        yield from _read_tool(raw, f"{place}[{number}]", None)


def _read_tool(raw: msgspec.Raw, place: str, namespace: str | None) -> Iterator[Tool]:
    kind = decode_strictly(_KIND, raw, place=place)
    match kind.type:
        case "function":
            yield _function(decode_strictly(_FUNCTION, raw, place=place), place, namespace)
        case "custom":
            yield _custom(decode_strictly(_CUSTOM, raw, place=place), place, namespace)
        case "namespace" if namespace is None:
            yield from _read_group(decode_strictly(_NAMESPACE, raw, place=place), place)
        case "tool_search" if namespace is None:
            yield _search(decode_strictly(_SEARCH, raw, place=place), place)
        case "web_search" if kind.external_web_access is not None:
            return  # see `tables.DROPS`
        case _:
            raise _refused_tool(kind.type, place)


def _read_group(group: NamespaceTool, place: str) -> Iterator[Tool]:
    told = group.description
    for number, raw in enumerate(group.tools):
        for tool in _read_tool(raw, f"{place}.tools[{number}]", group.name):
            # What is told of a group is told once, with its first tool.
            about = f"[{group.name}: {told}]" if told else None
            yield msgspec.structs.replace(tool, description=_lines(about, tool.description))
            told = None


def _function(tool: FunctionTool, place: str, namespace: str | None) -> Tool:
    _require_direct(tool.allowed_callers, place)
    return Tool(
        name=joined_name(namespace, tool.name),
        description=tool.description,
        parameters=tool.parameters if is_said(tool.parameters) else None,
        strict=tool.strict or None,
        namespace=_kept(namespace),
    )


def _custom(tool: CustomTool, place: str, namespace: str | None) -> Tool:
    _require_direct(tool.allowed_callers, place)
    is_free = not is_said(tool.format) or decode_strictly(_FORMAT, tool.format, place=f"{place}.format").type == "text"
    return Tool(
        name=joined_name(namespace, tool.name),
        description=tool.description,
        is_custom=True,
        grammar=None if is_free else tool.format,
        namespace=_kept(namespace),
    )


def _search(tool: SearchTool, place: str) -> Tool:
    if tool.execution != "client":
        raise _refused_tool(SEARCH, place)
    parameters = tool.parameters if is_said(tool.parameters) else None
    return Tool(name=SEARCH, description=tool.description, parameters=parameters, namespace=SEARCH)


def _kept(namespace: str | None) -> str | None:
    return namespace if namespace != _UNGROUPED else None


def _require_direct(callers: list[str] | None, place: str) -> None:
    if callers and "direct" not in callers:
        param = f"{place}.allowed_callers"
        words = f"`{param}` cannot be carried to this model: programs that call tools run at OpenAI only."
        raise InvalidRequest(words, code=NOT_TRANSLATABLE, param=param)


def _refused_tool(kind: str, place: str) -> InvalidRequest:
    param = f"{place}.type"
    words = f"`{param}` `{kind}` cannot be carried to this model: only `function` and `custom` tools can."
    return InvalidRequest(words + _HINT.get(kind, ""), code=NOT_TRANSLATABLE, param=param)


def _lines(*texts: str | None) -> str | None:
    return "\n\n".join(filter(None, texts)) or None


def read_choice(choice: str | Choice | None) -> ToolChoice | None:
    match choice:
        case None:
            return None
        case "auto" | "none":
            return ToolChoice(mode=choice)
        case "required":
            return ToolChoice(mode="any")
        case Choice(type="function" | "custom", name=str(name)):
            return ToolChoice(mode="any", names=(joined_name(choice.namespace, name),))
        case Choice(type="allowed_tools"):
            return _read_allowed(choice)
    param = "tool_choice.type" if isinstance(choice, Choice) else "tool_choice"
    raise InvalidRequest(f"`{param}` cannot be carried to this model.", code=NOT_TRANSLATABLE, param=param)


def _read_allowed(choice: Choice) -> ToolChoice:
    names = []
    for number, tool in enumerate(choice.tools or ()):
        if tool.type not in {"function", "custom"} or tool.name is None:
            raise _refused_tool(tool.type, f"tool_choice.tools[{number}]")
        names.append(joined_name(tool.namespace, tool.name))
    if not names:
        raise InvalidRequest("`tool_choice.tools` must name at least one tool.", param="tool_choice.tools")
    return ToolChoice(mode="any" if choice.mode == "required" else "auto", names=tuple(names))
