"""The charge policy, row by row."""

from typing import get_args

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from trollproxy.chat import Usage
from trollproxy.money.settle import POLICY, Counted, Settlement, settle
from trollproxy.records import EndedBy

REPORTED = Usage(uncached=100, read=20, out_text=30, out_reasoning=10)
LITTLE = Counted(input_bytes=400, output_bytes=40)  # 100 and 10 tokens
FREE = Settlement(Usage(), False)
ROWS: tuple[EndedBy, ...] = get_args(EndedBy)
NOTHING: tuple[EndedBy, ...] = ("provider_error_before_token", "timeout_before_token")
CHARGED = tuple(row for row in ROWS if row not in NOTHING)


def test_every_ending_has_its_row() -> None:
    assert set(POLICY) == set(ROWS)
    assert {row for row, rule in POLICY.items() if rule == "nothing"} == set(NOTHING)


@pytest.mark.parametrize("ended_by", NOTHING)
@pytest.mark.parametrize("reported", [None, REPORTED])
def test_what_failed_before_a_token_is_free(ended_by: EndedBy, reported: Usage | None) -> None:
    assert settle(ended_by, reported, LITTLE) == FREE


@pytest.mark.parametrize("ended_by", CHARGED)
def test_what_the_provider_says_is_charged(ended_by: EndedBy) -> None:
    assert settle(ended_by, REPORTED, LITTLE) == Settlement(REPORTED, False)


@pytest.mark.parametrize("ended_by", CHARGED)
def test_where_it_says_nothing_sizes_are_charged_and_called_an_estimate(ended_by: EndedBy) -> None:
    assert settle(ended_by, None, LITTLE) == Settlement(Usage(uncached=100, out_text=10), True)


@pytest.mark.parametrize("ended_by", ["client_disconnected", "provider_error_mid_stream", "timeout_mid_stream"])
def test_a_running_figure_is_completed_by_what_was_relayed(ended_by: EndedBy) -> None:
    running = Usage(uncached=100, read=20, out_text=1)
    settlement = settle(ended_by, running, Counted(9_999, 401))
    assert settlement == Settlement(Usage(uncached=100, read=20, out_text=101), True)


def test_reasoning_that_was_said_is_not_counted_again() -> None:
    running = Usage(uncached=1, out_reasoning=30, out_text=5)
    settlement = settle("client_disconnected", running, Counted(0, 400))
    assert settlement.usage == Usage(uncached=1, out_reasoning=30, out_text=70)


def test_a_complete_answer_is_never_estimated_above_its_usage() -> None:
    said = Usage(uncached=1, out_text=1)
    assert settle("completed", said, Counted(10**6, 10**6)) == Settlement(said, False)


def test_zero_that_was_said_is_zero() -> None:
    assert settle("completed", Usage(), LITTLE) == FREE
    assert settle("empty_reply", Usage(), Counted(400, 0)) == FREE


@settings(deadline=None)
@given(st.sampled_from(CHARGED), st.integers(0, 10**6), st.integers(0, 10**6), st.integers(0, 10**6))
def test_a_charge_is_never_below_what_was_said(ended_by: EndedBy, text: int, reasoning: int, relayed: int) -> None:
    said = Usage(uncached=7, out_text=text, out_reasoning=reasoning)
    usage = settle(ended_by, said, Counted(1, relayed)).usage
    assert usage.input_tokens == 7
    assert usage.output_tokens >= said.output_tokens
    assert usage.out_reasoning == reasoning
