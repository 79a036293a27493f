"""How much to think: `thinkingLevel` of the models from Gemini 3 on, `thinkingBudget` of those before.

The vendor's models cannot all be told everything: what a model does not take becomes the nearest that it does.
"""

import re

from trollproxy.chat import Effort, Reasoning
from trollproxy.errors import InvalidRequest
from trollproxy.wire.gemini.shapes import ThinkingConfig

_GENERATION = re.compile(r"gemini-(\d+)")
_FIRST_WITH_LEVELS = 3
_OFF, _DYNAMIC = 0, -1
_LEAST_OF_PRO = 128  # the 2.5 Pro models cannot be told not to think

_LEVELS: dict[Effort, str] = {
    "minimal": "MINIMAL",
    "low": "LOW",
    "medium": "MEDIUM",
    "high": "HIGH",
    "xhigh": "XHIGH",
    "max": "XHIGH",
}
_EFFORTS: dict[str, Effort] = {level: effort for effort, level in _LEVELS.items() if effort != "max"}
# What gateways commonly take the words for; the vendor publishes none. The last is the most of 2.5 Flash.
_BUDGETS: dict[Effort, int] = {
    "minimal": 1_024,
    "low": 2_048,
    "medium": 4_096,
    "high": 8_192,
    "xhigh": 16_384,
    "max": 24_576,
}


def has_levels(model: str) -> bool:
    """Gemini 3 and later. Names without a number ("gemini-flash-latest") are of the latest."""
    found = _GENERATION.search(model)
    return found is None or int(found[1]) >= _FIRST_WITH_LEVELS


def read_thinking(config: ThinkingConfig | None) -> Reasoning | None:
    if config is None:
        return None
    level = (config.thinking_level or "").upper()
    if level not in {"", "THINKING_LEVEL_UNSPECIFIED", *_EFFORTS}:
        text = f"There is no thinking level {level[:40]!r}."
        raise InvalidRequest(text, param="generationConfig.thinkingConfig.thinkingLevel")
    budget = config.thinking_budget
    read = Reasoning(
        mode=None if budget is None else "off" if budget == _OFF else "adaptive" if budget < 0 else "on",
        effort=_EFFORTS.get(level),
        budget_tokens=budget if budget is not None and budget > 0 else None,
        shows_thoughts=config.include_thoughts,
    )
    return None if read == Reasoning() else read


def write_thinking(reasoning: Reasoning | None, model: str) -> dict[str, object] | None:
    if reasoning is None:
        return None
    written = _amount(reasoning, model)
    if reasoning.shows_thoughts is not None:
        written["includeThoughts"] = reasoning.shows_thoughts
    return written or None


def _amount(reasoning: Reasoning, model: str) -> dict[str, object]:
    levels, is_pro = has_levels(model), "pro" in model
    if reasoning.mode == "off":
        if levels:
            return {"thinkingLevel": "LOW" if is_pro else "MINIMAL"}
        return {"thinkingBudget": _LEAST_OF_PRO if is_pro else _OFF}
    if reasoning.effort is not None and (levels or reasoning.budget_tokens is None):
        if not levels:
            return {"thinkingBudget": _BUDGETS[reasoning.effort]}
        needs_low = is_pro and reasoning.effort == "minimal"
        return {"thinkingLevel": "LOW" if needs_low else _LEVELS[reasoning.effort]}
    if reasoning.budget_tokens is not None:
        return {"thinkingBudget": reasoning.budget_tokens}
    return {} if reasoning.mode is None else {"thinkingBudget": _DYNAMIC}
