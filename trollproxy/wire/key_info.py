"""What a provider tells of one of its keys: LiteLLM's `GET /key/info`, which OpenHands-style proxies have as well."""

from decimal import Decimal, InvalidOperation

import msgspec

from trollproxy.records import NUSD_PER_USD
from trollproxy.wire.body import decode_reply

MAX_KEY_INFO = 256 * 1024  # such an answer lists the key's models and settings; more is none
_MOST_USD = Decimal(10) ** 9


class KeyInfo(msgspec.Struct, frozen=True):
    """What a key has spent, and what it may at most; None: it may spend anything."""

    spend_nusd: int
    limit_nusd: int | None


class _Info(msgspec.Struct):
    spend: Decimal
    max_budget: Decimal | None = None


class _Answer(msgspec.Struct):
    info: _Info


_ANSWER = msgspec.json.Decoder(_Answer)


def read_key_info(body: bytes) -> KeyInfo | None:
    """None if it is no such answer."""
    answer = decode_reply(_ANSWER, body)
    if answer is None:
        return None
    try:
        limit = answer.info.max_budget
        return KeyInfo(_as_nusd(answer.info.spend), None if limit is None else _as_nusd(limit))
    except (InvalidOperation, ValueError):
        return None


def _as_nusd(usd: Decimal) -> int:
    if not 0 <= usd <= _MOST_USD:
        raise ValueError
    return int(usd * NUSD_PER_USD)
