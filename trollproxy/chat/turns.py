"""Rearranging turns, for formats that are strict about them."""

from collections.abc import Callable, Iterable

import msgspec

from trollproxy.chat.parts import Part, ToolCall, ToolResult
from trollproxy.chat.request import Request, Turn, TurnRole


def merged(turns: Iterable[Turn]) -> list[Turn]:
    """Neighbouring turns of one role as one; in a user's turn the results of tools come first."""
    joined: list[tuple[TurnRole, list[Part]]] = []
    for turn in turns:
        if not joined or joined[-1][0] != turn.role:
            joined.append((turn.role, []))
        joined[-1][1].extend(turn.parts)
    return [Turn(role, _results_first(parts)) for role, parts in joined]


def _results_first(parts: list[Part]) -> tuple[Part, ...]:
    return tuple(sorted(parts, key=lambda part: not isinstance(part, ToolResult)))


def map_parts(request: Request, change: Callable[[Part], Part]) -> Request:
    """The request with every part of its turns changed."""
    turns = tuple(Turn(turn.role, tuple(change(part) for part in turn.parts)) for turn in request.turns)
    return msgspec.structs.replace(request, turns=turns)


def named_results(request: Request) -> Request:
    """The request with every tool result told which tool it is of, as far as the call is in the history."""
    names = {part.call_id: part.name for turn in request.turns for part in turn.parts if isinstance(part, ToolCall)}

    def name(part: Part) -> Part:
        if isinstance(part, ToolResult) and part.name is None and part.call_id in names:
            return msgspec.structs.replace(part, name=names[part.call_id])
        return part

    return map_parts(request, name)
