"""A request as the vendor's reference lists it. Every member stands here, since one that does not would be lost.

Unknown members are errors of decoding (`body.decode_strictly`). What replies carry and clients replay is known.
"""

from typing import Literal

import msgspec

from trollproxy.wire.body import UNSAID


class Strict(msgspec.Struct, gc=False, forbid_unknown_fields=True):
    """Decoding names what it does not know."""


class Breakpoint(Strict):
    """A place up to which the prompt is worth keeping."""

    mode: Literal["explicit", "implicit"] = "explicit"
    ttl: Literal["30m", "12h"] | None = None


class CacheControl(Strict):
    """The same as Anthropic's dialect writes it; several gateways take it here, and clients send it."""

    type: Literal["ephemeral"]
    ttl: Literal["5m", "1h"] | None = None


class Marked(Strict, kw_only=True):
    prompt_cache_breakpoint: Breakpoint | None = None
    cache_control: CacheControl | None = None


class TextPart(Marked, kw_only=True, tag="text"):
    text: str


class RefusalPart(Strict, tag="refusal"):
    refusal: str


class ImageUrl(Strict):
    url: str
    detail: str | None = None


class ImagePart(Marked, kw_only=True, tag="image_url"):
    image_url: ImageUrl


class Audio(Strict):
    data: str
    format: str


class AudioPart(Marked, kw_only=True, tag="input_audio"):
    input_audio: Audio


class File(Strict):
    file_data: str | None = None
    file_id: str | None = None
    filename: str | None = None


class FilePart(Marked, kw_only=True, tag="file"):
    file: File


ContentPart = TextPart | RefusalPart | ImagePart | AudioPart | FilePart
Content = str | list[ContentPart]


class Said(Strict):
    """What a call says; `arguments` of a function, `input` of a custom tool."""

    name: str
    arguments: str | None = None
    input: str | None = None
    parsed_arguments: msgspec.Raw = UNSAID  # the SDK's reading of `arguments`


class Call(Strict):
    id: str
    type: Literal["function", "custom"] = "function"
    function: Said | None = None
    custom: Said | None = None
    index: int | None = None  # left over from a stream


class SystemMessage(Strict, tag_field="role", tag="system"):
    content: Content
    name: str | None = None


class DeveloperMessage(Strict, tag_field="role", tag="developer"):
    content: Content
    name: str | None = None


class UserMessage(Strict, tag_field="role", tag="user"):
    content: Content
    name: str | None = None


class AssistantMessage(Strict, tag_field="role", tag="assistant"):
    content: Content | None = None
    refusal: str | None = None
    tool_calls: list[Call] | None = None
    function_call: Said | None = None
    reasoning_content: str | None = None
    reasoning: str | None = None
    name: str | None = None
    audio: msgspec.Raw = UNSAID  # the id of a recording that the vendor made
    annotations: msgspec.Raw = UNSAID
    parsed: msgspec.Raw = UNSAID
    reasoning_details: msgspec.Raw = UNSAID


class ToolMessage(Strict, tag_field="role", tag="tool"):
    content: Content
    tool_call_id: str
    name: str | None = None


class FunctionMessage(Strict, tag_field="role", tag="function"):
    """The predecessor of a tool's result: told apart by the function's name alone."""

    name: str
    content: str | None = None


Message = SystemMessage | DeveloperMessage | UserMessage | AssistantMessage | ToolMessage | FunctionMessage


class Function(Strict):
    name: str
    description: str | None = None
    parameters: msgspec.Raw = UNSAID
    strict: bool | None = None


class Grammar(Strict):
    syntax: str
    definition: str


class CustomFormat(Strict):
    type: Literal["text", "grammar"]
    grammar: Grammar | None = None


class Custom(Strict):
    name: str
    description: str | None = None
    format: msgspec.Raw = UNSAID


class FunctionTool(Strict, tag="function"):
    function: Function
    cache_control: CacheControl | None = None


class CustomTool(Strict, tag="custom"):
    custom: Custom
    cache_control: CacheControl | None = None


class Named(msgspec.Struct, gc=False):
    """A tool that is only named. Some clients repeat the whole of it."""

    name: str


class AllowedTool(msgspec.Struct, gc=False):
    function: Named | None = None
    custom: Named | None = None


class AllowedTools(Strict):
    mode: Literal["auto", "required"]
    tools: list[AllowedTool]


class NamedChoice(Strict):
    type: Literal["function", "custom", "allowed_tools"]
    function: Named | None = None
    custom: Named | None = None
    allowed_tools: AllowedTools | None = None


class JsonSchema(Strict):
    name: str
    description: str | None = None
    schema: msgspec.Raw = UNSAID
    strict: bool | None = None


class TextFormat(Strict, tag="text"):
    pass


class JsonFormat(Strict, tag="json_object"):
    pass


class SchemaFormat(Strict, tag="json_schema"):
    json_schema: JsonSchema


class CacheOptions(Strict):
    mode: Literal["implicit", "explicit"] | None = None
    ttl: Literal["30m"] | None = None


class StreamOptions(Strict):
    include_usage: bool | None = None
    include_obfuscation: bool | None = None


class ChatRequest(Strict):
    model: str
    messages: list[Message]
    audio: msgspec.Raw = UNSAID
    frequency_penalty: float | None = None
    function_call: Literal["none", "auto"] | Named | None = None
    functions: list[Function] | None = None
    logit_bias: msgspec.Raw = UNSAID
    logprobs: bool | None = None
    max_completion_tokens: int | None = None
    max_tokens: int | None = None
    metadata: msgspec.Raw = UNSAID
    modalities: list[str] | None = None
    moderation: msgspec.Raw = UNSAID
    n: int | None = None
    parallel_tool_calls: bool | None = None
    prediction: msgspec.Raw = UNSAID
    presence_penalty: float | None = None
    prompt_cache_key: str | None = None
    prompt_cache_options: CacheOptions | None = None
    prompt_cache_retention: str | None = None
    reasoning_effort: str | None = None
    response_format: TextFormat | JsonFormat | SchemaFormat | None = None
    safety_identifier: str | None = None
    seed: int | None = None
    service_tier: str | None = None
    stop: str | list[str] | None = None
    store: bool | None = None
    stream: bool | None = None
    stream_options: StreamOptions | None = None
    temperature: float | None = None
    tool_choice: Literal["none", "auto", "required"] | NamedChoice | None = None
    tools: list[FunctionTool | CustomTool] | None = None
    top_logprobs: int | None = None
    top_p: float | None = None
    top_k: int | None = None  # not the vendor's; compatible servers take it
    user: str | None = None
    verbosity: str | None = None
    web_search_options: msgspec.Raw = UNSAID
