"""What the journal holds of an exchange, and what a restart makes of it.

An intent is written before the provider sees the request, progress from the first relayed token on and about once a
second, the charge before the client has the last bytes. An intent without a charge is an exchange that a crash cut off;
it is settled from its last progress by the charge policy. Pure: bytes in, bytes out.
"""

from collections.abc import Iterable

import msgspec

from trollproxy.chat import Usage
from trollproxy.money.settle import Seen, settle
from trollproxy.policy.pricing import cost_nusd
from trollproxy.records import Charge, EndedBy, FormatName, Price, Wallet


class Intent(msgspec.Struct, frozen=True, kw_only=True, tag="i"):
    """All that a charge needs to know of an exchange before it is known what it used."""

    request_id: str
    username: str
    key_id: str
    friend_key_id: str | None
    wallet: Wallet
    format: FormatName
    model: str
    upstream_model: str
    provider: str
    stream: bool
    price: Price
    upstream_price: Price | None
    input_bytes: int
    hold_nusd: int
    day: str
    started_at_s: float


class Progress(msgspec.Struct, frozen=True, kw_only=True, tag="p"):
    """What had been relayed at a moment."""

    request_id: str
    usage: Usage | None
    is_usage_final: bool
    output_bytes: int


class Settled(msgspec.Struct, frozen=True, tag="c"):
    """The charge that ends an intent."""

    charge: Charge


Entry = Intent | Progress | Settled

_encoder = msgspec.msgpack.Encoder()
_decoder: msgspec.msgpack.Decoder[Entry] = msgspec.msgpack.Decoder(Entry)


def encode(entry: Entry) -> bytes:
    return _encoder.encode(entry)


def decode(data: bytes) -> Entry:
    return _decoder.decode(data)


class Unsettled:
    """The intents that no charge has ended, with their last progress."""

    def __init__(self) -> None:
        self._intents: dict[str, tuple[int, Intent]] = {}
        self._progress: dict[str, Progress] = {}

    def __len__(self) -> int:
        return len(self._intents)

    def take(self, number: int, entry: Entry) -> None:
        """Read an entry of the journal; they come in order of their numbers."""
        if isinstance(entry, Intent):
            self._intents[entry.request_id] = (number, entry)
        elif isinstance(entry, Progress):
            if entry.request_id in self._intents:
                self._progress[entry.request_id] = entry
        else:
            self._intents.pop(entry.charge.request_id, None)
            self._progress.pop(entry.charge.request_id, None)

    def crashed(self, *, first_seq: int) -> Iterable[Charge]:
        """The charges of what a crash cut off, in the order of their intents."""
        for seq, (_, intent) in enumerate(sorted(self._intents.values(), key=lambda found: found[0]), start=first_seq):
            yield settle_crashed(intent, self._progress.get(intent.request_id), seq=seq)


def settle_crashed(intent: Intent, progress: Progress | None, *, seq: int) -> Charge:
    """No progress: no token had been relayed, and nothing is charged. Else what the last progress says."""
    ended_by: EndedBy = "gateway_crashed" if progress is not None else "gateway_crashed_before_token"
    seen = Seen(
        usage=progress.usage if progress is not None else None,
        is_final=progress is not None and progress.is_usage_final,
        input_bytes=intent.input_bytes,
        output_bytes=progress.output_bytes if progress is not None else 0,
    )
    settlement = settle(ended_by, seen)
    paid = intent.upstream_price
    return Charge(
        request_id=intent.request_id,
        seq=seq,
        username=intent.username,
        key_id=intent.key_id,
        friend_key_id=intent.friend_key_id,
        wallet=intent.wallet,
        format=intent.format,
        model=intent.model,
        upstream_model=intent.upstream_model,
        provider=intent.provider,
        upstream_key_id="",
        stream=intent.stream,
        status=500,
        code="gateway_crashed",
        ended_by=ended_by,
        usage=settlement.usage,
        is_estimated=settlement.is_estimated,
        price_version=intent.price.version,
        multiplier_micro=intent.price.multiplier_micro,
        cost_nusd=cost_nusd(settlement.usage, intent.price),
        upstream_cost_nusd=cost_nusd(settlement.usage, paid) if paid is not None else None,
        day=intent.day,
        started_at_s=intent.started_at_s,
        duration_ms=0.0,
    )
