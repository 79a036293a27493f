"""What of a request's wishes the model that it goes to can be asked for. The body and the headers both follow it."""

from collections.abc import Iterable

import msgspec

from trollproxy.chat import Effort, Part, Reasoning, Request, Text, Thinking, ToolCall, ToolResult, Turn
from trollproxy.wire.anthropic.models import Model, model_of, nearest_effort
from trollproxy.wire.format import Headers, Target

VERSION = "2026-10-21"
VERSION_WITH_SAMPLING = "2023-06-01"  # the last that takes temperature, top_p and top_k
_FAST_BETA = "fast-mode-2026-02-01"

_LEAST_BUDGET = 1_024  # the vendor's own bound
_BUDGETS: dict[Effort, int] = {
    "minimal": 1_024,
    "low": 1_024,
    "medium": 2_048,
    "high": 4_096,
    "xhigh": 8_192,
    "max": 16_384,
}
_MOST_EFFORT_WHEN_OFF: Effort = "high"  # thinking can be turned off up to here


class Plan(msgspec.Struct, frozen=True, kw_only=True):
    model: Model
    limit: int
    thinking: dict[str, object] | None
    effort: Effort | None
    sampling: dict[str, object]

    def headers(self, request: Request) -> Headers:
        chosen = [("anthropic-version", VERSION_WITH_SAMPLING if self.sampling else VERSION)]
        return [*chosen, ("anthropic-beta", _FAST_BETA)] if request.tier == "fast" else chosen


def plan_of(request: Request, target: Target, turns: Iterable[Turn]) -> Plan:
    """`turns` is the history as it will be written."""
    model = model_of(target.model)
    limit = _limit(request, target, model)
    wanted = _wanted(request.reasoning)
    thinking = _thinking(wanted, model, limit)
    if thinking is not None and thinking["type"] == "enabled" and not _may_think(request, turns):
        thinking = None
    return Plan(
        model=model,
        limit=limit,
        thinking=thinking,
        effort=_effort(wanted, model),
        sampling=_sampling(request, model) if thinking is None or thinking["type"] == "disabled" else {},
    )


def _limit(request: Request, target: Target, model: Model) -> int:
    """The member is required. Asking for more than the model can is an error there, so a known bound holds."""
    most = target.max_output_tokens
    if request.max_output_tokens is None:
        return most if most is not None else model.max_output_tokens
    return min(request.max_output_tokens, most) if most is not None else request.max_output_tokens


def _wanted(reasoning: Reasoning | None) -> Reasoning | None:
    """An effort alone, or the wish to see thoughts, asks for thoughts: elsewhere models that have them always think."""
    if reasoning is None or reasoning.mode is not None:
        return reasoning
    if reasoning.budget_tokens is not None:
        return msgspec.structs.replace(reasoning, mode="on")
    if reasoning.effort is not None or reasoning.shows_thoughts:
        return msgspec.structs.replace(reasoning, mode="adaptive")
    return None


def _thinking(wanted: Reasoning | None, model: Model, limit: int) -> dict[str, object] | None:
    if wanted is None or model.thinking == "none":
        return None
    if wanted.mode == "off":
        return {"type": model.off} if model.off else None
    is_manual = model.thinking == "manual" or (model.thinking == "both" and wanted.budget_tokens is not None)
    thinking: dict[str, object] = {"type": "adaptive"}
    if is_manual:
        budget = min(max(_budget(wanted, limit), _LEAST_BUDGET), limit - 1)
        if budget < _LEAST_BUDGET:
            return None
        thinking = {"type": "enabled", "budget_tokens": budget}
    if wanted.shows_thoughts is not None:
        thinking["display"] = "summarized" if wanted.shows_thoughts else "omitted"
    return thinking


def _budget(wanted: Reasoning, limit: int) -> int:
    """Who names no budget did not choose what it leaves for the answer: half of the limit at least."""
    if wanted.budget_tokens is not None:
        return wanted.budget_tokens
    return min(_BUDGETS[wanted.effort or "high"], limit // 2)


def _effort(wanted: Reasoning | None, model: Model) -> Effort | None:
    if wanted is None or not model.efforts:
        return None
    if wanted.mode == "off" and not model.off:
        return model.efforts[0]
    effort = wanted.effort
    if effort is None and wanted.budget_tokens is not None and model.thinking == "adaptive":
        effort = _effort_of(wanted.budget_tokens)
    if effort in {"xhigh", "max"} and wanted.mode == "off":
        effort = _MOST_EFFORT_WHEN_OFF
    return nearest_effort(model, effort) if effort is not None else None


def _effort_of(budget: int) -> Effort:
    """Never above the vendor's own default: a budget is an upper bound, an effort has none."""
    return next((effort for effort in ("low", "medium") if budget <= _BUDGETS[effort]), "high")


def _may_think(request: Request, history: Iterable[Turn]) -> bool:
    """With a budget, the vendor refuses forced tools, a begun answer, and a tool loop that began without thoughts."""
    if request.tool_choice is not None and request.tool_choice.mode == "any":
        return False
    turns = tuple(history)
    if turns and turns[-1].role == "assistant":
        return False
    opening = _opening_of_loop(turns)
    return opening is None or is_signed(opening[0])


def _opening_of_loop(turns: tuple[Turn, ...]) -> tuple[Part, ...] | None:
    """What the assistant said first since the user's last own words, if it has called tools since."""
    opening: tuple[Part, ...] | None = None
    for turn in reversed(turns):
        if turn.role == "assistant" and any(isinstance(part, ToolCall) for part in turn.parts):
            opening = turn.parts
        elif turn.role == "assistant" or not any(isinstance(part, ToolResult) for part in turn.parts):
            break
    return opening


def is_signed(part: Part) -> bool:
    """Whether the vendor takes these thoughts back."""
    return isinstance(part, Thinking) and part.state is not None and part.state.origin == "anthropic"


def _sampling(request: Request, model: Model) -> dict[str, object]:
    asked = request.sampling
    if not model.takes_sampling:
        return {}
    sampling: dict[str, object] = {}
    if asked.temperature is not None:
        sampling["temperature"] = min(asked.temperature, 1.0)
    if asked.top_p is not None and (asked.temperature is None or model.takes_both):
        sampling["top_p"] = asked.top_p
    if asked.top_k is not None:
        sampling["top_k"] = asked.top_k
    return sampling


def advice_of(request: Request) -> list[Text]:
    """Wishes that the dialect has no member for, in words for the model."""
    advice = []
    if request.verbosity in _VERBOSITY:
        advice.append(Text(text=_VERBOSITY[request.verbosity]))
    if request.output is not None and request.output.schema is None:
        advice.append(Text(text="Answer with one JSON object and nothing else: no words around it, no code fence."))
    return advice


_VERBOSITY = {"low": "Keep your answers short.", "high": "Give long and detailed answers."}
