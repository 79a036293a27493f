"""A request as the vendor's SDKs send it, member by member. What is not declared here is refused by its name.

A member of type `Unread` may go: `tables.DROPS` says why. Of the beta members, those are here that Claude Code sends.
"""

from typing import Literal

import msgspec

from trollproxy.wire.body import UNSAID

Unread = msgspec.Raw
_ABSENT = UNSAID


class _Strict(msgspec.Struct, gc=False, forbid_unknown_fields=True):
    pass


class Mark(_Strict):
    """`cache_control`."""

    type: Literal["ephemeral"]
    ttl: Literal["5m", "1h"] | None = None
    scope: Unread = _ABSENT


class _Marked(_Strict):
    cache_control: Mark | None = None


class Base64Source(_Strict, tag="base64"):
    data: str
    media_type: str


class UrlSource(_Strict, tag="url"):
    url: str


class FileSource(_Strict, tag="file"):
    file_id: str


class PlainSource(_Strict, tag="text"):
    data: str
    media_type: str = "text/plain"


class CitationsConfig(_Strict):
    enabled: bool = False


class TextBlock(_Marked, tag="text", kw_only=True):
    text: str
    citations: list[msgspec.Raw] | None = None
    parsed_output: Unread = _ABSENT  # the SDK's own, in answers that it parsed


class ImageBlock(_Marked, tag="image", kw_only=True):
    source: Base64Source | UrlSource | FileSource
    transformations: Unread = _ABSENT


class ContentSource(_Strict, tag="content"):
    content: str | list[TextBlock | ImageBlock]


class DocumentBlock(_Marked, tag="document", kw_only=True):
    source: Base64Source | UrlSource | FileSource | PlainSource | ContentSource
    citations: CitationsConfig | None = None
    context: str | None = None
    title: str | None = None


class SearchResultBlock(_Marked, tag="search_result", kw_only=True):
    content: list[TextBlock]
    source: str
    title: str
    citations: CitationsConfig | None = None


class ThinkingBlock(_Strict, tag="thinking"):
    thinking: str
    signature: str = ""


class RedactedThinkingBlock(_Strict, tag="redacted_thinking"):
    data: str


class ToolUseBlock(_Marked, tag="tool_use", kw_only=True):
    id: str
    name: str
    input: msgspec.Raw
    caller: Unread = _ABSENT
    toolset_name: None = None


class ToolReferenceBlock(_Marked, tag="tool_reference", kw_only=True):
    tool_name: str


class ToolResultBlock(_Marked, tag="tool_result", kw_only=True):
    tool_use_id: str
    content: str | list[TextBlock | ImageBlock | DocumentBlock | SearchResultBlock | ToolReferenceBlock] | None = None
    is_error: bool | None = None
    toolset_name: None = None


class FallbackBlock(msgspec.Struct, gc=False, tag="fallback"):
    """Where one model's output gave way to the next: the vendor itself does not show it to the model."""


Block = (
    TextBlock
    | ImageBlock
    | DocumentBlock
    | SearchResultBlock
    | ThinkingBlock
    | RedactedThinkingBlock
    | ToolUseBlock
    | ToolResultBlock
    | FallbackBlock
)


class ToolReference(_Strict, tag="tool_reference"):
    name: str


class ToolDefinition(_Strict, tag="tool_definition"):
    definition: msgspec.Raw


class ToolAdditionBlock(_Marked, tag="tool_addition", kw_only=True):
    tool: ToolReference | ToolDefinition


class ToolRemovalBlock(_Marked, tag="tool_removal", kw_only=True):
    tool: ToolReference


Level = Literal["low", "medium", "high", "xhigh", "max"]


class TurnOutputConfig(_Strict):
    effort: Level | None = None


class UserMessage(_Strict, tag_field="role", tag="user"):
    content: str | list[Block]


class AssistantMessage(_Strict, tag_field="role", tag="assistant"):
    content: str | list[Block]


class SystemMessage(_Strict, tag_field="role", tag="system"):
    content: str | list[TextBlock | ToolAdditionBlock | ToolRemovalBlock] | None = None
    clear_at: Literal["next_user_message", "never"] | None = None
    output_config: TurnOutputConfig | None = None


Message = UserMessage | AssistantMessage | SystemMessage


class ToolParam(_Marked, kw_only=True):
    name: str
    input_schema: msgspec.Raw
    type: Literal["custom"] | None = None
    description: str | None = None
    strict: bool | None = None
    input_examples: list[msgspec.Raw] | None = None
    allowed_callers: list[str] | None = None
    defer_loading: Unread = _ABSENT
    eager_input_streaming: Unread = _ABSENT


class _Choice(_Strict):
    disable_parallel_tool_use: bool | None = None


class AutoChoice(_Choice, tag="auto"):
    pass


class AnyChoice(_Choice, tag="any"):
    pass


class NamedChoice(_Choice, tag="tool", kw_only=True):
    name: str


class NoChoice(_Choice, tag="none"):
    pass


class _Shown(_Strict):
    display: Literal["summarized", "omitted", "updates"] | None = None
    block_binding: Unread = _ABSENT


class AdaptiveThinking(_Shown, tag="adaptive"):
    pass


class EnabledThinking(_Shown, tag="enabled", kw_only=True):
    budget_tokens: int


class DisabledThinking(_Strict, tag="disabled"):
    pass


class BetweenToolsThinking(_Strict, tag="between_tools"):
    pass


class OutputFormat(_Strict):
    type: Literal["json_schema"]
    schema: msgspec.Raw


class OutputConfig(_Strict):
    effort: Level | None = None
    format: OutputFormat | None = None
    task_budget: msgspec.Raw = _ABSENT


class Metadata(_Strict):
    user_id: str | None = None


class Edit(msgspec.Struct, gc=False):
    type: str


class ContextManagement(_Strict):
    edits: list[Edit] | None = None


class MessagesRequest(_Strict):
    model: str
    messages: list[Message]
    max_tokens: int | None = None
    stream: bool | None = None
    system: str | list[TextBlock] | None = None
    tools: list[msgspec.Raw] | None = None
    tool_choice: AutoChoice | AnyChoice | NamedChoice | NoChoice | None = None
    thinking: AdaptiveThinking | EnabledThinking | DisabledThinking | BetweenToolsThinking | None = None
    output_config: OutputConfig | None = None
    output_format: OutputFormat | None = None
    temperature: float | None = None
    top_p: float | None = None
    top_k: int | None = None
    stop_sequences: list[str] | None = None
    cache_control: Mark | None = None
    metadata: Metadata | None = None
    service_tier: Literal["auto", "standard_only"] | None = None
    speed: Literal["standard", "fast"] | None = None
    context_management: ContextManagement | None = None
    container: msgspec.Raw = _ABSENT
    mcp_servers: msgspec.Raw = _ABSENT
    thread: msgspec.Raw = _ABSENT
    compaction: msgspec.Raw = _ABSENT
    inference_geo: msgspec.Raw = _ABSENT
    billing_policy: msgspec.Raw = _ABSENT
    fallbacks: Unread = _ABSENT
    fallback_credit_token: Unread = _ABSENT
    diagnostics: Unread = _ABSENT
    anthropic_version: Unread = _ABSENT
    anthropic_beta: Unread = _ABSENT
