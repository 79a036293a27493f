"""What each family of Claude models takes, by the beginning of its name.

From the vendor's pages "Troubleshooting thinking", "Effort", "Models overview" and "Mid-conversation system messages"
and the "What's new" page of each model, as they stood in November 2026. A name that is in no row is a Claude to come,
which gets what the newest ones have in common, or another vendor's model behind this dialect, which gets what was
common in 2025 and is copied most.
"""

import re
from functools import lru_cache
from typing import Literal

import msgspec

from trollproxy.chat import Effort

_UP_TO_HIGH: tuple[Effort, ...] = ("low", "medium", "high")
_NO_XHIGH: tuple[Effort, ...] = (*_UP_TO_HIGH, "max")
_ALL: tuple[Effort, ...] = (*_UP_TO_HIGH, "xhigh", "max")


class Model(msgspec.Struct, frozen=True, kw_only=True):
    """`thinking`: adaptive takes no budget, manual takes nothing else, both takes either."""

    thinking: Literal["none", "manual", "both", "adaptive"] = "adaptive"
    off: Literal["", "disabled", "between_tools"] = "disabled"  # the word that turns thinking off; "": none does
    efforts: tuple[Effort, ...] = _ALL
    takes_sampling: bool = False  # temperature, top_p, top_k
    takes_both: bool = False  # temperature and top_p in one request
    takes_forced: bool = True  # tool_choice any and tool
    takes_system_inside: bool = False
    max_output_tokens: int = 128_000


_ALWAYS = Model(off="", takes_system_inside=True)
_ALWAYS_UNFORCED = Model(off="", takes_forced=False, takes_system_inside=True)
_FAMILY_46 = Model(thinking="both", efforts=_NO_XHIGH, takes_sampling=True)
_FAMILY_45 = Model(thinking="manual", efforts=(), takes_sampling=True, max_output_tokens=64_000)
_OPUS_4 = Model(thinking="manual", efforts=(), takes_sampling=True, takes_both=True, max_output_tokens=32_000)
_SONNET_4 = Model(thinking="manual", efforts=(), takes_sampling=True, takes_both=True, max_output_tokens=64_000)
_CLAUDE_35 = Model(thinking="none", off="", efforts=(), takes_sampling=True, takes_both=True, max_output_tokens=8_192)
_CLAUDE_3 = Model(thinking="none", off="", efforts=(), takes_sampling=True, takes_both=True, max_output_tokens=4_096)

_TABLE: dict[str, Model] = {
    "claude-fable-5": _ALWAYS,
    "claude-fable-5-1": _ALWAYS_UNFORCED,
    "claude-fable-5-2": _ALWAYS_UNFORCED,
    "claude-mythos-5": _ALWAYS,
    "claude-mythos-5-1": _ALWAYS_UNFORCED,
    "claude-mythos-5-2": _ALWAYS_UNFORCED,
    "claude-mythos-preview": Model(thinking="both", off="", efforts=_NO_XHIGH),
    "claude-opus-5-5": _ALWAYS_UNFORCED,
    "claude-opus-5": Model(takes_system_inside=True),
    "claude-opus-4-8": Model(takes_system_inside=True),
    "claude-opus-4-7": Model(),
    "claude-opus-4-6": _FAMILY_46,
    "claude-opus-4-5": msgspec.structs.replace(_FAMILY_45, efforts=_UP_TO_HIGH),
    "claude-opus-4-1": msgspec.structs.replace(_OPUS_4, takes_both=False),
    "claude-opus-4-0": _OPUS_4,
    "claude-opus-4": _OPUS_4,
    "claude-sonnet-5-5": Model(off="between_tools", takes_forced=False, takes_system_inside=True),
    "claude-sonnet-5": Model(),
    "claude-sonnet-4-6": _FAMILY_46,
    "claude-sonnet-4-5": _FAMILY_45,
    "claude-sonnet-4-0": _SONNET_4,
    "claude-sonnet-4": _SONNET_4,
    "claude-haiku-5-5": Model(),
    "claude-haiku-4-5": _FAMILY_45,
    "claude-3-7-sonnet": _SONNET_4,
    "claude-3-5": _CLAUDE_35,
    "claude-3": _CLAUDE_3,
}
_CLAUDE_TO_COME = Model(off="", max_output_tokens=64_000)
_FOREIGN = Model(thinking="manual", efforts=(), takes_sampling=True, takes_both=True, max_output_tokens=8_192)

_SEPARATORS = re.compile(r"[.@_:/]")
# A number of one or two digits that follows belongs to the version, so `claude-opus-5` is not the family of 5-6.
_ROWS = tuple(
    (re.compile(rf"{prefix}(?![a-z0-9])(?!-\d{{1,2}}(?!\d))"), _TABLE[prefix])
    for prefix in sorted(_TABLE, key=len, reverse=True)
)


@lru_cache(maxsize=1024)  # more names than any configuration has
def model_of(name: str) -> Model:
    """Takes the names of resellers too: `us.anthropic.claude-opus-4-8-v1:0`, `claude-opus-4-8@20260528`."""
    plain = _SEPARATORS.sub("-", name.lower())
    start = plain.find("claude-")
    if start < 0:
        return _FOREIGN
    return next((model for row, model in _ROWS if row.match(plain, start)), _CLAUDE_TO_COME)


def nearest_effort(model: Model, effort: Effort) -> Effort:
    """The strongest that the model takes and that is not more than what was asked for."""
    order: tuple[Effort, ...] = ("minimal", *_ALL)
    weaker = [known for known in model.efforts if order.index(known) <= order.index(effort)]
    return weaker[-1] if weaker else model.efforts[0]
