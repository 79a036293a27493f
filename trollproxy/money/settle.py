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
}

# English and code run near four bytes a token with every vendor's tokenizer.
BYTES_PER_TOKEN = 4


class Counted(msgspec.Struct, frozen=True):
    """What we saw ourselves, for when the provider does not say."""

    input_bytes: int
    output_bytes: int


class Settlement(msgspec.Struct, frozen=True):
    """The usage to charge, and whether it is our own count."""

    usage: Usage
    is_estimated: bool


def settle(ended_by: EndedBy, reported: Usage | None, counted: Counted) -> Settlement:
    """The provider's usage where it gave one, else input and relayed output by size, else nothing, by the table."""
    if POLICY[ended_by] == "nothing":
        return Settlement(Usage(), False)
    if reported is None:
        return Settlement(_estimate(counted), True)
    if ended_by != "completed" and reported.output_tokens < estimate_tokens(counted.output_bytes, BYTES_PER_TOKEN):
        # A running figure from the stream's start: the input is the provider's, the output is what was relayed.
        return Settlement(_with_counted_output(reported, counted), True)
    return Settlement(reported, False)


def _estimate(counted: Counted) -> Usage:
    return Usage(
        uncached=estimate_tokens(counted.input_bytes, BYTES_PER_TOKEN),
        out_text=estimate_tokens(counted.output_bytes, BYTES_PER_TOKEN),
    )


def _with_counted_output(reported: Usage, counted: Counted) -> Usage:
    output = estimate_tokens(counted.output_bytes, BYTES_PER_TOKEN)
    return msgspec.structs.replace(reported, out_text=output - min(reported.out_reasoning, output))
