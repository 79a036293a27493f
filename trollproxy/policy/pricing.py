"""What tokens cost, to the nano-dollar.

Everything is integers: prices are nano-dollars per million tokens, multipliers are millionths, and the one rounding
(half up) happens at the end. The same usage at the same price version always gives the same bill.
"""

from operator import itemgetter

from msgspec.structs import astuple

from trollproxy.chat import BUCKETS, Usage
from trollproxy.records import NUSD_PER_USD, Price

_inputs = itemgetter("uncached", "write_5m", "write_1h", "write_30m", "write_12h", "read")
_outputs = itemgetter("out_text", "out_reasoning")

_MTOK = 1_000_000
_MULTIPLIER_ONE = 1_000_000
_SCALE = _MTOK * _MULTIPLIER_ONE


def cost_nusd(usage: Usage, price: Price) -> int:
    """The bill: every bucket at its price, times the multiplier, rounded half up once."""
    per_mtok, scaled = price.per_mtok_nusd, 0
    for place, tokens in enumerate(astuple(usage)):
        if tokens:
            scaled += tokens * per_mtok[BUCKETS[place]]
    return (scaled * price.multiplier_micro + _SCALE // 2) // _SCALE


class HoldRate:
    """What a request is expected to cost at the most, by a price.

    Input is reckoned at the dearest input price, since what the cache will do is only known afterwards; output
    at the dearer of text and reasoning.
    """

    __slots__ = ("_input", "_output")

    def __init__(self, price: Price) -> None:
        self._input: int = max(_inputs(price.per_mtok_nusd)) * price.multiplier_micro
        self._output: int = max(_outputs(price.per_mtok_nusd)) * price.multiplier_micro

    def nusd(self, input_tokens: int, output_tokens: int) -> int:
        return -(-(input_tokens * self._input + output_tokens * self._output) // _SCALE)


def estimate_tokens(size_bytes: int, bytes_per_token: int) -> int:
    """Tokens in a text of this size, rounded up."""
    return -(-size_bytes // bytes_per_token)


def usd_decimal(amount_nusd: int) -> str:
    """Dollars as a decimal number: as many decimals as the amount has, at least two."""
    whole, fraction = divmod(abs(amount_nusd), NUSD_PER_USD)
    digits = str(NUSD_PER_USD + fraction)[1:].rstrip("0")  # with the leading zeros
    return f"{'-' if amount_nusd < 0 else ''}{whole}.{digits if len(digits) > 1 else digits.ljust(2, '0')}"


def usd(amount_nusd: int) -> str:
    """Dollars for people."""
    return f"-${usd_decimal(-amount_nusd)}" if amount_nusd < 0 else f"${usd_decimal(amount_nusd)}"
