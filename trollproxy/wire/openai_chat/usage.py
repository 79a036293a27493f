"""The dialect's accounting of tokens, taken apart into our buckets and put together again."""

import msgspec

from trollproxy.chat import Usage
from trollproxy.wire.body import count_of, decode_reply
from trollproxy.wire.openai_chat.shallow import USAGE, UsageObject


def read_usage(raw: msgspec.Raw) -> Usage | None:
    usage = decode_reply(USAGE, raw) if raw else None
    return to_usage(usage) if usage is not None else None


def to_usage(usage: UsageObject) -> Usage:
    """Cached and written tokens are inside the prompt's count, reasoning inside the completion's: take them apart."""
    prompt, completion = usage.prompt_tokens_details, usage.completion_tokens_details
    read = written = reasoning = 0
    if prompt is not None:
        read, written = count_of(prompt.cached_tokens), count_of(prompt.cache_write_tokens)
    if completion is not None:
        reasoning = count_of(completion.reasoning_tokens)
    given, output = count_of(usage.prompt_tokens), count_of(usage.completion_tokens)
    # xAI counts reasoning beside the completion's count, Gemini's endpoint of this dialect in the total only.
    beside = (usage.total_tokens or 0) - given - output
    if beside > 0:
        output += beside
        reasoning = max(reasoning, beside)
    return Usage(
        uncached=count_of(given - read - written),
        write_30m=written,  # reported without its lifetime; 30 minutes is the vendor's default
        read=read,
        out_text=count_of(output - reasoning),
        out_reasoning=reasoning,
    )


def write_usage(usage: Usage) -> dict[str, object]:
    return {
        "prompt_tokens": usage.input_tokens,
        "completion_tokens": usage.output_tokens,
        "total_tokens": usage.input_tokens + usage.output_tokens,
        "prompt_tokens_details": {"cached_tokens": usage.read, "cache_write_tokens": usage.written_tokens},
        "completion_tokens_details": {"reasoning_tokens": usage.out_reasoning},
    }
