"""Prices against an exact model: one rounding, half up; a hold covers whatever a request of its size may use."""

from fractions import Fraction

import msgspec
import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st

from tests.fakes import make_price
from trollproxy.chat import BUCKETS, Usage
from trollproxy.policy.pricing import HoldRate, cost_nusd, estimate_tokens, usd
from trollproxy.records import Price

MILLION = 1_000_000

tokens = st.integers(0, 10**9)
usages = st.builds(Usage, **dict.fromkeys(BUCKETS, tokens))
prices = st.builds(
    Price,
    version=st.just("v"),
    per_mtok_nusd=st.fixed_dictionaries(dict.fromkeys(BUCKETS, st.integers(0, 10**12))),
    multiplier_micro=st.integers(0, 10 * MILLION),
)


def exact(usage: Usage, price: Price) -> Fraction:
    """The bill before rounding, in nano-dollars."""
    buckets = sum(Fraction(getattr(usage, bucket) * price.per_mtok_nusd[bucket], MILLION) for bucket in BUCKETS)
    return buckets * Fraction(price.multiplier_micro, MILLION)


@settings(deadline=None)
@given(usages, prices)
def test_the_bill_is_exact_and_rounded_half_up_once(usage: Usage, price: Price) -> None:
    bill = cost_nusd(usage, price)
    assert bill - Fraction(1, 2) <= exact(usage, price) < bill + Fraction(1, 2)


@pytest.mark.parametrize(
    ("count", "price_nusd", "multiplier", "bill"),
    [
        (1, 499_999, MILLION, 0),
        (1, 500_000, MILLION, 1),  # exactly half a nano-dollar
        (1, 1_499_999, MILLION, 1),
        (1, 1_500_000, MILLION, 2),
        (1, MILLION, 500_000, 1),
        (1, MILLION, 499_999, 0),
        (1_000, 3_000_000_000, 1_050_000, 3_150_000),
        (10**9, 10**12, 10 * MILLION, 10**16),
    ],
)
def test_bills_by_hand(count: int, price_nusd: int, multiplier: int, bill: int) -> None:
    price = msgspec.structs.replace(make_price(uncached=price_nusd), multiplier_micro=multiplier)
    assert cost_nusd(Usage(uncached=count), price) == bill


@settings(deadline=None)
@given(usages, prices)
def test_no_bucket_is_lost_and_none_counts_twice(usage: Usage, price: Price) -> None:
    """The parts, each billed alone, make the whole but for their roundings."""
    parts = [Usage(**{bucket: getattr(usage, bucket)}) for bucket in BUCKETS]
    total = sum(cost_nusd(part, price) for part in parts)
    assert abs(total - cost_nusd(usage, price)) <= len(BUCKETS)
    assert sum(exact(part, price) for part in parts) == exact(usage, price)


@settings(deadline=None)
@given(usages, prices, st.sampled_from(BUCKETS), st.integers(0, 10**6))
def test_more_never_costs_less(usage: Usage, price: Price, bucket: str, more: int) -> None:
    grown = msgspec.structs.replace(usage, **{bucket: getattr(usage, bucket) + more})
    assert cost_nusd(grown, price) >= cost_nusd(usage, price)


def test_nothing_costs_nothing() -> None:
    assert cost_nusd(Usage(), make_price()) == 0
    assert HoldRate(make_price()).nusd(0, 0) == 0


@settings(deadline=None)
@given(usages, prices)
@example(Usage(read=MILLION), make_price(read=2_000_000_000))  # an operator may price reads above all else
def test_a_hold_covers_any_use_within_its_sizes(usage: Usage, price: Price) -> None:
    usage = msgspec.structs.replace(usage, tool_requests=0)
    held = HoldRate(price).nusd(usage.input_tokens, usage.output_tokens)
    assert held >= cost_nusd(usage, price)


@settings(deadline=None)
@given(st.integers(0, 10**9), st.integers(1, 16))
def test_an_estimate_is_rounded_up(size: int, bytes_per_token: int) -> None:
    count = estimate_tokens(size, bytes_per_token)
    assert (count - 1) * bytes_per_token < size <= count * bytes_per_token


@pytest.mark.parametrize(
    ("amount", "text"),
    [
        (0, "$0.00"),
        (1, "$0.000000001"),
        (100_000_000, "$0.10"),
        (5_000_000_000, "$5.00"),
        (1_234_500_000, "$1.2345"),
        (-50_000_000, "-$0.05"),
        (10**18, "$1000000000.00"),
    ],
)
def test_dollars_for_people(amount: int, text: str) -> None:
    assert usd(amount) == text
