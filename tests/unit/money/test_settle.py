"""The charge policy, row by row."""

from typing import get_args

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from trollproxy.chat import Usage
from trollproxy.money.settle import POLICY, Seen, settle
from trollproxy.records import EndedBy

REPORTED = Usage(uncached=100, read=20, out_text=30, out_reasoning=10)
FREE = (Usage(), False)
ROWS: tuple[EndedBy, ...] = get_args(EndedBy)
NOTHING: tuple[EndedBy, ...] = (
    "client_disconnected_before_send",
    "provider_error_before_token",
    "timeout_before_token",
    "gateway_crashed_before_token",
)
CHARGED = tuple(row for row in ROWS if row not in NOTHING)


def seen(usage: Usage | None, *, is_final: bool = True, input_bytes: int = 400, output_bytes: int = 40) -> Seen:
    """400 and 40 bytes: 100 and 10 tokens."""
    return Seen(usage=usage, is_final=is_final, input_bytes=input_bytes, output_bytes=output_bytes)


def test_every_ending_has_its_row() -> None:
    assert set(POLICY) == set(ROWS)
    assert {row for row, rule in POLICY.items() if rule == "nothing"} == set(NOTHING)


@pytest.mark.parametrize("ended_by", NOTHING)
@pytest.mark.parametrize("reported", [None, REPORTED])
def test_what_failed_before_a_token_is_free(ended_by: EndedBy, reported: Usage | None) -> None:
    assert settle(ended_by, seen(reported)) == FREE


@pytest.mark.parametrize("ended_by", CHARGED)
@pytest.mark.parametrize("is_final", [True, False])
def test_what_the_provider_says_is_charged_and_called_an_estimate_until_it_is_final(
    ended_by: EndedBy, is_final: bool
) -> None:
    assert settle(ended_by, seen(REPORTED, is_final=is_final)) == (REPORTED, not is_final)


@pytest.mark.parametrize("ended_by", CHARGED)
def test_where_it_says_nothing_sizes_are_charged_and_called_an_estimate(ended_by: EndedBy) -> None:
    assert settle(ended_by, seen(None)) == (Usage(uncached=100, out_text=10), True)


@pytest.mark.parametrize("ended_by", ["client_disconnected", "provider_error_mid_stream", "timeout_mid_stream"])
def test_a_running_figure_is_completed_by_what_was_relayed(ended_by: EndedBy) -> None:
    running = Usage(uncached=100, read=20, out_text=1)
    settlement = settle(ended_by, seen(running, is_final=False, output_bytes=401))
    assert settlement == (Usage(uncached=100, read=20, out_text=101), True)


def test_reasoning_that_was_said_is_not_counted_again() -> None:
    running = Usage(uncached=1, out_reasoning=30, out_text=5)
    usage, _ = settle("client_disconnected", seen(running, is_final=False, output_bytes=400))
    assert usage == Usage(uncached=1, out_reasoning=30, out_text=70)


@pytest.mark.parametrize("ended_by", CHARGED)
def test_a_final_figure_is_never_raised_by_an_estimate(ended_by: EndedBy) -> None:
    said = Usage(uncached=1, out_text=1)
    assert settle(ended_by, seen(said, input_bytes=10**6, output_bytes=10**6)) == (said, False)


def test_zero_that_was_said_is_zero() -> None:
    assert settle("completed", seen(Usage())) == FREE
    assert settle("empty_reply", seen(Usage(), output_bytes=0)) == FREE


@settings(deadline=None)
@given(st.sampled_from(CHARGED), st.integers(0, 10**6), st.integers(0, 10**6), st.integers(0, 10**6))
def test_a_charge_is_never_below_what_was_said(ended_by: EndedBy, text: int, reasoning: int, relayed: int) -> None:
    said = Usage(uncached=7, out_text=text, out_reasoning=reasoning)
    usage, _ = settle(ended_by, seen(said, is_final=False, output_bytes=relayed))
    assert usage.input_tokens == 7
    assert usage.output_tokens >= said.output_tokens
    assert (usage.out_reasoning, usage.out_text >= text) == (reasoning, True)
