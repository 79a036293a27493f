"""Making a conversation fit the names that a format takes, and the answer fit the names that the client gave.

Long or odd tool names and call ids are replaced by short ones derived from them, the same every time, so a history
stays consistent over turns. Custom tools are wrapped as functions of one string where a format has only functions.
"""

import hashlib
import re

import msgspec

from trollproxy.chat import (
    AnswerPart,
    Part,
    PartEnded,
    PartGrew,
    PartStarted,
    Reply,
    Request,
    StreamEvent,
    Tool,
    ToolCall,
    ToolChoice,
    ToolResult,
    map_parts,
)
from trollproxy.wire.format import NameRules

_DIGEST = 20  # hex digits: 80 bits, so two names of one request do not meet by chance
_NAMED = (ToolCall, ToolResult)
_INPUT = msgspec.json.Decoder(dict[str, str])
_WRAPPED = msgspec.Raw(
    b'{"type":"object","properties":{"input":{"type":"string"}},"required":["input"],"additionalProperties":false}'
)


class Adaptation:
    """What was changed in one request, and how to change its answer back."""

    __slots__ = ("_custom", "_held", "_ids", "_names", "_original", "_rules", "request")

    def __init__(self, request: Request, rules: NameRules) -> None:
        self._rules = rules
        self._custom = {tool.name for tool in request.tools if tool.is_custom} if not rules.has_custom_tools else set()
        self._held: dict[int, list[str]] = {}  # arguments of wrapped calls; the string inside is whole only at the end
        called = [part for turn in request.turns for part in turn.parts if isinstance(part, _NAMED)]
        names = {part.name for part in called if part.name is not None}.union([tool.name for tool in request.tools])
        if request.tool_choice is not None:
            names.update(request.tool_choice.names)
        ids = {part.call_id for part in called}
        self._names = {name: fit for name in names if (fit := self._tool_name(name)) is not name}
        self._ids = {call_id: fit for call_id in ids if (fit := self._call_id(call_id)) is not call_id}
        self._original = {fit: name for name, fit in self._names.items()}
        wraps = bool(self._custom) or (not rules.has_custom_tools and any(part.is_custom for part in called))
        self.request = self._adapt(request) if wraps or self._names or self._ids else request

    def _adapt(self, request: Request) -> Request:
        choice = request.tool_choice
        if choice is not None and choice.names:
            choice = ToolChoice(mode=choice.mode, names=tuple(map(self._fitted, choice.names)))
        tools = tuple(map(self._adapt_tool, request.tools))
        turns = map_parts(request.turns, self._adapt_part)
        return msgspec.structs.replace(request, turns=turns, tools=tools, tool_choice=choice)

    def _fitted(self, name: str) -> str:
        return self._names.get(name, name)

    def _adapt_tool(self, tool: Tool) -> Tool:
        name = self._fitted(tool.name)
        if not tool.is_custom or self._rules.has_custom_tools:
            return msgspec.structs.replace(tool, name=name)
        return Tool(name=name, description=_described(tool), parameters=_WRAPPED, cache=tool.cache)

    def _adapt_part(self, part: Part) -> Part:
        match part:
            case ToolCall():
                call_id, name = self._ids.get(part.call_id, part.call_id), self._fitted(part.name)
                if not part.is_custom or self._rules.has_custom_tools:
                    return msgspec.structs.replace(part, call_id=call_id, name=name)
                wrapped = msgspec.json.encode({"input": part.arguments}).decode()
                return msgspec.structs.replace(part, call_id=call_id, name=name, arguments=wrapped, is_custom=False)
            case ToolResult():
                return msgspec.structs.replace(
                    part,
                    call_id=self._ids.get(part.call_id, part.call_id),
                    name=self._fitted(part.name) if part.name is not None else None,
                    is_custom=part.is_custom and self._rules.has_custom_tools,
                )
        return part

    def _tool_name(self, name: str) -> str:
        return _fit(name, self._rules.tool_name, self._rules.max_tool_name)

    def _call_id(self, call_id: str) -> str:
        return _fit(call_id, self._rules.call_id, self._rules.max_call_id)

    def restore_reply(self, reply: Reply) -> Reply:
        if not self._original and not self._custom:
            return reply
        choices = tuple(
            msgspec.structs.replace(choice, parts=tuple(self._restore(part) for part in choice.parts))
            for choice in reply.choices
        )
        return msgspec.structs.replace(reply, choices=choices)

    def restore(self, event: StreamEvent) -> list[StreamEvent]:
        """The event in the client's names. What a wrapped call says waits for its end."""
        if not self._original and not self._custom:
            return [event]
        match event:
            case PartStarted(part=ToolCall() as call):
                restored = self._restore(msgspec.structs.replace(call, arguments=""))
                assert isinstance(restored, ToolCall)
                if restored.name in self._custom:
                    self._held[event.index] = [call.arguments]
                    return [msgspec.structs.replace(event, part=msgspec.structs.replace(restored, arguments=""))]
                whole = msgspec.structs.replace(restored, arguments=call.arguments)
                return [msgspec.structs.replace(event, part=whole)]
            case PartGrew(index=index) if index in self._held:
                self._held[index].append(event.text)
                return []
            case PartEnded(index=index) if index in self._held:
                return [PartGrew(index=index, text=_unwrapped("".join(self._held.pop(index)))), event]
        return [event]

    def _restore(self, part: AnswerPart) -> AnswerPart:
        if not isinstance(part, ToolCall):
            return part
        name = self._original.get(part.name, part.name)
        if name not in self._custom:
            return msgspec.structs.replace(part, name=name)
        return msgspec.structs.replace(part, name=name, arguments=_unwrapped(part.arguments), is_custom=True)


def _fit(name: str, pattern: re.Pattern[str], longest: int) -> str:
    """The name itself, or as much of it as fits with a digest of the whole."""
    if len(name) <= longest and pattern.fullmatch(name):
        return name
    digest = hashlib.blake2b(name.encode(), digest_size=_DIGEST // 2).hexdigest()
    readable = re.sub(r"[^A-Za-z0-9_]", "_", name)[: longest - _DIGEST - 1]
    return f"{readable}_{digest}" if readable and readable[0].isalpha() else f"n{readable[1:]}_{digest}"


def _described(tool: Tool) -> str | None:
    """A model without grammars must be told of it in words."""
    if tool.grammar is None:
        return tool.description
    told = f"`input` must follow this format: {bytes(tool.grammar).decode()}"
    return f"{tool.description}\n\n{told}" if tool.description else told


def _unwrapped(arguments: str) -> str:
    """The string that a wrapped call holds; what a model wrote instead of such a call is passed as it is."""
    try:
        return _INPUT.decode(arguments)["input"] if arguments else ""
    except (msgspec.DecodeError, KeyError):
        return arguments
