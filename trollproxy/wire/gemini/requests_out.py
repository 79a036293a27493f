"""The conversation, written as a request to the vendor.

Results stand in a content of their own right behind the calls, as the vendor wants them. Signatures and thoughts that
another vendor made are left out: this one would refuse them.
"""

import re

import msgspec

from trollproxy.chat import (
    CannotSay,
    Media,
    OutputSchema,
    Part,
    Refusal,
    Request,
    Sampling,
    State,
    Text,
    Thinking,
    Tool,
    ToolCall,
    ToolChoice,
    ToolResult,
    Turn,
    merged,
    named_results,
)
from trollproxy.wire.body import as_object, decode_reply
from trollproxy.wire.format import Target
from trollproxy.wire.gemini.media import media_part
from trollproxy.wire.gemini.signatures import NAME, UNSIGNED
from trollproxy.wire.gemini.thinking import has_levels, write_thinking

Json = dict[str, object]

_MAX_STOPS, _MAX_CHOICES, _MAX_LOGPROBS = 5, 8, 20  # the vendor's own bounds
_MAX_TEMPERATURE = 2.0
_SEED_MASK = 2**31 - 1
_TIERS = {"flex": "flex", "priority": "priority", "standard": "standard", "standard_only": "standard"}
_LABELS = msgspec.json.Decoder(dict[str, str])
_LABEL = re.compile(r"[a-z0-9_-]{0,63}")


def write_request(request: Request, target: Target) -> bytes:
    signs = has_levels(target.model)
    told = named_results(request)
    contents = [content for turn in merged(told.turns) for content in _contents(turn, signs=signs)]
    if not contents:
        # The vendor wants something to answer to, and a request of nothing but a system prompt is meant as that.
        contents = [{"role": "user", "parts": [{"text": text.text} for text in told.system]}]
    body: Json = {"contents": contents}
    if told.system:
        body["systemInstruction"] = {"parts": [{"text": text.text} for text in told.system]}
    if told.tools:
        body["tools"] = [{"functionDeclarations": [_write_tool(tool) for tool in told.tools]}]
    calling = _write_choice(told.tool_choice, is_strict=any(tool.strict for tool in told.tools))
    if calling is not None:
        body["toolConfig"] = {"functionCallingConfig": calling}
    config = _write_config(told, target)
    if config:
        body["generationConfig"] = config
    return msgspec.json.encode(body | _write_rest(told))


def _write_rest(request: Request) -> Json:
    rest: Json = {}
    if request.tier is not None:
        if request.tier not in _TIERS:
            raise CannotSay("tier", f"there is no tier {request.tier[:40]!r}")
        rest["serviceTier"] = _TIERS[request.tier]
    labels = decode_reply(_LABELS, bytes(request.metadata)) if request.metadata is not None else None
    fitting = {name: value for name, value in (labels or {}).items() if _is_label(name, value)}
    return rest | {"labels": fitting} if fitting else rest


def _is_label(name: str, value: str) -> bool:
    return name[:1].isalpha() and _LABEL.fullmatch(name) is not None and _LABEL.fullmatch(value) is not None


def _contents(turn: Turn, *, signs: bool) -> list[Json]:
    if turn.role == "assistant":
        parts = [written for part in turn.parts for written in _write_part(part)]
        if signs:
            _sign_first_call(parts)
        return [{"role": "model", "parts": parts}] if parts else []
    if turn.role == "system":
        texts = "\n".join(part.text for part in turn.parts if isinstance(part, Text))
        return [{"role": "user", "parts": [{"text": f"<system>\n{texts}\n</system>"}]}]
    results: list[Json] = []
    others: list[Json] = []
    for part in turn.parts:
        if isinstance(part, ToolResult):
            result, behind = _write_result(part, holds_media=signs)
            results.append(result)
            others += behind
        else:
            others += _write_part(part)
    return [{"role": "user", "parts": parts} for parts in (results, others) if parts]


def _sign_first_call(parts: list[Json]) -> None:
    """A step's first call must be signed from Gemini 3 on; one that another model made has no signature."""
    first = next((part for part in parts if "functionCall" in part), None)
    if first is not None:
        first.setdefault("thoughtSignature", UNSIGNED)


def _write_part(part: Part) -> list[Json]:
    match part:
        case Text() | Refusal():
            state = part.state if isinstance(part, Text) else None
            written = _signed({"text": part.text}, state)
            return [written] if part.text or "thoughtSignature" in written else []
        case Thinking():
            return _write_thought(part)
        case Media():
            context: list[Json] = [{"text": part.context}] if part.context else []
            return [*context, _signed(media_part(part), part.state)]
        case ToolCall():
            call = {"id": part.call_id, "name": part.name, "args": as_object(part.arguments)}
            return [_signed({"functionCall": call}, part.state)]
        case ToolResult():
            return [_write_result(part, holds_media=True)[0]]


def _write_thought(thought: Thinking) -> list[Json]:
    if thought.state is not None and thought.state.origin != NAME:
        return []
    words: Json = {} if thought.is_redacted else {"text": thought.text}
    written = _signed(words | {"thought": True}, thought.state)
    return [written] if thought.text or thought.state is not None else []


def _signed(part: Json, state: State | None) -> Json:
    if state is not None and state.origin == NAME:
        part["thoughtSignature"] = state.data
    return part


def _write_result(result: ToolResult, *, holds_media: bool) -> tuple[Json, list[Json]]:
    """The result, and what of it must stand behind all results."""
    text = "\n".join(part.text for part in result.parts if isinstance(part, Text))
    response: Json = {
        "id": result.call_id,
        "name": result.name or "tool",
        "response": {"error" if result.is_error else "output": text},
    }
    media = [media_part(part) for part in result.parts if isinstance(part, Media)]
    if not media:
        return {"functionResponse": response}, []
    if holds_media:
        response["parts"] = media
        return {"functionResponse": response}, []
    return {"functionResponse": response}, [{"text": f"From the result of {response['name']}:"}, *media]


def _write_tool(tool: Tool) -> Json:
    written: Json = {"name": tool.name}
    if tool.description is not None:
        written["description"] = tool.description
    if tool.parameters is not None:
        written["parametersJsonSchema"] = tool.parameters
    return written


def _write_choice(choice: ToolChoice | None, *, is_strict: bool) -> Json | None:
    if choice is None:
        return {"mode": "VALIDATED"} if is_strict else None
    match choice.mode:
        case "none":
            return {"mode": "NONE"}
        case "any":
            mode = "ANY"
        case "auto":
            mode = "VALIDATED" if is_strict or choice.names else "AUTO"
    return {"mode": mode, "allowedFunctionNames": choice.names} if choice.names else {"mode": mode}


def _write_config(request: Request, target: Target) -> Json:
    config = _write_sampling(request.sampling)
    limit = request.max_output_tokens
    if limit is not None:
        if limit < 1:
            raise CannotSay("max_output_tokens", "it must be at least 1")
        config["maxOutputTokens"] = min(limit, target.max_output_tokens or limit)
    if len(request.stop) > _MAX_STOPS:
        raise CannotSay("stop", f"there may be at most {_MAX_STOPS}")
    if request.stop:
        config["stopSequences"] = request.stop
    thinking = write_thinking(request.reasoning, target.model)
    if thinking is not None:
        config["thinkingConfig"] = thinking
    return config | _write_output(request.output)


def _write_sampling(sampling: Sampling) -> Json:
    config: Json = {}
    if sampling.temperature is not None:
        config["temperature"] = min(sampling.temperature, _MAX_TEMPERATURE)
    if sampling.seed is not None:
        config["seed"] = sampling.seed & _SEED_MASK
    names = ("top_p", "topP"), ("top_k", "topK"), ("presence_penalty", "presencePenalty")
    for name, member in (*names, ("frequency_penalty", "frequencyPenalty")):
        if getattr(sampling, name) is not None:
            config[member] = getattr(sampling, name)
    if sampling.logprobs is not None:
        config["responseLogprobs"] = True
        if sampling.logprobs:
            config["logprobs"] = min(sampling.logprobs, _MAX_LOGPROBS)
    if sampling.choices > _MAX_CHOICES:
        raise CannotSay("choices", f"there may be at most {_MAX_CHOICES}")
    return config | {"candidateCount": sampling.choices} if sampling.choices != 1 else config


def _write_output(output: OutputSchema | None) -> Json:
    if output is None:
        return {}
    schema: Json = {"responseJsonSchema": output.schema} if output.schema is not None else {}
    return {"responseMimeType": "application/json", **schema}
