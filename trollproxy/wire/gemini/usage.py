"""The vendor's token counts, to and from our buckets.

The prompt's count includes what came from a cache, and excludes what tools put into the prompt; thoughts are counted
apart from the answer.
"""

import msgspec

from trollproxy.chat import Usage


class UsageMetadata(msgspec.Struct, rename="camel"):
    prompt_token_count: int | None = None
    cached_content_token_count: int | None = None
    candidates_token_count: int | None = None
    thoughts_token_count: int | None = None
    tool_use_prompt_token_count: int | None = None
    total_token_count: int | None = None
    traffic_type: str | None = None


TIERS = {"ON_DEMAND_FLEX": "flex", "ON_DEMAND_PRIORITY": "priority"}
_TRAFFIC = {tier: traffic for traffic, tier in TIERS.items()}


def read_usage(counted: UsageMetadata, *, tool_requests: int = 0) -> Usage | None:
    """None where there is no count at all: some chunks carry only the kind of traffic, and must not zero the rest."""
    counts = (
        counted.prompt_token_count,
        counted.candidates_token_count,
        counted.thoughts_token_count,
        counted.total_token_count,
    )
    if all(count is None for count in counts):
        return None
    prompt, read = _count_of(counted.prompt_token_count), _count_of(counted.cached_content_token_count)
    from_tools = _count_of(counted.tool_use_prompt_token_count)
    thoughts = _count_of(counted.thoughts_token_count)
    answer = counted.candidates_token_count
    if answer is None and counted.total_token_count is not None:
        answer = counted.total_token_count - prompt - from_tools - thoughts
    return Usage(
        uncached=max(0, prompt - read) + from_tools,
        read=read,
        out_text=_count_of(answer),
        out_reasoning=thoughts,
        tool_requests=tool_requests,
    )


def write_usage(usage: Usage, tier: str | None = None) -> dict[str, object]:
    counted: dict[str, object] = {
        "promptTokenCount": usage.input_tokens,
        "candidatesTokenCount": usage.out_text,
        "totalTokenCount": usage.input_tokens + usage.output_tokens,
    }
    if usage.read:
        counted["cachedContentTokenCount"] = usage.read
    if usage.out_reasoning:
        counted["thoughtsTokenCount"] = usage.out_reasoning
    if tier in _TRAFFIC:
        counted["trafficType"] = _TRAFFIC[tier]
    return counted


def _count_of(tokens: int | None) -> int:
    return max(0, tokens or 0)
