"""The dialect's accounting. Input tokens exclude cache reads and writes here, unlike at OpenAI.

`iterations` lists every time the provider's side ran a model for one request. Compactions, advisors and models that
declined before a fallback answered are in that list only, so where it is longer than the totals it is what is paid.
"""

from collections.abc import Iterable

import msgspec

from trollproxy.chat import Usage
from trollproxy.wire.anthropic.shallow import Iteration, UsageObject
from trollproxy.wire.body import count_of


def overwrite(known: UsageObject, given: UsageObject) -> UsageObject:
    """Later figures are cumulative and replace earlier ones; what an event leaves out stays."""
    for name in UsageObject.__struct_fields__:
        if getattr(given, name) is None:
            setattr(given, name, getattr(known, name))
    return given


def to_usage(usage: UsageObject) -> Usage:
    paid = _of_run(usage)
    if usage.iterations:
        runs = _sum(map(_of_run, usage.iterations))
        paid = runs if _size(runs) > _size(paid) else paid
    details, tools = usage.output_tokens_details, usage.server_tool_use
    thinking = count_of(details.thinking_tokens) if details is not None else 0
    searches = count_of(tools.web_search_requests) if tools is not None else 0
    if not thinking and not searches:
        return paid
    out_reasoning = min(thinking, paid.out_text)
    return msgspec.structs.replace(
        paid, out_text=paid.out_text - out_reasoning, out_reasoning=out_reasoning, tool_requests=searches
    )


def tier_of(usage: UsageObject | None) -> str | None:
    """The tier that is billed, in the words that requests use; None: the ordinary one."""
    if usage is None:
        return None
    if usage.speed == "fast":
        return "fast"
    return usage.service_tier if usage.service_tier != "standard" else None


def usage_object(usage: Usage, *, tier: str | None = None) -> dict[str, object]:
    """What the dialect's clients read. Its caches live for five minutes or an hour; the others' are next to these."""
    short, long = usage.write_5m + usage.write_30m, usage.write_1h + usage.write_12h
    told: dict[str, object] = {
        "input_tokens": usage.uncached,
        "cache_creation_input_tokens": usage.written_tokens,
        "cache_read_input_tokens": usage.read,
        "cache_creation": {"ephemeral_5m_input_tokens": short, "ephemeral_1h_input_tokens": long},
        "output_tokens": usage.output_tokens,
        "output_tokens_details": {"thinking_tokens": usage.out_reasoning},
        "service_tier": tier if tier in {"priority", "batch"} else "standard",
    }
    if usage.tool_requests:
        told["server_tool_use"] = {"web_search_requests": usage.tool_requests, "web_fetch_requests": 0}
    return told | {"speed": "fast"} if tier == "fast" else told


def _of_run(run: UsageObject | Iteration) -> Usage:
    split, total = run.cache_creation, run.cache_creation_input_tokens
    write_5m = write_1h = 0
    if split is not None:
        write_5m, write_1h = count_of(split.ephemeral_5m_input_tokens), count_of(split.ephemeral_1h_input_tokens)
    written = count_of(total) if total is not None else write_5m + write_1h
    # Later totals come without the split: they count, and what the split does not explain was written with the
    # lifetime that was asked for.
    write_5m = min(write_5m, written)
    write_1h = min(write_1h, written - write_5m)
    unexplained = written - write_5m - write_1h
    only_1h = write_1h > 0 and write_5m == 0
    return Usage(
        uncached=count_of(run.input_tokens),
        write_5m=write_5m + (0 if only_1h else unexplained),
        write_1h=write_1h + (unexplained if only_1h else 0),
        read=count_of(run.cache_read_input_tokens),
        out_text=count_of(run.output_tokens),
    )


def _sum(runs: Iterable[Usage]) -> Usage:
    counts = [msgspec.structs.asdict(run) for run in runs]
    return Usage(**{name: sum(count[name] for count in counts) for name in Usage.__struct_fields__})


def _size(usage: Usage) -> int:
    return usage.input_tokens + usage.output_tokens
