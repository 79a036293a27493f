"""What must always be true of money, and how often it was found not to be.

The names are a closed set, so they can be a metric's label. A violation is always a bug of ours or damage from outside:
it is counted, and logged as an error with what is known of it, and never stops a request.
"""

import logging
from typing import Literal, get_args

log = logging.getLogger(__name__)

Invariant = Literal[
    "held_at_rest",  # credit is held while no exchange is open
    "held_below_zero",  # a hold was released twice
    "hold_swept",  # a hold outlived its exchange and was released by the sweeper
    "intent_at_rest",  # an intent waits for its charge while no exchange is open
    "ledger_conflict",  # a charge is on the ledger with other content
    "price_conflict",  # a price version is stored with other content
    "ref_credits_below_zero",
    "watermark_backwards",  # the ledger has forgotten a number of ours that it had
]
INVARIANTS: tuple[Invariant, ...] = get_args(Invariant)


class Violations:
    """Counts by invariant since start; each look that finds an offence counts it."""

    def __init__(self) -> None:
        self.counts: dict[Invariant, int] = dict.fromkeys(INVARIANTS, 0)

    def add(self, invariant: Invariant, count: int = 1, **fields: object) -> None:
        self.counts[invariant] += count
        log.error("invariant violated", extra={"fields": {"invariant": invariant, "count": count, **fields}})
