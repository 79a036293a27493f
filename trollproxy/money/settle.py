"""The charge policy: what is charged by how an exchange ended. docs/guarantees.md publishes this table.

A provider that was reached always leaves a charge, also of 0. Error text is never counted as output.
"""

from typing import Literal

import msgspec

from trollproxy.chat import Usage
from trollproxy.policy.pricing import cost_nusd, estimate_tokens
from trollproxy.records import Charge, EndedBy, Intent, Price

Rule = Literal["usage", "nothing"]

POLICY: dict[EndedBy, Rule] = {
    "completed": "usage",
    "client_disconnected": "usage",
    "client_disconnected_before_send": "nothing",
    "provider_error_before_token": "nothing",
    "provider_error_mid_stream": "usage",
    "timeout_before_token": "nothing",
    "timeout_mid_stream": "usage",
    "empty_reply": "usage",
    "gateway_crashed_before_token": "nothing",
    "gateway_crashed": "usage",
}

# English and code run near four bytes a token with every vendor's tokenizer.
BYTES_PER_TOKEN = 4


class Seen:
    """What is known of what was used: the provider's word as far as it was given, and our own count."""

    __slots__ = ("input_bytes", "is_final", "output_bytes", "usage")

    def __init__(self, usage: Usage | None, *, is_final: bool, input_bytes: int, output_bytes: int) -> None:
        self.usage = usage
        self.is_final = is_final
        self.input_bytes = input_bytes
        self.output_bytes = output_bytes


Settlement = tuple[Usage, bool]  # the usage to charge, and whether a part of it is our own count


def settle(ended_by: EndedBy, seen: Seen) -> Settlement:
    """The provider's usage where it gave one, else input and relayed output by size, else nothing, by the table."""
    if POLICY[ended_by] == "nothing":
        return Usage(), False
    return _reckon(seen)


def lost_cost_nusd(seen: Seen, price: Price | None) -> int:
    """What a try costs us whose answer nobody gets; 0 where its supplier's price is unknown."""
    return cost_nusd(_reckon(seen)[0], price) if price is not None else 0


def _reckon(seen: Seen) -> Settlement:
    if seen.usage is not None and seen.is_final:
        return seen.usage, False
    output = estimate_tokens(seen.output_bytes, BYTES_PER_TOKEN)
    if seen.usage is None:
        return Usage(uncached=estimate_tokens(seen.input_bytes, BYTES_PER_TOKEN), out_text=output), True
    # A running figure: the input is the provider's; of the output, the more of what it said and what was relayed.
    text = max(seen.usage.out_text, output - seen.usage.out_reasoning)
    return msgspec.structs.replace(seen.usage, out_text=text), True


class Ending:
    """How an exchange ended, as its charge tells it."""

    __slots__ = ("code", "duration_ms", "ended_by", "first_token_ms", "lost_cost_nusd", "status", "upstream_key_id")

    def __init__(self, ended_by: EndedBy, status: int, code: str) -> None:
        self.ended_by = ended_by
        self.status = status
        self.code = code
        self.upstream_key_id = ""
        self.lost_cost_nusd = 0
        self.first_token_ms: float | None = None
        self.duration_ms = 0.0


def charge_for(intent: Intent, seen: Seen, ending: Ending) -> Charge:
    """The one charge that an intent ends with. It gets its number when it is put down."""
    usage, is_estimated = settle(ending.ended_by, seen)
    paid = intent.upstream_price
    return Charge(
        request_id=intent.request_id,
        username=intent.username,
        key_id=intent.key_id,
        friend_key_id=intent.friend_key_id,
        wallet=intent.wallet,
        format=intent.format,
        model=intent.model,
        upstream_model=intent.upstream_model,
        provider=intent.provider,
        upstream_key_id=ending.upstream_key_id,
        stream=intent.stream,
        status=ending.status,
        code=ending.code,
        ended_by=ending.ended_by,
        usage=usage,
        is_estimated=is_estimated,
        price_version=intent.price.version,
        multiplier_micro=intent.price.multiplier_micro,
        cost_nusd=cost_nusd(usage, intent.price),
        upstream_cost_nusd=cost_nusd(usage, paid) if paid is not None else None,
        lost_cost_nusd=ending.lost_cost_nusd,
        day=intent.day,
        started_at_s=intent.started_at_s,
        first_token_ms=ending.first_token_ms,
        duration_ms=ending.duration_ms,
    )


def needs_price(charge: Charge) -> bool:
    """Whether the charge may cost anything: one by a free row, or of nothing used, is free at any price."""
    return POLICY[charge.ended_by] == "usage" and charge.usage != Usage()


def cost_by(charge: Charge, price: Price) -> int:
    """What the charge must cost by its own words: its row of the policy, its tokens, this price and its multiplier."""
    if not needs_price(charge):
        return 0
    return cost_nusd(charge.usage, msgspec.structs.replace(price, multiplier_micro=charge.multiplier_micro))
