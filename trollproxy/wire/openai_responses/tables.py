"""What the dialect can say, what its clients call it, and what of their requests may go.

docs/compatibility.md is printed from these tables.
"""

import re

from trollproxy.chat import Feature
from trollproxy.wire.format import NameRules

CARRIES: dict[Feature, str] = {
    "system": "",
    "system_inside": "",
    "image_data": "",
    "image_url": "",
    "document_data": "",
    "document_url": "its title is left out",
    "document_text": "as ordinary text, its title and context before it",
    "document_context": "as ordinary text before the document",
    "document_citations": "the answer names no places in the document",
    "image_detail": "",
    "assistant_media": "shown to the model in a message of the user after it",
    "refusal_inside": "",
    "citations_inside": "of earlier answers only citations of web pages go along",
    "thinking_inside": "thoughts that this vendor did not make are left out",
    "tools": "",
    "tools_custom": "",
    "tools_strict": "",
    "tool_choice_auto": "",
    "tool_choice_none": "",
    "tool_choice_any": "",
    "tool_choice_one": "",
    "tool_choice_some": "",
    "parallel_off": "",
    "parallel_on": "",
    "result_media": "",
    "result_error": "there is no mark for it: `Error:` is put before the result",
    "max_output_tokens": "at least 16, which is the least that the provider takes",
    "temperature": "",
    "top_p": "",
    "logprobs": "",
    "output_json": "",
    "output_schema": "a schema without a name is called `answer`",
    "reasoning_off": "",
    "reasoning_on": "as effort `medium` where neither an effort nor a budget is given",
    "reasoning_adaptive": "as effort `medium` where none is given",
    "reasoning_effort": "",
    "reasoning_budget": "as the nearest effort: up to 2,048 tokens low, up to 8,192 medium, above high",
    "reasoning_shown": "as a summary",
    "reasoning_hidden": "",
    "cache_marks": "5m becomes 30m and 1h becomes 12h; left out on tools and on what the model said, and for models"
    " before GPT-5.6, which find what to keep by themselves",
    "cache_whole": "5m becomes 30m and 1h becomes 12h; left out for models before GPT-5.6",
    "cache_key": "",
    "user": "hashed where it is longer than 128 characters",
    "tier": "`flex`, `scale`, `priority`, `fast`, `ultrafast`, and `standard` as `default`; others are refused",
    "verbosity": "",
    "metadata": "",
}

PARAMS: dict[Feature, str] = {
    "system": "instructions",
    "system_inside": "input",
    "image_data": "input",
    "image_url": "input",
    "image_file": "file_id",
    "document_data": "file_data",
    "document_url": "file_url",
    "document_file": "file_id",
    "audio_data": "input_audio",
    "image_detail": "detail",
    "assistant_media": "input",
    "refusal_inside": "refusal",
    "citations_inside": "annotations",
    "thinking_inside": "input",
    "tools": "tools",
    "tools_custom": "tools",
    "tools_strict": "strict",
    "tool_choice_auto": "tool_choice",
    "tool_choice_none": "tool_choice",
    "tool_choice_any": "tool_choice",
    "tool_choice_one": "tool_choice",
    "tool_choice_some": "tool_choice",
    "parallel_off": "parallel_tool_calls",
    "parallel_on": "parallel_tool_calls",
    "result_media": "output",
    "max_output_tokens": "max_output_tokens",
    "temperature": "temperature",
    "top_p": "top_p",
    "logprobs": "top_logprobs",
    "output_json": "text.format",
    "output_schema": "text.format",
    "reasoning_off": "reasoning.effort",
    "reasoning_effort": "reasoning.effort",
    "reasoning_shown": "reasoning.summary",
    "reasoning_hidden": "reasoning.summary",
    "cache_marks": "prompt_cache_breakpoint",
    "cache_whole": "prompt_cache_options",
    "cache_key": "prompt_cache_key",
    "user": "safety_identifier",
    "tier": "service_tier",
    "verbosity": "text.verbosity",
    "metadata": "metadata",
}

_ONLY_THERE = "means something to OpenAI's own service only"
_SERVER_TOOLS = "is about tools that the provider runs, and such tools are refused"

DROPS: dict[str, str] = {
    "access_programs": _ONLY_THERE,
    "client_metadata": _ONLY_THERE,
    "image": _ONLY_THERE,
    "include": "encrypted reasoning always comes along; log probabilities are asked for; the rest " + _SERVER_TOOLS,
    "max_tool_calls": _SERVER_TOOLS,
    "prompt_cache_options.mode": "which parts are kept is told by the breakpoints",
    "prompt_cache_options.comparison_response_id": _ONLY_THERE,
    "prompt_cache_retention": "deprecated, and an upper bound, which other providers set themselves",
    "reasoning.context": "which earlier thoughts a model is shown again is the provider's own rule",
    "service_tier: auto, default": "the provider's default",
    "store": "nothing is stored by the gateway; an answer cannot be fetched again by its id",
    "stream_options": "obfuscation pads OpenAI's own stream",
    "truncation: disabled": "the default; `auto` is refused",
    "input[].id, status, created_by": "written by the provider, and empty of meaning for the model",
    "input[].phase": "a label that only models behind this format read",
    "input[].async, input[].caller (direct)": "tells how a call came about, not what it says",
    "input[].internal_chat_message_metadata_passthrough": _ONLY_THERE,
    "input[].content[].annotations": "other than those of web pages and files: they name things at the provider",
    "input[].content[].logprobs, parsed, parsed_arguments": "the vendor's SDK replays them with its own answers",
    "tools[].async, allowed_callers (direct), defer_loading, output_schema": "the tool is offered at once and as it is",
    "tools[] web_search with external_web_access": "Codex offers it unasked with every request; a model without it"
    " uses the other tools. Without that member, or chosen by `tool_choice`, it is refused",
}

_LONGEST = 64

RULES = NameRules(
    tool_name=re.compile(r"[a-zA-Z0-9_-]+"),
    max_tool_name=_LONGEST,
    call_id=re.compile(r"[\x21-\x7e]+"),
    max_call_id=_LONGEST,
    has_custom_tools=True,
)
