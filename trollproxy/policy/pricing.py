"""What tokens cost, to the nano-dollar.

Everything is integers: prices are nano-dollars per million tokens, multipliers are millionths, and the one rounding
(half up) happens at the end. The same usage at the same price version always gives the same bill.
"""

from itertools import compress
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
    for bucket in compress(BUCKETS, astuple(usage)):  # most are empty, and this is done for every request
        scaled += getattr(usage, bucket) * per_mtok[bucket]
    return (scaled * price.multiplier_micro + _SCALE // 2) // _SCALE


def hold_nusd(price: Price, *, input_tokens: int, output_tokens: int) -> int:
    """The most that a request of this size is expected to cost.

    Input is reckoned at the dearest input price, since what the cache will do is only known afterwards; output
    at the dearer of text and reasoning.
    """
    scaled: int = input_tokens * max(_inputs(price.per_mtok_nusd)) + output_tokens * max(_outputs(price.per_mtok_nusd))
    return -(-scaled * price.multiplier_micro // _SCALE)


def estimate_tokens(size_bytes: int, bytes_per_token: int) -> int:
    """Tokens in a text of this size, rounded up."""
    return -(-size_bytes // bytes_per_token)


def usd_decimal(amount_nusd: int) -> str:
    """Dollars as a decimal number: as many decimals as the amount has, at least two."""
    whole, fraction = divmod(abs(amount_nusd), NUSD_PER_USD)
    digits = f"{fraction:09d}".rstrip("0").ljust(2, "0")
    return f"{'-' if amount_nusd < 0 else ''}{whole}.{digits}"


def usd(amount_nusd: int) -> str:
    """Dollars for people."""
    text = usd_decimal(abs(amount_nusd))
    return f"-${text}" if amount_nusd < 0 else f"${text}"
