"""The sliding window against a brute-force model, and the bound on windows. Times are quarters, exact as floats."""

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from trollproxy.policy.limits import PERIOD_S, Window, Windows, utc_day

steps = st.lists(st.tuples(st.integers(0, 120), st.integers(0, 5)), max_size=60)


def used(admitted: list[float], now_s: float) -> int:
    return sum(now_s - PERIOD_S < at <= now_s for at in admitted)


@settings(deadline=None)
@given(steps)
def test_a_window_admits_as_the_model_does(moves: list[tuple[int, int]]) -> None:
    window, now_s, admitted = Window(), 1_000.0, list[float]()
    for quarters, limit in moves:
        now_s += quarters / 4
        before = used(admitted, now_s)
        verdict = window.take(limit, now_s)
        assert verdict.allowed is (before < limit)
        assert verdict.limit == limit
        if verdict.allowed:
            admitted.append(now_s)
            assert verdict.retry_after_s == 0
        assert verdict.remaining == max(0, limit - used(admitted, now_s))
        assert len(window) == used(admitted, now_s)


@settings(deadline=None)
@given(st.lists(st.integers(0, 60), min_size=1, max_size=80), st.integers(1, 6))
def test_no_period_ever_holds_more_than_the_limit(quarters: list[int], limit: int) -> None:
    window, now_s, admitted = Window(), 0.0, list[float]()
    for step in quarters:
        now_s += step / 4
        if window.take(limit, now_s).allowed:
            admitted.append(now_s)
    assert all(sum(at <= other < at + PERIOD_S for other in admitted) <= limit for at in admitted)


@settings(deadline=None)
@given(st.lists(st.integers(0, 60), min_size=1, max_size=40), st.integers(1, 4))
def test_retry_after_is_exact(quarters: list[int], limit: int) -> None:
    window, now_s = Window(), 0.0
    for step in quarters:
        now_s += step / 4
        verdict = window.take(limit, now_s)
        if not verdict.allowed:
            assert 0 < verdict.retry_after_s <= PERIOD_S
            assert window.is_full(limit, now_s + verdict.retry_after_s - 0.25)
            assert not window.is_full(limit, now_s + verdict.retry_after_s)


def test_a_limit_that_was_lowered_is_waited_for() -> None:
    window = Window()
    for second in range(5):
        assert window.take(5, float(second)).allowed
    verdict = window.take(2, 10.0)
    assert (verdict.allowed, verdict.remaining, verdict.retry_after_s) == (False, 0, 53.0)
    assert window.take(2, 63.0).allowed


def test_no_allowance_at_all() -> None:
    verdict = Window().take(0, 5.0)
    assert (verdict.allowed, verdict.remaining, verdict.retry_after_s) == (False, 0, PERIOD_S)


def test_reset_is_when_the_whole_allowance_is_back() -> None:
    window = Window()
    window.take(2, 0.0)
    assert window.take(2, 20.0).reset_s == PERIOD_S
    assert window.take(2, 50.0).reset_s == 30.0


def test_looking_takes_nothing() -> None:
    window = Window()
    assert not window.is_full(1, 0.0)
    assert window.take(1, 0.0).allowed
    assert window.is_full(1, 0.0)


def test_a_caller_has_one_window() -> None:
    windows = Windows()
    assert windows.of("a", 0.0) is windows.of("a", 1.0)
    assert windows.of("a", 0.0) is not windows.of("b", 0.0)


def test_the_idle_go_first_when_there_are_too_many() -> None:
    windows = Windows(bound=3)
    for name, at in (("old", 0.0), ("busy", 50.0), ("new", 55.0)):
        windows.of(name, at).take(1, at)
    windows.of("another", 61.0).take(1, 61.0)
    assert len(windows) == 3
    assert windows.of("busy", 61.0).is_full(1, 61.0)
    assert windows.of("new", 61.0).is_full(1, 61.0)


@settings(deadline=None)
@given(st.lists(st.tuples(st.text(max_size=3), st.integers(0, 40)), max_size=80), st.integers(1, 5))
def test_the_bound_always_holds(visits: list[tuple[str, int]], bound: int) -> None:
    windows, now_s = Windows(bound=bound), 0.0
    for name, step in visits:
        now_s += step
        window = windows.of(name, now_s)
        window.take(2, now_s)
        assert windows.of(name, now_s) is window
        assert len(windows) <= bound


@pytest.mark.parametrize(
    ("wall_s", "day"),
    [(0.0, "1970-01-01"), (1_760_054_399.999, "2025-10-09"), (1_760_054_400.0, "2025-10-10")],
)
def test_days_are_utc(wall_s: float, day: str) -> None:
    assert utc_day(wall_s) == day
