"""A client's request, read into the conversation that it stands for.

Strict: what is not understood is refused by its name. Both spellings of members are taken, and one object where the
vendor takes it for a list of one. A model's pieces that a client replays as they streamed in become whole again.
"""

import re

import msgspec

from trollproxy.chat import (
    OutputSchema,
    Part,
    Request,
    Sampling,
    Text,
    Thinking,
    Tool,
    ToolCall,
    ToolChoice,
    ToolResult,
    Turn,
    TurnRole,
    merged,
)
from trollproxy.errors import InvalidRequest
from trollproxy.wire.body import decode_request
from trollproxy.wire.format import Entry
from trollproxy.wire.gemini import shapes
from trollproxy.wire.gemini.parts_in import CallIds, as_list, not_translatable, read_part, refuse
from trollproxy.wire.gemini.schemas import json_schema
from trollproxy.wire.gemini.spelling import in_camel_case
from trollproxy.wire.gemini.thinking import read_thinking

_UNKNOWN = re.compile(r"unknown field `(?P<name>[^`]*)`(?: - at `\$\.?(?P<place>[^`]*)`)?")
_ROLES: dict[str, TurnRole] = {"": "user", "user": "user", "function": "user", "tool": "user", "model": "assistant"}
_OF_MODELS = (ToolCall, Thinking)
_JSON, _PLAIN = "application/json", "text/plain"
_CALLING = "toolConfig.functionCallingConfig"


def read_request(body: bytes, entry: Entry) -> Request:
    shape = _decode(body)
    if shape.generate_content_request is not None:
        shape = shape.generate_content_request
    refuse(shape, "")
    config = shape.generation_config or shapes.GenerationConfig()
    refuse(config, "generationConfig")
    return Request(
        model=(entry.model if entry.model is not None else shape.model or "").removeprefix("models/"),
        turns=_read_turns(as_list(shape.contents)),
        system=_read_system(shape.system_instruction),
        tools=_read_tools(as_list(shape.tools)),
        tool_choice=_read_choice(shape.tool_config),
        max_output_tokens=config.max_output_tokens,
        stop=tuple(config.stop_sequences or ()),
        sampling=_read_sampling(config),
        output=_read_output(config),
        reasoning=read_thinking(config.thinking_config),
        tier=_read_tier(shape.service_tier),
        metadata=shape.labels if bytes(shape.labels) not in {b"", b"null", b"{}"} else None,
        stream=entry.stream,
    )


def _decode(body: bytes) -> shapes.GenerateRequest:
    """The other spelling is tried only where this one is not enough: it costs writing the body anew."""
    try:
        return decode_request(shapes.REQUEST, body)
    except InvalidRequest as error:
        if not _UNKNOWN.search(error.message):
            raise
    try:
        return decode_request(shapes.REQUEST, in_camel_case(body))
    except InvalidRequest as error:
        unknown = _UNKNOWN.search(error.message)
        if unknown is None:
            raise
        place = f"{unknown['place']}.{unknown['name']}" if unknown["place"] else unknown["name"]
        raise not_translatable(place) from error


def _read_system(instruction: str | shapes.Content | None) -> tuple[Text, ...]:
    if instruction is None:
        return ()
    if isinstance(instruction, str):
        return (Text(text=instruction),) if instruction else ()
    ids = CallIds()
    read = []
    for place, part in enumerate(as_list(instruction.parts)):
        text = read_part(part, f"systemInstruction.parts[{place}]", ids)
        if not isinstance(text, Text):
            raise not_translatable(f"systemInstruction.parts[{place}]")
        read.append(text)
    return tuple(text for text in read if text.text)


def _read_turns(contents: list[shapes.Content]) -> tuple[Turn, ...]:
    ids = CallIds()
    turns = []
    for place, content in enumerate(contents):
        where = f"contents[{place}]"
        role = _ROLES.get((content.role or "").lower())
        if role is None:
            raise InvalidRequest(f"`{where}.role` must be `user` or `model`.", param=f"{where}.role")
        parts = as_list(content.parts)
        read = tuple([read_part(part, f"{where}.parts[{number}]", ids) for number, part in enumerate(parts)])
        if read:
            turns.append(Turn(_speaker(role, read, where), read))
    if not turns:
        raise InvalidRequest("`contents` must hold at least one content with parts.", param="contents")
    return tuple(Turn(turn.role, _joined(turn.parts)) if turn.role == "assistant" else turn for turn in merged(turns))


def _speaker(role: TurnRole, parts: tuple[Part, ...], where: str) -> TurnRole:
    """Who calls functions or thinks is the model, also where a client left the role out."""
    speaks = role == "assistant" or any(isinstance(part, _OF_MODELS) for part in parts)
    if speaks and any(isinstance(part, ToolResult) for part in parts):
        raise InvalidRequest(f"`{where}` holds results of functions, which the model does not give.", param=where)
    return "assistant" if speaks else role


def _joined(parts: tuple[Part, ...]) -> tuple[Part, ...]:
    """Neighbouring pieces of one text, or of one thought, as one. A signature ends what it signs."""
    if not any(map(_continues, parts, parts[1:])):
        return tuple([part for part in parts if not isinstance(part, Text) or part.text or part.state])
    joined: list[Part] = []
    pieces: list[str] = []  # of the last of `joined`, where it is a text or a thought that may go on
    for part in parts:
        last = joined[-1] if joined else None
        if last is not None and _continues(last, part):
            assert isinstance(part, Text | Thinking)
            pieces.append(part.text)
            joined[-1] = msgspec.structs.replace(last, state=part.state)
        else:
            _close(joined, pieces)
            joined.append(part)
            pieces = [part.text] if isinstance(part, Text | Thinking) else []
    _close(joined, pieces)
    return tuple(part for part in joined if not isinstance(part, Text) or part.text or part.state)


def _close(joined: list[Part], pieces: list[str]) -> None:
    if len(pieces) > 1:
        joined[-1] = msgspec.structs.replace(joined[-1], text="".join(pieces))


def _continues(last: Part, part: Part) -> bool:
    if not isinstance(last, Text | Thinking) or type(part) is not type(last) or last.state is not None:
        return False
    return not isinstance(part, Thinking) or not part.is_redacted


def _read_tools(tools: list[shapes.Tool]) -> tuple[Tool, ...]:
    read = []
    for place, tool in enumerate(tools):
        refuse(tool, f"tools[{place}]")
        for number, declared in enumerate(tool.function_declarations or ()):
            read.append(_read_tool(declared, f"tools[{place}].functionDeclarations[{number}]"))
    return tuple(read)


def _read_tool(declared: shapes.FunctionDeclaration, place: str) -> Tool:
    refuse(declared, place)
    parameters = declared.parameters_json_schema
    if not shapes.says(parameters):
        parameters = declared.parameters
        if shapes.says(parameters):
            parameters = json_schema(parameters, f"{place}.parameters")
    return Tool(
        name=declared.name,
        description=_with_result(declared, place),
        parameters=parameters if shapes.says(parameters) else None,
    )


def _with_result(declared: shapes.FunctionDeclaration, place: str) -> str | None:
    """What a function gives back is for the model to know, and no other vendor has a member for it."""
    result = declared.response_json_schema
    if not shapes.says(result) and shapes.says(declared.response):
        result = json_schema(declared.response, f"{place}.response")
    if not shapes.says(result):
        return declared.description
    told = f"It returns JSON of this schema: {bytes(result).decode()}"
    return f"{declared.description}\n\n{told}" if declared.description else told


def _read_choice(config: shapes.ToolConfig | None) -> ToolChoice | None:
    if config is None:
        return None
    refuse(config, "toolConfig")
    calling = config.function_calling_config
    if calling is None:
        return None
    names = tuple(calling.allowed_function_names or ())
    match (calling.mode or "").upper():
        case "" | "MODE_UNSPECIFIED":
            return ToolChoice(mode="auto", names=names) if names else None
        case "AUTO" | "VALIDATED":
            return ToolChoice(mode="auto", names=names)
        case "ANY":
            return ToolChoice(mode="any", names=names)
        case "NONE":
            return ToolChoice(mode="none")
    raise not_translatable(f"{_CALLING}.mode")


def _read_sampling(config: shapes.GenerationConfig) -> Sampling:
    logprobs = config.logprobs if config.logprobs is not None else 0
    return Sampling(
        temperature=config.temperature,
        top_p=config.top_p,
        top_k=int(config.top_k) if config.top_k is not None else None,
        seed=config.seed,
        presence_penalty=config.presence_penalty,
        frequency_penalty=config.frequency_penalty,
        logprobs=logprobs if config.response_logprobs else None,
        choices=config.candidate_count or 1,
    )


def _read_output(config: shapes.GenerationConfig) -> OutputSchema | None:
    if any(name.upper() not in {"TEXT", "MODALITY_UNSPECIFIED"} for name in config.response_modalities or ()):
        raise not_translatable("generationConfig.responseModalities")
    schema = config.response_json_schema
    if not shapes.says(schema) and shapes.says(config.response_schema):
        schema = json_schema(config.response_schema, "generationConfig.responseSchema")
    has_schema = shapes.says(schema)
    if config.response_mime_type not in {None, "", _PLAIN, _JSON}:
        raise not_translatable("generationConfig.responseMimeType")
    if config.response_mime_type == _JSON or has_schema:
        return OutputSchema(schema=schema if has_schema else None)
    return None


def _read_tier(tier: str | None) -> str | None:
    word = (tier or "").lower().removeprefix("service_tier_")
    return None if word in {"", "unspecified", "standard"} else word
