"""The vendor's request, member by member, and which of them have no words elsewhere.

Decoding is strict: a member that is not declared here is refused by name. Members typed as Raw are either refused
(REFUSED, unless they hold nothing) or go (tables.DROPS).
"""

import msgspec

from trollproxy.wire.body import UNSAID
from trollproxy.wire.gemini.media import Blob, FileData

Raw = msgspec.Raw
_NONE = UNSAID


class Strict(msgspec.Struct, gc=False, rename="camel", forbid_unknown_fields=True, kw_only=True):
    pass


class FunctionCall(Strict):
    name: str
    id: str | None = None
    args: Raw = _NONE
    partial_args: Raw = _NONE
    will_continue: Raw = _NONE


class _Medium(Strict):
    """What says how a medium is to be looked at."""

    inline_data: Blob | None = None
    file_data: FileData | None = None
    media_resolution: Raw = _NONE
    media_processing: Raw = _NONE
    video_metadata: Raw = _NONE
    document_metadata: Raw = _NONE
    spreadsheet_metadata: Raw = _NONE
    audio_metadata: Raw = _NONE


class ResponsePart(_Medium):
    pass


class FunctionResponse(Strict):
    name: str = ""
    id: str | None = None
    response: Raw = _NONE
    parts: list[ResponsePart] | None = None
    will_continue: Raw = _NONE
    scheduling: Raw = _NONE


class Part(_Medium):
    text: str | None = None
    thought: bool | None = None
    thought_signature: str | None = None
    function_call: FunctionCall | None = None
    function_response: FunctionResponse | None = None
    executable_code: Raw = _NONE
    code_execution_result: Raw = _NONE
    tool_call: Raw = _NONE
    tool_response: Raw = _NONE
    part_metadata: Raw = _NONE
    audio_transcription: Raw = _NONE
    speech_metadata: Raw = _NONE


class Content(Strict):
    parts: list[Part] | Part | None = None
    role: str | None = None


class FunctionDeclaration(Strict):
    name: str
    description: str | None = None
    parameters: Raw = _NONE
    parameters_json_schema: Raw = _NONE
    response: Raw = _NONE
    response_json_schema: Raw = _NONE
    behavior: Raw = _NONE


class Tool(Strict):
    function_declarations: list[FunctionDeclaration] | None = None
    retrieval: Raw = _NONE
    computer_use: Raw = _NONE
    file_search: Raw = _NONE
    google_search: Raw = _NONE
    google_search_retrieval: Raw = _NONE
    google_maps: Raw = _NONE
    code_execution: Raw = _NONE
    enterprise_web_search: Raw = _NONE
    parallel_ai_search: Raw = _NONE
    exa_ai_search: Raw = _NONE
    url_context: Raw = _NONE
    mcp_servers: Raw = _NONE


class CallingConfig(Strict):
    mode: str | None = None
    allowed_function_names: list[str] | None = None
    stream_function_call_arguments: Raw = _NONE


class ToolConfig(Strict):
    function_calling_config: CallingConfig | None = None
    retrieval_config: Raw = _NONE
    include_server_side_tool_invocations: Raw = _NONE


class ThinkingConfig(Strict):
    include_thoughts: bool | None = None
    thinking_budget: int | None = None
    thinking_level: str | None = None


class GenerationConfig(Strict):
    max_output_tokens: int | None = None
    candidate_count: int | None = None
    stop_sequences: list[str] | None = None
    temperature: float | None = None
    top_p: float | None = None
    top_k: float | None = None
    seed: int | None = None
    presence_penalty: float | None = None
    frequency_penalty: float | None = None
    response_logprobs: bool | None = None
    logprobs: int | None = None
    response_mime_type: str | None = None
    response_schema: Raw = _NONE
    response_json_schema: Raw = _NONE
    thinking_config: ThinkingConfig | None = None
    response_modalities: list[str] | None = None
    media_resolution: Raw = _NONE
    audio_timestamp: Raw = _NONE
    audio_transcription_config: Raw = _NONE
    enable_affective_dialog: Raw = _NONE
    enable_enhanced_civic_answers: Raw = _NONE
    image_config: Raw = _NONE
    model_selection_config: Raw = _NONE
    response_format: Raw = _NONE
    routing_config: Raw = _NONE
    speech_config: Raw = _NONE
    translation_config: Raw = _NONE


class GenerateRequest(Strict):
    contents: list[Content] | Content = msgspec.field(default_factory=list)
    system_instruction: str | Content | None = None
    tools: list[Tool] | Tool | None = None
    tool_config: ToolConfig | None = None
    generation_config: GenerationConfig | None = None
    service_tier: str | None = None
    labels: Raw = _NONE
    safety_settings: Raw = _NONE
    store: Raw = _NONE
    model: str | None = None
    cached_content: Raw = _NONE
    continuation_token: Raw = _NONE
    generation_output_config: Raw = _NONE
    model_armor_config: Raw = _NONE
    generate_content_request: "GenerateRequest | None" = None  # countTokens wraps what it counts


REQUEST = msgspec.json.Decoder(GenerateRequest)

_SERVER_TOOLS = (
    "retrieval",
    "computer_use",
    "file_search",
    "google_search",
    "google_search_retrieval",
    "google_maps",
    "code_execution",
    "enterprise_web_search",
    "parallel_ai_search",
    "exa_ai_search",
    "url_context",
    "mcp_servers",
)
_CUTS = ("media_processing", "video_metadata", "document_metadata", "spreadsheet_metadata", "audio_metadata")
REFUSED: dict[type[Strict], tuple[str, ...]] = {
    FunctionCall: ("partial_args", "will_continue"),
    ResponsePart: _CUTS,
    FunctionResponse: ("will_continue", "scheduling"),
    Part: (*_CUTS, "executable_code", "code_execution_result", "tool_call", "tool_response"),
    FunctionDeclaration: ("behavior",),
    Tool: _SERVER_TOOLS,
    ToolConfig: ("retrieval_config", "include_server_side_tool_invocations"),
    GenerationConfig: (
        "audio_timestamp",
        "audio_transcription_config",
        "enable_affective_dialog",
        "image_config",
        "model_selection_config",
        "response_format",
        "routing_config",
        "speech_config",
        "translation_config",
    ),
    GenerateRequest: ("cached_content", "continuation_token", "generation_output_config", "model_armor_config"),
}
# What says the same as leaving the member out.
NOTHING = frozenset(
    {
        b"",
        b"null",
        b"false",
        b'""',
        b"[]",
        b'"BLOCKING"',
        b'"UNSPECIFIED"',
        b'"MEDIA_PROCESSING_UNSPECIFIED"',
    }
)
_LONGEST = max(map(len, NOTHING))


def says(member: Raw) -> bool:
    return member is not _NONE and (len(member) > _LONGEST or bytes(member) not in NOTHING)
