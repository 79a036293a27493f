"""The arithmetic of a batch: whose charges are in it, and what they come to.

Pure and the same for every store. Charges come in order of `seq`, each request once.
"""

from collections.abc import Callable, Iterable, Sequence
from hashlib import sha256
from operator import attrgetter
from typing import TypeVar

from trollproxy.policy.wallets import Draw
from trollproxy.records import Charge
from trollproxy.store.names import ledger_conflict

T = TypeVar("T")
LITERAL_MODEL_LIMIT = 200  # a longer name is known by its hash, so that an id stays of bounded length


def unique_charges(charges: Sequence[Charge]) -> list[Charge]:
    """Each request once, in order of `seq`. Two that share an id must be the same charge."""
    found = {charge.request_id: charge for charge in charges}
    if len(found) < len(charges):
        for charge in charges:
            if found[charge.request_id] != charge:
                raise ledger_conflict(charge.request_id)
    return sorted(found.values(), key=attrgetter("seq"))


def group_by(charges: Iterable[Charge], name: Callable[[Charge], str | None]) -> dict[str, list[Charge]]:
    """Charges by what `name` calls them; those that it calls None or nothing are left out."""
    groups: dict[str, list[Charge]] = {}
    for charge in charges:
        key = name(charge)
        if key:
            groups.setdefault(key, []).append(charge)
    return groups


def sum_draw(charges: Sequence[Charge]) -> Draw:
    from_new = sum_cost([charge for charge in charges if charge.wallet == "new"])
    return Draw(legacy_nusd=sum_cost(charges) - from_new, new_nusd=from_new)


def sum_tokens(charges: Iterable[Charge]) -> int:
    return sum([charge.usage.input_tokens + charge.usage.output_tokens for charge in charges])


def sum_cost(charges: Iterable[Charge]) -> int:
    return sum([charge.cost_nusd for charge in charges])


def counter_id(charge: Charge) -> str | None:
    """Name the counter of what a friend key spent on a model in a day; None if no friend key was used."""
    if not charge.friend_key_id:
        return None
    model = charge.model
    if len(model) > LITERAL_MODEL_LIMIT:
        model = sha256(model.encode()).hexdigest()
    return f"{charge.friend_key_id}|{charge.day}|{model}"


def slices(items: Sequence[T], most: int) -> Iterable[Sequence[T]]:
    """All of them, in pieces whose sizes are powers of two up to `most`, which is one: so there are few sizes."""
    start = 0
    while left := len(items) - start:
        size = min(most, 1 << (left.bit_length() - 1))
        yield items[start : start + size]
        start += size


def chunks(items: Sequence[T], size: int) -> Iterable[Sequence[T]]:
    return (items[start : start + size] for start in range(0, len(items), size))
