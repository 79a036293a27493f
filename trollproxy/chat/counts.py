"""What the buckets of a usage come to. Told of every request, so it is compiled, which a record is not."""

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from trollproxy.chat.usage import Usage


def written_tokens(usage: "Usage") -> int:
    return usage.write_5m + usage.write_1h + usage.write_30m + usage.write_12h


def input_tokens(usage: "Usage") -> int:
    return usage.uncached + written_tokens(usage) + usage.read


def output_tokens(usage: "Usage") -> int:
    return usage.out_text + usage.out_reasoning
