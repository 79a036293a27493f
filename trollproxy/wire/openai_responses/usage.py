"""The dialect's accounting of tokens, taken apart into our buckets and put together again.

Tokens read from and written to the cache are inside the input's count here, reasoning inside the output's.
"""

import msgspec

from trollproxy.chat import Usage
from trollproxy.wire.body import count_of, decode_reply
from trollproxy.wire.openai_responses.shallow import TOOL_USAGE, USAGE, InputDetails, ToolUsage, UsageObject


def read_usage(usage: msgspec.Raw, tool_usage: msgspec.Raw) -> Usage | None:
    """Given the JSON of a response's `usage` and `tool_usage`; None where nothing is told."""
    told = decode_reply(USAGE, usage) if usage else None
    if told is None:
        return None
    return to_usage(told, read_tools(tool_usage))


def read_tools(tool_usage: msgspec.Raw) -> ToolUsage | None:
    return decode_reply(TOOL_USAGE, tool_usage) if tool_usage else None


def to_usage(told: UsageObject, tools: ToolUsage | None) -> Usage:
    given, made = told.input_tokens_details, told.output_tokens_details
    read = write_30m = write_12h = reasoning = 0
    if given is not None:
        read = count_of(given.cached_tokens)
        write_30m, write_12h = _written(given)
    if made is not None:
        reasoning = count_of(made.reasoning_tokens)
    return Usage(
        uncached=count_of(count_of(told.input_tokens) - read - write_30m - write_12h),
        write_30m=write_30m,
        write_12h=write_12h,
        read=read,
        out_text=count_of(count_of(told.output_tokens) - reasoning),
        out_reasoning=reasoning,
        tool_requests=count_of(tools.web_search.num_requests) if tools is not None and tools.web_search else 0,
    )


def _written(given: InputDetails) -> tuple[int, int]:
    """What was written for 30 minutes, which is the vendor's default where it does not say, and for 12 hours."""
    split = given.cache_write_tokens_details
    if split is None:
        return count_of(given.cache_write_tokens), 0
    write_30m, write_12h = count_of(split.ttl_30m_tokens), count_of(split.ttl_12h_tokens)
    if given.cache_write_tokens is None:
        return write_30m, write_12h
    total = count_of(given.cache_write_tokens)
    write_12h = min(write_12h, total)
    return total - write_12h, write_12h


def write_usage(usage: Usage) -> dict[str, object]:
    """The dialect's lifetimes are two; each of ours counts as the one that replaces it."""
    write_30m, write_12h = usage.write_5m + usage.write_30m, usage.write_1h + usage.write_12h
    return {
        "input_tokens": usage.input_tokens,
        "input_tokens_details": {
            "cached_tokens": usage.read,
            "cache_write_tokens": write_30m + write_12h,
            "cache_write_tokens_details": {"ttl_30m_tokens": write_30m, "ttl_12h_tokens": write_12h},
        },
        "output_tokens": usage.output_tokens,
        "output_tokens_details": {"reasoning_tokens": usage.out_reasoning},
        "total_tokens": usage.input_tokens + usage.output_tokens,
    }


def write_tool_usage(usage: Usage) -> dict[str, object]:
    return {"web_search": {"num_requests": usage.tool_requests}}
