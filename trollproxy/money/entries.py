"""What the journal holds of an exchange, and what a restart makes of it.

An intent is written before the provider sees the request, progress from the first relayed token on and about once a
second, the charge before the client has the last bytes. An intent without a charge is an exchange that a crash cut off;
it is settled from its last progress by the charge policy. Pure: bytes in, bytes out.
"""

from collections.abc import Callable

import msgspec

from trollproxy.money.settle import Ending, Seen, charge_for
from trollproxy.records import Charge, EndedBy, Intent, Progress


class Settled(msgspec.Struct, frozen=True, gc=False, tag="settled"):
    """The charge that ends an intent."""

    charge: Charge


Entry = Intent | Progress | Settled

encode: Callable[[Entry], bytes] = msgspec.msgpack.Encoder().encode
decode: Callable[[bytes], Entry] = msgspec.msgpack.Decoder(Entry).decode


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
            self._intents.pop(entry.request_id, None)  # one for another provider before: the newer counts
            self._intents[entry.request_id] = (number, entry)
        elif isinstance(entry, Progress):
            if entry.request_id in self._intents:
                self._progress[entry.request_id] = entry
        else:
            self._intents.pop(entry.charge.request_id, None)
            self._progress.pop(entry.charge.request_id, None)

    def crashed(self) -> list[Charge]:
        """The charges of what a crash cut off, in the order of their intents. They have no number yet."""
        return [settle_crashed(intent, self._progress.get(name)) for name, (_, intent) in self._intents.items()]

    def numbers(self) -> dict[str, int]:
        """Where the intents stand in the journal, by request id, in their order."""
        return {name: number for name, (number, _) in self._intents.items()}


def settle_crashed(intent: Intent, progress: Progress | None) -> Charge:
    """No progress: no token had been relayed, and nothing is charged. Else what the last progress says."""
    ended_by: EndedBy = "gateway_crashed" if progress is not None else "gateway_crashed_before_token"
    seen = Seen(
        usage=progress.usage if progress is not None else None,
        is_final=progress is not None and progress.is_usage_final,
        input_bytes=intent.input_bytes,
        output_bytes=progress.output_bytes if progress is not None else 0,
    )
    ending = Ending(ended_by, 500, "gateway_crashed")
    ending.lost_cost_nusd = intent.lost_cost_nusd
    return charge_for(intent, seen, ending)
