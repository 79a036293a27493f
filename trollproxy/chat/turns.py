"""Rearranging turns, for formats that are strict about them."""

from collections.abc import Callable, Iterable, Mapping

import msgspec

from trollproxy.chat.parts import Part, ToolCall, ToolResult
from trollproxy.chat.request import Request, Turn


def merged(turns: Iterable[Turn]) -> list[Turn]:
    """Neighbouring turns of one role as one; in a user's turn the results of tools come first."""
    runs: list[list[Turn]] = []
    for turn in turns:
        if runs and runs[-1][0].role == turn.role:
            runs[-1].append(turn)
        else:
            runs.append([turn])
    return [_results_first(run[0] if len(run) == 1 else _joined(run)) for run in runs]


def _joined(run: list[Turn]) -> Turn:
    return Turn(run[0].role, tuple([part for turn in run for part in turn.parts]))


def _results_first(turn: Turn) -> Turn:
    is_last = False  # something else stands before
    for part in turn.parts:
        if not isinstance(part, ToolResult):
            is_last = True
        elif is_last:
            return Turn(turn.role, tuple(sorted(turn.parts, key=lambda part: not isinstance(part, ToolResult))))
    return turn


def map_parts(turns: Iterable[Turn], change: Callable[[Part], Part]) -> tuple[Turn, ...]:
    """The turns with every part changed."""
    return tuple([Turn(turn.role, tuple([change(part) for part in turn.parts])) for turn in turns])


def named_results(request: Request) -> Request:
    """The request with every tool result told which tool it is of, as far as the call is in the history."""
    names = {part.call_id: part.name for turn in request.turns for part in turn.parts if isinstance(part, ToolCall)}
    if not names:
        return request
    turns = tuple([_named(turn, names) if turn.role == "user" else turn for turn in request.turns])
    return msgspec.structs.replace(request, turns=turns)


def _named(turn: Turn, names: Mapping[str, str]) -> Turn:
    if not any(isinstance(part, ToolResult) and part.name is None for part in turn.parts):
        return turn
    return Turn(turn.role, tuple([_named_part(part, names) for part in turn.parts]))


def _named_part(part: Part, names: Mapping[str, str]) -> Part:
    if isinstance(part, ToolResult) and part.name is None and part.call_id in names:
        return msgspec.structs.replace(part, name=names[part.call_id])
    return part
