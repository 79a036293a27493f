"""What every provider's accounting is brought to, and the little that is read of a request which passes as bytes.

The buckets of `Usage` are disjoint: a token is in exactly one of them, so a bill is a plain sum.
"""

from typing import Literal

import msgspec

from trollproxy.chat import counts

FormatName = Literal["openai_chat", "openai_responses", "anthropic", "gemini"]


class Ask(msgspec.Struct, frozen=True, kw_only=True, gc=False):
    """The shallow view of a request."""

    model: str
    stream: bool = False
    max_output_tokens: int | None = None
    wants_usage: bool = True  # False: the client did not ask for the stream's usage event, so it must not see one
    choices: int = 1  # how many answers are generated for one prompt; each may use the whole output allowance


class Usage(msgspec.Struct, frozen=True, omit_defaults=True, gc=False):
    """Tokens by price bucket. All zero is a statement ("nothing was used"); unknown usage is `None`, not this."""

    uncached: int = 0
    write_5m: int = 0
    write_1h: int = 0
    write_30m: int = 0
    write_12h: int = 0
    read: int = 0
    out_text: int = 0
    out_reasoning: int = 0
    tool_requests: int = 0

    @property
    def written_tokens(self) -> int:
        return counts.written_tokens(self)

    @property
    def input_tokens(self) -> int:
        return counts.input_tokens(self)

    @property
    def output_tokens(self) -> int:
        return counts.output_tokens(self)


BUCKETS = Usage.__struct_fields__
