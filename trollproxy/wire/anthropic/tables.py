"""What the dialect can say, what its clients call it, and what of their requests may go.

docs/compatibility.md is printed from these tables.
"""

import re

from trollproxy.chat import Feature
from trollproxy.wire.format import NameRules

_UNSAMPLED = (
    "models from Claude 4.7 on, and any model while it thinks, take no sampling parameters: it is left out there"
)

CARRIES: dict[Feature, str] = {
    "system": "",
    "system_inside": "models that take it only at the top are given it in the user's turn, marked as a system message",
    "image_data": "",
    "image_url": "",
    "document_data": "PDF and plain text; other types of document are refused",
    "document_url": "",
    "document_text": "",
    "document_context": "",
    "document_citations": "",
    "image_detail": "left out: the provider chooses the resolution itself",
    "assistant_media": "shown to the model in the user's turn that follows",
    "refusal_inside": "as ordinary text",
    "citations_inside": "the sources of earlier answers are left out, their words stay",
    "thinking_inside": "thoughts that this vendor did not sign are left out",
    "tools": "",
    "tools_custom": "as a function of one string; a grammar is told in words",
    "tools_strict": "",
    "tool_choice_auto": "",
    "tool_choice_none": "",
    "tool_choice_any": "thinking with a token budget is left out, and it is refused for models that do not take it",
    "tool_choice_one": "thinking with a token budget is left out, and it is refused for models that do not take it",
    "tool_choice_some": "only the named tools are shown to the model",
    "parallel_off": "",
    "parallel_on": "",
    "result_media": "",
    "result_error": "",
    "max_output_tokens": "",
    "stop": "a sequence of nothing but white space is refused",
    "temperature": f"at most 1; {_UNSAMPLED}",
    "top_p": f"left out next to a temperature where a model takes only one; {_UNSAMPLED}",
    "top_k": _UNSAMPLED,
    "output_json": "asked for in words, which the model mostly follows",
    "output_schema": "the schema's name and description are left out; the provider is always strict",
    "reasoning_off": "models that always think are asked for their lowest effort instead",
    "reasoning_on": "",
    "reasoning_adaptive": "models without it get a token budget",
    "reasoning_effort": "the nearest that the model takes; models without efforts get a token budget",
    "reasoning_budget": "models that set it themselves get an effort; left out where the output limit leaves no room",
    "reasoning_shown": "",
    "reasoning_hidden": "",
    "cache_marks": "30m becomes 5m and 12h becomes 1h; the last four marks count",
    "cache_whole": "30m becomes 5m and 12h becomes 1h",
    "cache_key": "left out: the provider finds what it has kept without one",
    "user": "hashed where it is longer than 256 characters",
    "tier": "`priority`, `fast`, `standard`; others are refused",
    "verbosity": "asked for in words",
    "metadata": "left out: the provider keeps no labels",
}

PARAMS: dict[Feature, str] = {
    "system": "system",
    "system_inside": "messages",
    "image_data": "messages",
    "image_url": "messages",
    "image_file": "messages",
    "document_data": "messages",
    "document_url": "messages",
    "document_file": "messages",
    "document_text": "messages",
    "document_context": "context",
    "document_citations": "citations",
    "citations_inside": "citations",
    "thinking_inside": "messages",
    "assistant_media": "messages",
    "tools": "tools",
    "tools_strict": "strict",
    "tool_choice_auto": "tool_choice",
    "tool_choice_none": "tool_choice",
    "tool_choice_any": "tool_choice",
    "tool_choice_one": "tool_choice",
    "parallel_off": "tool_choice.disable_parallel_tool_use",
    "result_media": "messages",
    "result_error": "is_error",
    "max_output_tokens": "max_tokens",
    "stop": "stop_sequences",
    "temperature": "temperature",
    "top_p": "top_p",
    "top_k": "top_k",
    "output_schema": "output_config.format",
    "reasoning_off": "thinking",
    "reasoning_on": "thinking",
    "reasoning_adaptive": "thinking",
    "reasoning_effort": "output_config.effort",
    "reasoning_budget": "thinking.budget_tokens",
    "reasoning_shown": "thinking.display",
    "reasoning_hidden": "thinking.display",
    "cache_marks": "cache_control",
    "cache_whole": "cache_control",
    "user": "metadata.user_id",
    "tier": "service_tier",
}

DROPS: dict[str, str] = {
    "anthropic_beta": "names features of the vendor's API; what they bring into a request is judged by itself",
    "anthropic_version": "names a version of the vendor's API",
    "cache_control.scope": "who shares a kept prompt inside the vendor's account",
    "context_management.edits[clear_thinking_20251015]": "other vendors are not sent thoughts that they did not sign",
    "diagnostics": "asks why the vendor's prompt cache missed; the answer stays empty",
    "fallbacks": "names models of the vendor to try after a refusal; a refusal is reported as one",
    "fallback_credit_token": "a discount at the vendor",
    "messages.content[fallback]": "a marker that the vendor does not show to the model either",
    "messages.content.caller": "says by what the call was made; the call itself stays",
    "messages.content.parsed_output": "the SDK's own reading of the text next to it",
    "messages.content.transformations": "what the vendor does with too large an image",
    "system[x-anthropic-billing-header]": "Claude Code's note to the vendor's billing, in the form of a system text",
    "thinking.block_binding": "how the vendor checks the signatures of thoughts",
    "tools.defer_loading": "the tool is shown to the model from the start",
    "tools.eager_input_streaming": "how finely the vendor streams arguments; they are streamed as they come",
    "tools[tool_search_tool]": "finds deferred tools, and every tool is shown from the start",
}

RULES = NameRules(
    tool_name=re.compile(r"[a-zA-Z0-9_-]+"),
    max_tool_name=128,
    call_id=re.compile(r"[a-zA-Z0-9_-]+"),
    max_call_id=128,  # the vendor names no bound; its own are 30 long
    has_custom_tools=False,
)
