"""Any conversation, written as the vendor takes it."""

import hashlib
from collections.abc import Iterator

import msgspec

from trollproxy.chat import CannotSay, Request, Text, Tool, ToolCall, Turn
from trollproxy.wire.anthropic.blocks_out import Block, write_mark, write_parts
from trollproxy.wire.anthropic.history import history_of
from trollproxy.wire.anthropic.plan import Plan, advice_of, plan_of
from trollproxy.wire.body import UNSAID, decode_reply
from trollproxy.wire.format import Headers, Target

_MAX_USER = 256
_MAX_MARKS = 4


class _Typed(msgspec.Struct, gc=False):
    type: msgspec.Raw = UNSAID


_TYPED = msgspec.json.Decoder(_Typed)
_MEMBERS = msgspec.json.Decoder(dict[str, msgspec.Raw])
_NOTHING: dict[str, object] = {"type": "object", "properties": {}}
_TIERS: dict[str, dict[str, object]] = {
    "standard": {"service_tier": "standard_only"},
    "standard_only": {"service_tier": "standard_only"},
    "priority": {"service_tier": "auto"},  # uses what priority the account has
    "fast": {"speed": "fast"},
}


def write_request(request: Request, target: Target) -> bytes:
    turns = history_of(request, target)
    plan = plan_of(request, target, turns)
    body: dict[str, object] = {"model": target.model, "max_tokens": plan.limit}
    if request.stream:
        body["stream"] = True
    marked: list[Block] = []  # every block with a mark, in the order of the prompt
    tools = _write_tools(request, plan, marked)
    body |= _write_prompt(request, turns, marked)
    body |= tools
    if plan.thinking is not None:
        body["thinking"] = plan.thinking
    body |= _write_output(request, plan) | plan.sampling
    body |= _write_rest(request)
    if marked:
        _limit_marks(marked, body)
    return msgspec.json.encode(body)


def request_headers(request: Request, target: Target) -> Headers:
    return plan_of(request, target, _history_of(request, target)).headers(request)


def _history_of(request: Request, target: Target) -> Iterator[Turn]:
    """Made only if it is looked at: most plans do not depend on it."""
    yield from history_of(request, target)


def _write_prompt(request: Request, turns: list[Turn], marked: list[Block]) -> dict[str, object]:
    system = [text for text in (*request.system, *advice_of(request)) if text.text.strip()]
    if not turns:
        # There must be a message, and where nothing else was said these are the words to answer.
        return {"messages": [{"role": "user", "content": write_parts(system, marked)}]}
    told: dict[str, object] = {"system": write_parts(system, marked)} if system else {}
    told["messages"] = [{"role": turn.role, "content": _content(turn, marked)} for turn in turns]
    return told


def _content(turn: Turn, marked: list[Block]) -> str | list[Block]:
    first = turn.parts[0]
    if len(turn.parts) == 1 and isinstance(first, Text) and first.cache is None:
        return first.text
    return write_parts(turn.parts, marked)


def _write_tools(request: Request, plan: Plan, marked: list[Block]) -> dict[str, object]:
    choice = request.tool_choice
    if not request.tools:
        # Calls in the history want their tools declared, even where none can be called any more.
        called = dict.fromkeys(part.name for turn in request.turns for part in turn.parts if isinstance(part, ToolCall))
        stubs = [{"name": name, "input_schema": _NOTHING} for name in called]
        return {"tools": stubs, "tool_choice": {"type": "none"}} if stubs else {}
    some = choice.names if choice is not None and (len(choice.names) > 1 or choice.mode == "auto") else ()
    tools = [_write_tool(tool, marked) for tool in request.tools if not some or tool.name in some]
    written = _write_choice(request, plan)
    return {"tools": tools} | ({"tool_choice": written} if written is not None else {})


def _write_tool(tool: Tool, marked: list[Block]) -> Block:
    written: Block = {"name": tool.name}
    if tool.description is not None:
        written["description"] = tool.description
    written["input_schema"] = _schema(tool.parameters)
    if tool.strict:
        written["strict"] = True
    if tool.cache is not None:
        written["cache_control"] = write_mark(tool.cache)
        marked.append(written)
    return written


def _schema(parameters: msgspec.Raw | None) -> object:
    """The schema as it came; only its `type` must be there."""
    if parameters is None:
        return _NOTHING
    typed = decode_reply(_TYPED, parameters)
    if typed is None or typed.type is not UNSAID:
        return parameters
    return {"type": "object", **_MEMBERS.decode(parameters)}


def _write_choice(request: Request, plan: Plan) -> Block | None:
    choice = request.tool_choice
    one_at_a_time: Block = {"disable_parallel_tool_use": True} if request.parallel_tools is False else {}
    if choice is None:
        return {"type": "auto"} | one_at_a_time if one_at_a_time else None
    if choice.mode == "none":
        return {"type": "none"}
    if choice.mode == "auto":
        return {"type": "auto"} | one_at_a_time
    is_one = len(choice.names) == 1
    if not plan.model.takes_forced:
        raise CannotSay("tool_choice_one" if is_one else "tool_choice_any", "the model cannot be made to call a tool")
    if is_one:
        return {"type": "tool", "name": choice.names[0]} | one_at_a_time
    return {"type": "any"} | one_at_a_time


def _write_output(request: Request, plan: Plan) -> dict[str, object]:
    config: dict[str, object] = {}
    if plan.effort is not None:
        config["effort"] = plan.effort
    if request.output is not None and request.output.schema is not None:
        config["format"] = {"type": "json_schema", "schema": request.output.schema}
    return {"output_config": config} if config else {}


def _write_rest(request: Request) -> dict[str, object]:
    rest: dict[str, object] = {}
    if request.stop:
        if not all(sequence.strip() for sequence in request.stop):
            raise CannotSay("stop", "a sequence of nothing but white space is not taken there")
        rest["stop_sequences"] = request.stop
    if request.user is not None:
        is_long = len(request.user) > _MAX_USER
        user = hashlib.sha256(request.user.encode()).hexdigest() if is_long else request.user
        rest["metadata"] = {"user_id": user}
    if request.cache is not None:
        rest["cache_control"] = write_mark(request.cache)
    if request.tier is not None and request.tier not in _TIERS:
        raise CannotSay("tier", f"there is no tier `{request.tier}` there")
    return rest | _TIERS.get(request.tier or "", {})


def _limit_marks(marked: list[Block], body: dict[str, object]) -> None:
    """The last marks stay, as the vendor takes four; and after a short-lived one none may live longer."""
    has_whole = "cache_control" in body
    spare = max(0, len(marked) - (_MAX_MARKS - has_whole))
    for block in marked[:spare]:
        del block["cache_control"]
    short = write_mark("5m")
    is_short = False
    for block in [*marked[spare:], *([body] if has_whole else [])]:
        is_short = is_short or block["cache_control"] == short
        if is_short:
            block["cache_control"] = short
