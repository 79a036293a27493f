"""The breaker: when it opens, for how long, and what its probe decides."""

import pytest

from trollproxy.policy.breaker import Breaker, BreakerPolicy, Permit

POLICY = BreakerPolicy(window_s=30.0, min_requests=10, failure_share=0.5, open_s=5.0, longest_open_s=20.0)


def enter(breaker: Breaker, now_s: float = 0.0) -> Permit:
    permit = breaker.enter(now_s)
    assert permit is not None
    return permit


def count(breaker: Breaker, good: int, failed: int, now_s: float = 0.0) -> None:
    """The good ones first."""
    for number in range(good + failed):
        permit = breaker.enter(now_s)
        if permit is not None:
            breaker.leave(permit, number < good, now_s=now_s, chance=0.0)


def opened(now_s: float = 0.0) -> Breaker:
    breaker = Breaker(POLICY)
    count(breaker, 0, 10, now_s)
    assert breaker.state == "open"
    return breaker


@pytest.mark.parametrize(
    ("good", "failed", "state"), [(0, 9, "closed"), (0, 10, "open"), (6, 5, "closed"), (5, 5, "open")]
)
def test_it_opens_when_enough_of_enough_fail(good: int, failed: int, state: str) -> None:
    breaker = Breaker(POLICY)
    count(breaker, good, failed)
    assert breaker.state == state
    assert (breaker.enter(0.0) is None) == (state == "open")


def test_what_is_older_than_the_window_does_not_count() -> None:
    breaker = Breaker(POLICY)
    count(breaker, 0, 9, 0.0)
    count(breaker, 0, 1, 30.0)
    assert breaker.state == "closed"
    count(breaker, 0, 9, 300.0)
    count(breaker, 0, 1, 326.9)
    assert breaker.changes == {"open": 1}


def test_unknown_ends_count_as_nothing() -> None:
    breaker = Breaker(POLICY)
    for _ in range(50):
        breaker.leave(enter(breaker), None, now_s=0.0, chance=0.0)
    assert breaker.state == "closed"


def test_after_its_time_one_request_may_ask_and_success_closes_it() -> None:
    breaker = opened()
    assert breaker.free_at_s(1.0) == 5.0
    assert breaker.enter(4.9) is None
    probe = enter(breaker, 5.0)
    assert (probe.is_probe, breaker.state) == (True, "half_open")
    assert breaker.enter(5.0) is None
    assert breaker.leave(probe, True, now_s=6.0, chance=0.0)
    assert breaker.state == "closed"
    count(breaker, 0, 9, 6.0)
    assert breaker.state == "closed"
    assert breaker.changes == {"open": 1, "half_open": 1, "closed": 1}


def test_a_failing_probe_opens_it_for_longer_up_to_a_bound() -> None:
    breaker, now_s, lengths = opened(), 0.0, []
    for _ in range(4):
        lengths.append(breaker.free_at_s(now_s) - now_s)
        now_s = breaker.free_at_s(now_s)
        breaker.leave(enter(breaker, now_s), False, now_s=now_s, chance=0.0)
    assert lengths == [5, 10, 20, 20]


def test_jitter_makes_it_longer() -> None:
    breaker = Breaker(POLICY)
    for _ in range(10):
        breaker.leave(enter(breaker), False, now_s=0.0, chance=0.5)
    assert breaker.free_at_s(0.0) == 5.5


def test_a_probe_that_says_nothing_or_is_silent_lets_another_one_pass() -> None:
    breaker = opened()
    breaker.leave(enter(breaker, 5.0), None, now_s=5.5, chance=0.0)
    assert enter(breaker, 5.5).is_probe
    assert breaker.free_at_s(6.0) == 15.5
    assert enter(breaker, 15.5).is_probe


def test_what_was_sent_before_it_opened_says_nothing_of_later() -> None:
    breaker = Breaker(POLICY)
    early = enter(breaker)
    count(breaker, 0, 10)
    enter(breaker, 5.0)
    assert not breaker.leave(early, True, now_s=5.0, chance=0.0)
    assert breaker.state == "half_open"
