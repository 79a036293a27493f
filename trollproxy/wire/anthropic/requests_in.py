"""Requests of the dialect's clients, read whole."""

import msgspec

from trollproxy.chat import Effort, OutputSchema, Part, Reasoning, Request, Sampling, Text, ToolChoice, Turn
from trollproxy.errors import InvalidRequest
from trollproxy.wire.anthropic import shapes
from trollproxy.wire.anthropic.blocks_in import read_content, read_mark, read_texts
from trollproxy.wire.anthropic.tools_in import read_tools
from trollproxy.wire.body import NOT_TRANSLATABLE, decode_strictly, is_said
from trollproxy.wire.format import Entry

_REQUEST = msgspec.json.Decoder(shapes.MessagesRequest)

# What asks for something that only the vendor's servers can do, and the values of it that ask for nothing.
_AT_THE_VENDOR: dict[str, tuple[object, ...]] = {
    "container": (),
    "mcp_servers": ([],),
    "thread": (),
    "compaction": (),
    "inference_geo": ("global",),
    "billing_policy": ({"type": "billing_policy"}, {"type": "billing_policy", "bill_to": "self"}),
}
_BILLING = "x-anthropic-billing-header:"  # Claude Code's first block; it changes and would spoil a kept prompt
_HARMLESS_EDITS = frozenset({"clear_thinking_20251015"})
_TIERS = {"standard_only": "standard"}


def read_request(body: bytes, entry: Entry) -> Request:
    request = decode_strictly(_REQUEST, body)
    _refuse_foreign(request)
    if request.max_tokens is None and entry.operation == "generate":
        raise InvalidRequest("`max_tokens` is missing.", param="max_tokens")
    turns = _read_turns(request.messages)
    leading = _leading_system(turns)
    choice, parallel_tools = _read_choice(request)
    return Request(
        model=request.model,
        system=tuple([text for text in read_texts(request.system) if not text.text.startswith(_BILLING)]) + leading,
        turns=turns[1:] if leading else turns,
        tools=read_tools(request),
        tool_choice=choice,
        parallel_tools=parallel_tools,
        max_output_tokens=request.max_tokens,
        stop=tuple(request.stop_sequences or ()),
        sampling=Sampling(temperature=request.temperature, top_p=request.top_p, top_k=request.top_k),
        output=_read_output(request),
        reasoning=_read_reasoning(request),
        user=request.metadata.user_id if request.metadata else None,
        tier="fast" if request.speed == "fast" else _TIERS.get(request.service_tier or ""),
        cache=read_mark(request.cache_control),
        stream=bool(request.stream),
    )


def _refuse_foreign(request: shapes.MessagesRequest) -> None:
    for name, harmless in _AT_THE_VENDOR.items():
        if _asks(getattr(request, name), harmless):
            raise _at_the_vendor(name)
    if request.output_config is not None and _asks(request.output_config.task_budget):
        raise _at_the_vendor("output_config.task_budget")
    edits = (request.context_management.edits if request.context_management else None) or ()
    for place, edit in enumerate(edits):
        if edit.type not in _HARMLESS_EDITS:
            raise _at_the_vendor(f"context_management.edits[{place}]")


def _asks(member: msgspec.Raw, harmless: tuple[object, ...] = ()) -> bool:
    return is_said(member) and msgspec.json.decode(member) not in harmless


def _at_the_vendor(param: str) -> InvalidRequest:
    words = f"`{param}` cannot be carried to this model: only the vendor of this format does it."
    return InvalidRequest(words, code=NOT_TRANSLATABLE, param=param)


def _read_turns(messages: list[shapes.Message]) -> tuple[Turn, ...]:
    last_user = max(
        [place for place, message in enumerate(messages) if isinstance(message, shapes.UserMessage)] or [-1]
    )
    turns = []
    for place, message in enumerate(messages):
        if isinstance(message, shapes.UserMessage):
            turns.append(Turn("user", read_content(message.content)))
        elif isinstance(message, shapes.AssistantMessage):
            turns.append(Turn("assistant", read_content(message.content)))
        else:
            is_over = message.clear_at == "next_user_message" and place < last_user
            texts = () if is_over else _read_system(message)
            turns += [Turn("system", texts)] if texts else []
    return tuple(turns)


def _read_system(message: shapes.SystemMessage) -> tuple[Part, ...]:
    if isinstance(message.content, str):
        return (Text(text=message.content),)
    return read_texts([block for block in message.content or () if isinstance(block, shapes.TextBlock)])


def _leading_system(turns: tuple[Turn, ...]) -> tuple[Text, ...]:
    if not turns or turns[0].role != "system":
        return ()
    return tuple(part for part in turns[0].parts if isinstance(part, Text))


def _read_choice(request: shapes.MessagesRequest) -> tuple[ToolChoice | None, bool | None]:
    choice = request.tool_choice
    if choice is None:
        return None, None
    parallel_tools = False if choice.disable_parallel_tool_use else None
    match choice:
        case shapes.AutoChoice():
            return ToolChoice(mode="auto"), parallel_tools
        case shapes.AnyChoice():
            return ToolChoice(mode="any"), parallel_tools
        case shapes.NamedChoice(name=name):
            return ToolChoice(mode="any", names=(name,)), parallel_tools
        case shapes.NoChoice():
            return ToolChoice(mode="none"), parallel_tools


def _read_output(request: shapes.MessagesRequest) -> OutputSchema | None:
    wanted = (request.output_config.format if request.output_config else None) or request.output_format
    return OutputSchema(schema=wanted.schema) if wanted is not None else None


def _read_reasoning(request: shapes.MessagesRequest) -> Reasoning | None:
    effort = _read_effort(request)
    thinking = request.thinking
    match thinking:
        case None:
            return Reasoning(effort=effort) if effort is not None else None
        case shapes.AdaptiveThinking():
            return Reasoning(mode="adaptive", effort=effort, shows_thoughts=_read_display(thinking.display))
        case shapes.EnabledThinking():
            return Reasoning(
                mode="on",
                effort=effort,
                budget_tokens=thinking.budget_tokens,
                # Every model that takes a budget shows its thoughts unless it is told not to.
                shows_thoughts=True if thinking.display is None else _read_display(thinking.display),
            )
        case shapes.DisabledThinking() | shapes.BetweenToolsThinking():
            return Reasoning(mode="off", effort=effort)


def _read_effort(request: shapes.MessagesRequest) -> Effort | None:
    """What a message in the midst of the conversation says holds from there on, so the last one counts."""
    effort = request.output_config.effort if request.output_config else None
    for message in request.messages:
        if isinstance(message, shapes.SystemMessage) and message.output_config is not None:
            effort = message.output_config.effort or effort
    return effort


def _read_display(display: str | None) -> bool | None:
    """`updates` shows what is said between tool calls, and of the thoughts nothing."""
    return None if display is None else display == "summarized"
