"""Names that do not fit are replaced and come back; custom tools become functions, and their calls custom again."""

import json
import re
from typing import Any

import msgspec
from hypothesis import given
from hypothesis import strategies as st

from trollproxy.chat import (
    Choice,
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
    Turn,
)
from trollproxy.wire.adapt import Adaptation
from trollproxy.wire.format import NameRules

RULES = NameRules(
    tool_name=re.compile(r"[A-Za-z_][A-Za-z0-9_-]*"),
    max_tool_name=40,
    call_id=re.compile(r"[A-Za-z0-9_-]+"),
    max_call_id=40,
    has_custom_tools=False,
)
CUSTOM = RULES._replace(has_custom_tools=True)


def ask(*names: str, call_id: str = "c", **changes: Any) -> Request:
    tools = tuple(Tool(name=name) for name in names)
    turns = (
        Turn("assistant", tuple(ToolCall(call_id=call_id, name=name, arguments="{}") for name in names)),
        Turn("user", (ToolResult(call_id=call_id, name=names[0]),)),
    )
    return msgspec.structs.replace(Request(model="m", turns=turns, tools=tools), **changes)


def test_what_fits_is_untouched() -> None:
    request = ask("read_file", "write-file", tool_choice=ToolChoice(mode="any", names=("read_file",)))
    assert Adaptation(request, RULES).request == request


@given(st.lists(st.text(min_size=1, max_size=200), min_size=1, unique=True), st.text(min_size=1, max_size=100))
def test_names_fit_stay_apart_and_come_back(names: list[str], call_id: str) -> None:
    adaptation = Adaptation(ask(*names, call_id=call_id), RULES)
    changed = [tool.name for tool in adaptation.request.tools]
    assert len(set(changed)) == len(names)
    assert all(RULES.tool_name.fullmatch(name) and len(name) <= 40 for name in changed)
    calls = [part for part in adaptation.request.turns[0].parts if isinstance(part, ToolCall)]
    result = adaptation.request.turns[1].parts[0]
    assert [call.name for call in calls] == changed
    assert isinstance(result, ToolResult)
    assert {call.call_id for call in calls} == {result.call_id}
    assert RULES.call_id.fullmatch(result.call_id)
    choice = Choice(parts=tuple(ToolCall(call_id="n", name=name) for name in changed), finish="tool_calls")
    restored = adaptation.restore_reply(Reply(reply_id="r", model="m", choices=(choice,)))
    assert [part.name for part in restored.choices[0].parts if isinstance(part, ToolCall)] == names


def test_a_custom_tool_becomes_a_function_of_one_string() -> None:
    tool = Tool(name="patch", description="Patch.", is_custom=True, grammar=msgspec.Raw(b'{"type":"text"}'))
    call = ToolCall(call_id="c", name="patch", arguments='*** "x"', is_custom=True)
    result = ToolResult(call_id="c", is_custom=True)
    request = Request(model="m", turns=(Turn("assistant", (call,)), Turn("user", (result,))), tools=(tool,))
    adaptation = Adaptation(request, RULES)
    (changed,) = adaptation.request.tools
    assert not changed.is_custom
    assert json.loads(bytes(changed.parameters or b""))["required"] == ["input"]
    assert changed.description == 'Patch.\n\n`input` must follow this format: {"type":"text"}'
    wrapped = adaptation.request.turns[0].parts[0]
    assert isinstance(wrapped, ToolCall)
    assert (json.loads(wrapped.arguments), wrapped.is_custom) == ({"input": '*** "x"'}, False)
    assert adaptation.request.turns[1].parts == (ToolResult(call_id="c"),)
    answer = Reply(reply_id="r", model="m", choices=(Choice(parts=(wrapped,), finish="tool_calls"),))
    assert adaptation.restore_reply(answer).choices[0].parts == (call,)
    assert Adaptation(request, CUSTOM).request == request


def streamed(adaptation: Adaptation, *pieces: str) -> list[Any]:
    events: list[StreamEvent] = [PartStarted(index=0, part=ToolCall(call_id="c", name="patch"))]
    events += [PartGrew(index=0, text=piece) for piece in pieces]
    return [out for event in [*events, PartEnded(index=0)] for out in adaptation.restore(event)]


def test_the_string_of_a_streamed_call_is_unwrapped_when_it_is_whole() -> None:
    request = Request(model="m", turns=(), tools=(Tool(name="patch", is_custom=True),))
    opened = PartStarted(index=0, part=ToolCall(call_id="c", name="patch", is_custom=True))
    for pieces, said in ((('{"inp', 'ut": "a\\', 'nb"}'), "a\nb"), (("not json",), "not json"), ((), "")):
        expected = [opened, PartGrew(index=0, text=said), PartEnded(index=0)]
        assert streamed(Adaptation(request, RULES), *pieces) == expected


def test_functions_stream_as_they_come() -> None:
    adaptation = Adaptation(Request(model="m", turns=(), tools=(Tool(name="patch"),)), RULES)
    assert len(streamed(adaptation, "{", "}")) == 4


def test_a_call_that_was_never_wrapped_does_not_wait() -> None:
    events: list[StreamEvent] = [
        PartStarted(index=0, part=ToolCall(call_id="c", name="patch", is_custom=True)),
        PartGrew(index=0, text='{"input":'),
        PartGrew(index=0, text='"x"}'),
        PartEnded(index=0),
    ]
    for request in (ask("patch"), ask("patch", "a name with blanks")):
        adaptation = Adaptation(request, CUSTOM)
        assert [adaptation.restore(event) for event in events] == [[event] for event in events]
