"""What a wallet looks like after paying and after credit. The stores and the balances in memory do the same sums.

legacy: credits first, then refCredits, which never go below 0; what is left over is owed in credits. new: creditsNew.
"""

import msgspec

from trollproxy.records import Credit


class Draw(msgspec.Struct, frozen=True, kw_only=True):
    """What is taken, by wallet."""

    legacy_nusd: int = 0
    new_nusd: int = 0


class Balance(msgspec.Struct, frozen=True, kw_only=True):
    """The three amounts of a user, named as the records name them."""

    credits_nusd: int
    ref_credits_nusd: int
    credits_new_nusd: int


def take(balance: Balance, draw: Draw) -> Balance:
    from_credits = min(max(balance.credits_nusd, 0), draw.legacy_nusd)
    from_ref = min(balance.ref_credits_nusd, draw.legacy_nusd - from_credits)
    return Balance(
        credits_nusd=balance.credits_nusd - (draw.legacy_nusd - from_ref),
        ref_credits_nusd=balance.ref_credits_nusd - from_ref,
        credits_new_nusd=balance.credits_new_nusd - draw.new_nusd,
    )


def give(balance: Balance, credit: Credit) -> Balance:
    """Promotional money is refCredits; taking back more of it than there is takes the rest from credits."""
    amount = credit.amount_nusd
    if credit.wallet == "new":
        return msgspec.structs.replace(balance, credits_new_nusd=balance.credits_new_nusd + amount)
    if credit.kind != "promotional":
        return msgspec.structs.replace(balance, credits_nusd=balance.credits_nusd + amount)
    ref = max(balance.ref_credits_nusd + amount, 0)
    short = balance.ref_credits_nusd + amount - ref
    return msgspec.structs.replace(balance, credits_nusd=balance.credits_nusd + short, ref_credits_nusd=ref)
