"""The charge policy: what is charged by how an exchange ended. docs/guarantees.md publishes this table.

A provider that was reached always leaves a charge, also of 0. Error text is never counted as output.
"""

from typing import Literal

import msgspec

from trollproxy.chat import Usage
from trollproxy.policy.pricing import estimate_tokens
from trollproxy.records import EndedBy

Rule = Literal["usage", "nothing"]

POLICY: dict[EndedBy, Rule] = {
    "completed": "usage",
    "client_disconnected": "usage",
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


class Seen(msgspec.Struct, frozen=True, kw_only=True):
    """What is known of what was used: the provider's word as far as it was given, and our own count."""

    usage: Usage | None
    is_final: bool
    input_bytes: int
    output_bytes: int


class Settlement(msgspec.Struct, frozen=True):
    """The usage to charge, and whether a part of it is our own count."""

    usage: Usage
    is_estimated: bool


def settle(ended_by: EndedBy, seen: Seen) -> Settlement:
    """The provider's usage where it gave one, else input and relayed output by size, else nothing, by the table."""
    if POLICY[ended_by] == "nothing":
        return Settlement(Usage(), False)
    output = estimate_tokens(seen.output_bytes, BYTES_PER_TOKEN)
    if seen.usage is None:
        return Settlement(Usage(uncached=estimate_tokens(seen.input_bytes, BYTES_PER_TOKEN), out_text=output), True)
    if seen.is_final:
        return Settlement(seen.usage, False)
    # A running figure: the input is the provider's; of the output, the more of what it said and what was relayed.
    text = max(seen.usage.out_text, output - seen.usage.out_reasoning)
    return Settlement(msgspec.structs.replace(seen.usage, out_text=text), True)
