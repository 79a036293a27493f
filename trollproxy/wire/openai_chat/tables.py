"""What the dialect can say, what its clients call it, and what of their requests may go.

docs/compatibility.md is printed from these tables.
"""

import re
from collections.abc import Mapping

from trollproxy.chat import Feature
from trollproxy.wire.format import NameRules

_BY_EFFORT = "the provider takes an effort, not a number: the nearest one"
_BY_ITSELF = "reasoning models of this dialect decide by themselves whether to show their thoughts"

_JOINED = "several texts become one for models that are not the vendor's own"

# Documents and recordings by address, other vendors' files, and films are absent: there is no word for them.
CARRIES: Mapping[Feature, str] = {
    "system": _JOINED,
    "system_inside": _JOINED,
    "image_data": "",
    "image_url": "",
    "document_data": "",
    "document_text": "as a text under its name",
    "document_context": "stands as a text before the document",
    "document_citations": "the answer names no places in the document",
    "audio_data": "wav and mp3; other recordings are refused",
    "image_detail": "",
    "refusal_inside": "",
    "citations_inside": "what an earlier answer cited is not told again",
    "thinking_inside": "only thoughts that came as plain `reasoning_content` are told again",
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
    "result_media": "stand in a user's message behind all results",
    "result_error": "an error is told in words before the result",
    "max_output_tokens": "",
    "stop": "at most four; more are refused",
    "temperature": "",
    "top_p": "",
    "seed": "",
    "presence_penalty": "",
    "frequency_penalty": "",
    "logit_bias": "",
    "logprobs": "",
    "choices": "",
    "output_json": "",
    "output_schema": "",
    "reasoning_off": "",
    "reasoning_on": "thinking without a budget or an effort is the provider's default effort",
    "reasoning_adaptive": "thinking without an effort is the provider's default effort",
    "reasoning_effort": "",
    "reasoning_budget": _BY_EFFORT,
    "reasoning_shown": _BY_ITSELF,
    "reasoning_hidden": _BY_ITSELF,
    "cache_marks": "5m becomes 30m and 1h becomes 12h; the last four count; left out on tools and calls, and for "
    "models that take none (all but GPT-5.6 and later)",
    "cache_whole": "the provider keeps whole prompts by itself",
    "cache_key": "left out for models that are not the vendor's own: their servers refuse members they do not know",
    "user": "hashed where it is longer than 128 characters",
    "tier": "",
    "verbosity": "",
    "metadata": "",
}

PARAMS: Mapping[Feature, str] = {
    "system": "messages",
    "system_inside": "messages",
    "image_data": "messages.content.image_url",
    "image_url": "messages.content.image_url",
    "document_data": "messages.content.file",
    "document_file": "messages.content.file.file_id",
    "audio_data": "messages.content.input_audio",
    "image_detail": "messages.content.image_url.detail",
    "refusal_inside": "messages.refusal",
    "thinking_inside": "messages.reasoning_content",
    "tools": "tools",
    "tools_custom": "tools.custom",
    "tools_strict": "tools.function.strict",
    "tool_choice_auto": "tool_choice",
    "tool_choice_none": "tool_choice",
    "tool_choice_any": "tool_choice",
    "tool_choice_one": "tool_choice",
    "tool_choice_some": "tool_choice.allowed_tools",
    "parallel_off": "parallel_tool_calls",
    "parallel_on": "parallel_tool_calls",
    "max_output_tokens": "max_completion_tokens",
    "stop": "stop",
    "temperature": "temperature",
    "top_p": "top_p",
    "top_k": "top_k",
    "seed": "seed",
    "presence_penalty": "presence_penalty",
    "frequency_penalty": "frequency_penalty",
    "logit_bias": "logit_bias",
    "logprobs": "logprobs",
    "choices": "n",
    "output_json": "response_format",
    "output_schema": "response_format",
    "reasoning_off": "reasoning_effort",
    "reasoning_effort": "reasoning_effort",
    "cache_marks": "prompt_cache_breakpoint",
    "cache_whole": "prompt_cache_options",
    "cache_key": "prompt_cache_key",
    "user": "safety_identifier",
    "tier": "service_tier",
    "verbosity": "verbosity",
    "metadata": "metadata",
}

DROPS: Mapping[str, str] = {
    "store": "whether the vendor keeps the answer for its own tools",
    "stream_options.include_obfuscation": "padding against eavesdroppers of the vendor's stream",
    "prediction": "text that the vendor may reuse to answer faster; it changes no answer",
    "prompt_cache_retention": "how long the vendor keeps a prompt; superseded by the marks, which are carried",
    "prompt_cache_options.mode": "whether the vendor adds marks of its own",
    "messages.name": "tells apart speakers of one role; no other dialect has a place for it",
    "messages.annotations": "what an earlier answer cited; its words stay",
    "messages.parsed": "the SDK's own reading of the text next to it",
    "messages.reasoning_details": "another gateway's record of thoughts; its signatures are not ours to replay",
    "messages.tool_calls.index": "left over from a stream",
    "messages.tool_calls.function.parsed_arguments": "the SDK's own reading of the arguments next to it",
}

RULES = NameRules(
    tool_name=re.compile(r"[A-Za-z0-9_-]+"),
    max_tool_name=64,
    call_id=re.compile(r"[!-~]+"),
    max_call_id=40,  # Azure's; the vendor's own limit is 64
    has_custom_tools=True,
)
