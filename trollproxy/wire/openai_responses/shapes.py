"""The members of a request's items and tools, all that the vendor has today. What is not declared here is refused.

Members that only tell where an item comes from are declared and not read: clients replay answers as they got them.
"""

import msgspec

from trollproxy.wire.body import UNSAID

_ANY = UNSAID


class Caller(msgspec.Struct, gc=False, forbid_unknown_fields=True):
    type: str | None = None
    caller_id: str | None = None


class Breakpoint(msgspec.Struct, gc=False, forbid_unknown_fields=True):
    mode: str | None = None
    ttl: str | None = None


class _Part(msgspec.Struct, gc=False, forbid_unknown_fields=True, kw_only=True, tag_field="type"):
    prompt_cache_breakpoint: Breakpoint | None = None


class InputText(_Part, tag="input_text"):
    text: str


class OutputText(_Part, tag="output_text"):
    text: str
    annotations: list[msgspec.Raw] | None = None
    logprobs: msgspec.Raw = _ANY
    parsed: msgspec.Raw = _ANY


class RefusalPart(_Part, tag="refusal"):
    refusal: str


class InputImage(_Part, tag="input_image"):
    image_url: str | None = None
    file_id: str | None = None
    detail: str | None = None


class InputFile(_Part, tag="input_file"):
    file_data: str | None = None
    file_id: str | None = None
    file_url: str | None = None
    filename: str | None = None
    detail: str | None = None


class Recording(msgspec.Struct, gc=False, forbid_unknown_fields=True):
    data: str
    format: str


class InputAudio(_Part, tag="input_audio"):
    input_audio: Recording


ContentPart = InputText | OutputText | RefusalPart | InputImage | InputFile | InputAudio


class _Item(msgspec.Struct, gc=False, forbid_unknown_fields=True, kw_only=True):
    type: str | None = None
    id: str | None = None
    status: str | None = None
    created_by: msgspec.Raw = _ANY
    internal_chat_message_metadata_passthrough: msgspec.Raw = _ANY


class Message(_Item):
    role: str
    content: str | list[ContentPart]
    phase: str | None = None


class Words(msgspec.Struct, gc=False, forbid_unknown_fields=True):
    text: str
    type: str | None = None


class ReasoningItem(_Item):
    summary: list[Words] | None = None
    content: list[Words] | None = None
    encrypted_content: str | None = None


class FunctionCall(_Item):
    call_id: str
    name: str
    arguments: str
    namespace: str | None = None
    caller: Caller | None = None
    async_: bool | None = msgspec.field(name="async", default=None)
    parsed_arguments: msgspec.Raw = _ANY


class CustomCall(_Item):
    call_id: str
    name: str
    input: str
    namespace: str | None = None
    caller: Caller | None = None
    async_: bool | None = msgspec.field(name="async", default=None)


class CallOutput(_Item):
    call_id: str
    output: str | list[ContentPart]
    name: str | None = None
    namespace: str | None = None
    caller: Caller | None = None


class SearchCall(_Item):
    call_id: str
    arguments: msgspec.Raw
    execution: str | None = None


class SearchOutput(_Item):
    call_id: str
    tools: list[msgspec.Raw]
    execution: str | None = None


class AdditionalTools(_Item):
    tools: list[msgspec.Raw]
    role: str | None = None


class GeneratedImage(_Item):
    result: str
    output_format: str | None = None
    action: msgspec.Raw = _ANY
    background: msgspec.Raw = _ANY
    error: msgspec.Raw = _ANY
    quality: msgspec.Raw = _ANY
    revised_prompt: msgspec.Raw = _ANY
    size: msgspec.Raw = _ANY
    svg_usage: msgspec.Raw = _ANY


class _Tool(msgspec.Struct, gc=False, forbid_unknown_fields=True, kw_only=True):
    type: str
    name: str
    description: str | None = None
    allowed_callers: list[str] | None = None
    async_: bool | None = msgspec.field(name="async", default=None)
    defer_loading: bool | None = None


class FunctionTool(_Tool):
    parameters: msgspec.Raw = _ANY
    strict: bool | None = None
    output_schema: msgspec.Raw = _ANY


class CustomTool(_Tool):
    format: msgspec.Raw = _ANY


class NamespaceTool(msgspec.Struct, gc=False, forbid_unknown_fields=True):
    type: str
    name: str
    tools: list[msgspec.Raw]
    description: str | None = None


class SearchTool(msgspec.Struct, gc=False, forbid_unknown_fields=True):
    type: str
    execution: str | None = None
    description: str | None = None
    parameters: msgspec.Raw = _ANY


class ChosenTool(msgspec.Struct, gc=False, forbid_unknown_fields=True):
    type: str
    name: str | None = None
    namespace: str | None = None


class Choice(msgspec.Struct, gc=False, forbid_unknown_fields=True):
    type: str
    name: str | None = None
    namespace: str | None = None
    mode: str | None = None
    tools: list[ChosenTool] | None = None


class Reasoning(msgspec.Struct, gc=False, forbid_unknown_fields=True):
    effort: str | None = None
    summary: str | None = None
    generate_summary: str | None = None
    context: str | None = None
    mode: str | None = None


class TextFormat(msgspec.Struct, gc=False, forbid_unknown_fields=True):
    type: str
    name: str | None = None
    description: str | None = None
    schema: msgspec.Raw = _ANY
    strict: bool | None = None


class TextOptions(msgspec.Struct, gc=False, forbid_unknown_fields=True):
    format: TextFormat | None = None
    verbosity: str | None = None


class CacheOptions(msgspec.Struct, gc=False, forbid_unknown_fields=True):
    mode: str | None = None
    ttl: str | None = None
    prewarm: bool | None = None
    comparison_response_id: str | None = None


class RequestBody(msgspec.Struct, gc=False, forbid_unknown_fields=True, kw_only=True):
    model: str
    input: str | list[msgspec.Raw] | None = None
    instructions: str | None = None
    tools: list[msgspec.Raw] | None = None
    tool_choice: str | Choice | None = None
    parallel_tool_calls: bool | None = None
    max_output_tokens: int | None = None
    temperature: float | None = None
    top_p: float | None = None
    top_logprobs: int | None = None
    include: list[str] | None = None
    text: TextOptions | None = None
    reasoning: Reasoning | None = None
    user: str | None = None
    safety_identifier: str | None = None
    service_tier: str | None = None
    prompt_cache_key: str | None = None
    prompt_cache_options: CacheOptions | None = None
    metadata: msgspec.Raw = _ANY
    stream: bool | None = None
    truncation: str | None = None
    background: bool | None = None
    # refused where they say anything
    context_management: msgspec.Raw = _ANY
    conversation: msgspec.Raw = _ANY
    moderation: msgspec.Raw = _ANY
    previous_response_id: msgspec.Raw = _ANY
    prompt: msgspec.Raw = _ANY
    # without a meaning elsewhere
    access_programs: msgspec.Raw = _ANY
    client_metadata: msgspec.Raw = _ANY
    image: msgspec.Raw = _ANY
    max_tool_calls: int | None = None
    prompt_cache_retention: str | None = None
    store: bool | None = None
    stream_options: msgspec.Raw = _ANY
