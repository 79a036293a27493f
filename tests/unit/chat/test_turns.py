"""Turns are joined without losing or reordering more than the formats ask for."""

from trollproxy.chat import Request, Text, ToolCall, ToolResult, Turn, merged, named_results

HI, BYE = Text(text="hi"), Text(text="bye")
FIRST, SECOND = ToolResult(call_id="a"), ToolResult(call_id="b")


def test_neighbours_of_one_role_become_one_turn_with_results_first() -> None:
    turns = [Turn("user", (HI, FIRST)), Turn("user", (BYE, SECOND)), Turn("assistant", (HI,)), Turn("user", (BYE,))]
    assert merged(turns) == [Turn("user", (FIRST, SECOND, HI, BYE)), Turn("assistant", (HI,)), Turn("user", (BYE,))]


def test_results_learn_which_tool_they_are_of() -> None:
    call = ToolCall(call_id="a", name="weather")
    request = Request(model="m", turns=(Turn("assistant", (call,)), Turn("user", (FIRST, SECOND))))
    assert named_results(request).turns[1].parts == (ToolResult(call_id="a", name="weather"), SECOND)
