"""A client's request, read whole. What has no meaning elsewhere is in `tables.DROPS`; the rest is refused by name."""

import msgspec

from trollproxy.chat import CacheLifetime, Effort, OutputSchema, Reasoning, Request, Sampling, Text, Tool
from trollproxy.errors import InvalidRequest
from trollproxy.wire.body import NOT_TRANSLATABLE, decode_strictly, is_said
from trollproxy.wire.openai_responses import shapes
from trollproxy.wire.openai_responses.history import History
from trollproxy.wire.openai_responses.tools_in import read_choice, read_tools

_REQUEST = msgspec.json.Decoder(shapes.RequestBody)
_EFFORTS: dict[str, Effort] = {
    "minimal": "minimal",
    "low": "low",
    "medium": "medium",
    "high": "high",
    "xhigh": "xhigh",
    "max": "max",
}
_LIFETIMES: dict[str | None, CacheLifetime] = {"30m": "30m", "12h": "12h"}
_SCORES = "message.output_text.logprobs"
_WHY = {
    "background": "answers are not stored by the gateway",
    "context_management": "only OpenAI compacts a conversation on its side",
    "conversation": "the conversation is kept at OpenAI",
    "moderation": "it runs at OpenAI only",
    "previous_response_id": "the conversation is kept at OpenAI; send all of it as `input`",
    "prompt": "the template is kept at OpenAI",
    "reasoning.mode": "only OpenAI has it",
    "truncation": "only OpenAI shortens a conversation by itself",
}


def read_request(body: bytes) -> Request:
    asked = decode_strictly(_REQUEST, body)
    _refuse(asked)
    options = asked.prompt_cache_options or shapes.CacheOptions()
    history = _read_input(asked, _LIFETIMES.get(options.ttl, "30m"))
    tools = _distinct([*read_tools(asked.tools or [], "tools"), *history.tools])
    system = [Text(text=asked.instructions)] if asked.instructions else []
    return Request(
        model=asked.model,
        system=(*system, *history.system),
        turns=history.turns(),
        tools=tools,
        # Codex says both with every request, tools or not.
        tool_choice=read_choice(asked.tool_choice) if tools else None,
        parallel_tools=asked.parallel_tool_calls if tools else None,
        max_output_tokens=0 if options.prewarm else asked.max_output_tokens,
        sampling=_read_sampling(asked),
        output=_read_format(asked.text.format) if asked.text is not None else None,
        reasoning=_read_reasoning(asked.reasoning) if asked.reasoning is not None else None,
        user=asked.safety_identifier or asked.user,
        tier=asked.service_tier if asked.service_tier not in {"auto", "default"} else None,
        cache=_LIFETIMES.get(options.ttl) if options.mode != "explicit" else None,
        cache_key=asked.prompt_cache_key,
        verbosity=asked.text.verbosity if asked.text is not None else None,
        metadata=asked.metadata if is_said(asked.metadata) and bytes(asked.metadata) != b"{}" else None,
        stream=bool(asked.stream),
    )


def _refuse(asked: shapes.RequestBody) -> None:
    for name in ("context_management", "conversation", "moderation", "previous_response_id", "prompt"):
        member = getattr(asked, name)
        if is_said(member) and bytes(member) != b"[]":
            raise _refusal(name)
    if asked.background:
        raise _refusal("background")
    if asked.truncation not in {None, "disabled"}:
        raise _refusal("truncation")
    if asked.reasoning is not None and asked.reasoning.mode not in {None, "standard"}:
        raise _refusal("reasoning.mode")


def _refusal(name: str) -> InvalidRequest:
    words = f"`{name}` cannot be carried to this model: {_WHY[name]}."
    return InvalidRequest(words, code=NOT_TRANSLATABLE, param=name)


def _read_input(asked: shapes.RequestBody, lifetime: CacheLifetime) -> History:
    history = History(lifetime)
    if isinstance(asked.input, str):
        history.add("user", [Text(text=asked.input)])
        return history
    for number, raw in enumerate(asked.input or ()):
        history.take(raw, f"input[{number}]")
    return history


def _distinct(tools: list[Tool]) -> tuple[Tool, ...]:
    """Each name once: a tool that was found twice is still one tool."""
    known: dict[str, Tool] = {}
    for tool in tools:
        known.setdefault(tool.name, tool)
    return tuple(known.values())


def _read_sampling(asked: shapes.RequestBody) -> Sampling:
    wants_scores = asked.top_logprobs is not None or _SCORES in (asked.include or ())
    return Sampling(
        temperature=asked.temperature, top_p=asked.top_p, logprobs=(asked.top_logprobs or 0) if wants_scores else None
    )


def _read_format(given: shapes.TextFormat | None) -> OutputSchema | None:
    match given:
        case None | shapes.TextFormat(type="text"):
            return None
        case shapes.TextFormat(type="json_object"):
            return OutputSchema()
        case shapes.TextFormat(type="json_schema") if is_said(given.schema):
            name = given.name
            return OutputSchema(schema=given.schema, name=name, description=given.description, strict=given.strict)
        case shapes.TextFormat(type="json_schema"):
            raise InvalidRequest("`text.format.schema` is missing.", param="text.format.schema")
    words = f"`text.format.type` `{given.type}` cannot be carried to this model."
    raise InvalidRequest(words, code=NOT_TRANSLATABLE, param="text.format.type")


def _read_reasoning(given: shapes.Reasoning) -> Reasoning | None:
    summary = given.summary or given.generate_summary
    shows = summary != "none" if summary is not None else None
    if given.effort is None:
        return Reasoning(shows_thoughts=shows) if shows is not None else None
    if given.effort == "none":
        return Reasoning(mode="off", shows_thoughts=shows)
    effort = _EFFORTS.get(given.effort)
    if effort is None:
        words = f"`reasoning.effort` `{given.effort}` cannot be carried to this model."
        raise InvalidRequest(words, code=NOT_TRANSLATABLE, param="reasoning.effort")
    return Reasoning(effort=effort, shows_thoughts=shows)
