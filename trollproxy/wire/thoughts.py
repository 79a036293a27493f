"""Thoughts that a client cannot carry from one turn to the next, found again by the ids of the tool calls they led to.

Vendors want to see a thinking model's signed thoughts again when the results of its tool calls come in, and refuse or
degrade otherwise. A client of another dialect may have no field for them; what it does replay is the id of each call.
"""

from collections.abc import Callable, Iterable, Mapping
from operator import is_
from typing import NamedTuple, Protocol

import msgspec

from trollproxy.chat import (
    AnswerPart,
    FormatName,
    Part,
    Request,
    State,
    Thinking,
    ToolCall,
    Turn,
)

_UNSIGNED: FormatName = "openai_chat"


class Memory(NamedTuple):
    """What stood before a tool call since the one before it, and the call's own signature."""

    thoughts: tuple[Thinking, ...]
    state: State | None

    @property
    def size(self) -> int:
        states = [thought.state for thought in self.thoughts] + [self.state]
        return sum(len(thought.text) for thought in self.thoughts) + sum(len(state.data) for state in states if state)


Recall = Callable[[str], Memory | None]


class Recollection(Protocol):
    """What one tenant's answers left behind."""

    def recall(self, call_id: str) -> Memory | None: ...

    def keep(self, call_id: str, memory: Memory) -> None: ...


def memories(parts: Iterable[AnswerPart]) -> dict[str, Memory]:
    """What is worth remembering of an answer, by call id."""
    found: dict[str, Memory] = {}
    thoughts: list[Thinking] = []
    for part in parts:
        if isinstance(part, Thinking) and part.state is not None:
            thoughts.append(part)
        elif isinstance(part, ToolCall):
            if thoughts or part.state is not None:
                found[part.call_id] = Memory(tuple(thoughts), part.state)
            thoughts = []
    return found


def with_thoughts(request: Request, recall: Recall) -> Request:
    """The request with the thoughts put back that the client did not bring."""
    turns = tuple([_remembered(turn, recall) if turn.role == "assistant" else turn for turn in request.turns])
    if all(map(is_, turns, request.turns)):
        return request
    return msgspec.structs.replace(request, turns=turns)


def _remembered(turn: Turn, recall: Recall) -> Turn:
    calls = [part.call_id for part in turn.parts if isinstance(part, ToolCall)]
    known = {call_id: memory for call_id in calls if (memory := recall(call_id)) is not None}
    return _put_back(turn, known) if known else turn


def _put_back(turn: Turn, known: Mapping[str, Memory]) -> Turn:
    brought_own = any(_is_signed(part) for part in turn.parts)
    parts: list[Part] = []
    is_first = True
    for part in turn.parts:
        memory = known.get(part.call_id) if isinstance(part, ToolCall) else None
        if memory is None or not isinstance(part, ToolCall):
            parts.append(part)
            continue
        if not brought_own:
            # The first call's thoughts began the turn, before anything was said.
            place = 0 if is_first else len(parts)
            parts = _without_words(parts) if is_first else parts
            parts[place:place] = memory.thoughts
        is_first = False
        parts.append(part if part.state is not None else msgspec.structs.replace(part, state=memory.state))
    return Turn(turn.role, tuple(parts))


def _is_signed(part: Part) -> bool:
    """Chat Completions has no signatures: a state of it tells only the field in which the words stood."""
    return isinstance(part, Thinking) and part.state is not None and part.state.origin != _UNSIGNED


def _without_words(parts: list[Part]) -> list[Part]:
    """Unsigned thoughts that a client replays (`reasoning_content`) are the words of those that are put back."""
    return [part for part in parts if not isinstance(part, Thinking)]
