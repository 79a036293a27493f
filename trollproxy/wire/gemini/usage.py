"""The vendor's token counts, to and from our buckets.

The prompt's count includes what came from a cache, and excludes what tools put into the prompt; thoughts are counted
apart from the answer.
"""

from trollproxy.chat import Usage
from trollproxy.wire.body import count_of
from trollproxy.wire.gemini.shallow import UsageMetadata

TIERS = {"ON_DEMAND_FLEX": "flex", "ON_DEMAND_PRIORITY": "priority"}
_TRAFFIC = {tier: traffic for traffic, tier in TIERS.items()}


def read_usage(counted: UsageMetadata, *, tool_requests: int = 0) -> Usage | None:
    """None where there is no count at all: some chunks carry only the kind of traffic, and must not zero the rest."""
    answer, thinking, total = counted.candidates_token_count, counted.thoughts_token_count, counted.total_token_count
    if counted.prompt_token_count is None and answer is None and thinking is None and total is None:
        return None
    prompt, read = count_of(counted.prompt_token_count), count_of(counted.cached_content_token_count)
    from_tools, thoughts = count_of(counted.tool_use_prompt_token_count), count_of(thinking)
    if answer is None and total is not None:
        answer = total - prompt - from_tools - thoughts
    return Usage(
        uncached=count_of(prompt - read) + from_tools,
        read=read,
        out_text=count_of(answer),
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
