"""The arithmetic of a batch: who spent how much of which wallet, and what a wallet looks like afterwards.

Pure and the same for every store. Charges come in order of `seq`, each request once.
"""

from collections.abc import Callable, Iterable, Sequence
from hashlib import sha256
from typing import TypeVar

import msgspec

from trollproxy.records import Charge, Credit
from trollproxy.store.names import ledger_conflict

T = TypeVar("T")
LITERAL_MODEL_LIMIT = 200  # a longer name is known by its hash, so that an id stays of bounded length


class Draw(msgspec.Struct, frozen=True, kw_only=True):
    """What a user's charges of one batch take, and how many tokens they used."""

    legacy_nusd: int
    new_nusd: int
    tokens: int


class Balance(msgspec.Struct, frozen=True, kw_only=True):
    """The three amounts of a user."""

    credits: int
    ref_credits: int
    credits_new: int


def unique_charges(charges: Iterable[Charge]) -> list[Charge]:
    """Each request once, in order of `seq`. Two that share an id must be the same charge."""
    found: dict[str, Charge] = {}
    for charge in charges:
        if found.setdefault(charge.request_id, charge) != charge:
            raise ledger_conflict(charge.request_id)
    return sorted(found.values(), key=lambda charge: charge.seq)


def group_by(charges: Iterable[Charge], name: Callable[[Charge], str | None]) -> dict[str, list[Charge]]:
    """Charges by what `name` calls them; those that it calls None or nothing are left out."""
    groups: dict[str, list[Charge]] = {}
    for charge in charges:
        key = name(charge)
        if key:
            groups.setdefault(key, []).append(charge)
    return groups


def sum_draw(charges: Sequence[Charge]) -> Draw:
    return Draw(
        legacy_nusd=sum_cost(charge for charge in charges if charge.wallet == "legacy"),
        new_nusd=sum_cost(charge for charge in charges if charge.wallet == "new"),
        tokens=sum(charge.usage.input_tokens + charge.usage.output_tokens for charge in charges),
    )


def sum_cost(charges: Iterable[Charge]) -> int:
    return sum(charge.cost_nusd for charge in charges)


def take(balance: Balance, draw: Draw) -> Balance:
    """Credits down to 0, then refCredits down to 0; what is left over makes credits negative."""
    from_credits = min(max(balance.credits, 0), draw.legacy_nusd)
    from_ref = min(balance.ref_credits, draw.legacy_nusd - from_credits)
    return Balance(
        credits=balance.credits - (draw.legacy_nusd - from_ref),
        ref_credits=balance.ref_credits - from_ref,
        credits_new=balance.credits_new - draw.new_nusd,
    )


def give(balance: Balance, credit: Credit) -> Balance:
    """Promotional money is refCredits; taking back more of it than there is takes the rest from credits."""
    amount = credit.amount_nusd
    if credit.wallet == "new":
        return msgspec.structs.replace(balance, credits_new=balance.credits_new + amount)
    if credit.kind != "promotional":
        return msgspec.structs.replace(balance, credits=balance.credits + amount)
    ref = max(balance.ref_credits + amount, 0)
    short = balance.ref_credits + amount - ref
    return msgspec.structs.replace(balance, credits=balance.credits + short, ref_credits=ref)


def counter_id(charge: Charge) -> str | None:
    """Name the counter of what a friend key spent on a model in a day; None if no friend key was used."""
    if not charge.friend_key_id:
        return None
    model = charge.model
    if len(model) > LITERAL_MODEL_LIMIT:
        model = sha256(model.encode()).hexdigest()
    return f"{charge.friend_key_id}|{charge.day}|{model}"


def chunks(items: Sequence[T], size: int) -> Iterable[Sequence[T]]:
    return (items[start : start + size] for start in range(0, len(items), size))
