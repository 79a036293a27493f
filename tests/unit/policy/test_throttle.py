"""The throttle: never more than it was told, first come first served, cut at once and given back slowly."""

import msgspec
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from trollproxy.policy.throttle import (
    CUT,
    CUT_EVERY_S,
    DAY_S,
    HOUR_S,
    LEAST_SHARE,
    MINUTE_S,
    RECOVERY_PER_S,
    Pass,
    Throttle,
    Ticket,
)
from trollproxy.records import Pace


def enter(throttle: Throttle, now_s: float = 0.0) -> Pass:
    leave = throttle.enter(now_s)
    assert leave is not None
    return leave


def entered(throttle: Throttle, now_s: float, tries: int) -> int:
    return sum(throttle.enter(now_s) is not None for _ in range(tries))


def line_up(throttle: Throttle, *, is_retry: bool = False) -> Ticket:
    ticket = throttle.line_up(is_retry=is_retry)
    assert ticket is not None
    return ticket


def test_without_limits_everybody_enters() -> None:
    throttle = Throttle(Pace())
    assert entered(throttle, 0.0, 1_000) == 1_000
    assert throttle.free_at_s(0.0) == 0.0


@pytest.mark.parametrize(
    ("pace", "period_s"),
    [(Pace(per_minute=5), MINUTE_S), (Pace(per_hour=5), HOUR_S), (Pace(per_day=5), DAY_S)],
)
def test_a_window_takes_its_limit_and_then_waits_for_it_to_pass(pace: Pace, period_s: float) -> None:
    throttle = Throttle(pace)
    assert entered(throttle, 10.0, 9) == 5
    free_at_s = throttle.free_at_s(10.0)
    assert 10.0 + period_s <= free_at_s <= 10.0 + period_s * 62 / 60
    assert entered(throttle, free_at_s - 0.001, 9) == 0
    assert entered(throttle, free_at_s, 9) == 5


def test_the_window_that_is_full_for_longest_counts() -> None:
    throttle = Throttle(Pace(per_minute=2, per_hour=3))
    assert entered(throttle, 0.0, 9) == 2
    assert throttle.free_at_s(0.0) == 61.0
    assert entered(throttle, 61.0, 9) == 1
    assert throttle.free_at_s(61.0) == 3660.0


def test_at_one_time() -> None:
    throttle = Throttle(Pace(max_in_flight=2))
    assert entered(throttle, 0.0, 9) == 2
    assert throttle.free_at_s(0.0) > 0.0
    throttle.give_back()
    assert entered(throttle, 0.0, 9) == 1


def test_what_was_not_sent_counts_for_nothing() -> None:
    throttle = Throttle(Pace(per_minute=1, max_in_flight=1))
    throttle.undo(enter(throttle))
    assert (throttle.in_flight, throttle.status(0.0).last_minute) == (0, 0)
    enter(throttle, 0.0)


def test_what_is_undone_late_is_forgotten_already() -> None:
    throttle = Throttle(Pace(per_minute=1))
    early = enter(throttle, 0.0)
    enter(throttle, 100.0)
    throttle.undo(early)
    assert throttle.status(100.0).last_minute == 1


def test_the_line_is_bounded_and_goes_first() -> None:
    throttle = Throttle(Pace(max_in_flight=1, max_queue=2))
    enter(throttle)
    first = line_up(throttle)
    second = line_up(throttle)
    assert throttle.is_full
    assert throttle.line_up(is_retry=False) is None
    throttle.give_back()
    assert throttle.enter(0.0) is None  # nobody passes those who wait
    assert throttle.first() is first
    assert throttle.admit(0.0) is not None
    assert throttle.admit(0.0) is None
    assert (throttle.first(), throttle.waiting) == (second, 1)
    throttle.leave(second)
    throttle.leave(second)
    assert throttle.admit(0.0) is None


def test_a_retry_stands_in_front() -> None:
    throttle = Throttle(Pace(max_in_flight=1))
    enter(throttle)
    line_up(throttle)
    retry = line_up(throttle, is_retry=True)
    assert throttle.first() is retry


def test_no_line_at_all() -> None:
    assert Throttle(Pace(max_in_flight=1, max_queue=0)).line_up(is_retry=False) is None


def test_a_refusal_cuts_the_pace_and_time_gives_it_back() -> None:
    throttle = Throttle(Pace(per_minute=100, max_in_flight=10, per_hour=10_000))
    throttle.cut(enter(throttle, 0.0), 1.0)
    assert throttle.share(1.0) == pytest.approx(CUT)
    assert entered(throttle, 1.0, 99) == 6  # of 10 at a time 7, one of which is there
    for _ in range(7):
        throttle.give_back()
    assert throttle.share(11.0) == pytest.approx(CUT + 10 * RECOVERY_PER_S)
    assert throttle.share(1_000.0) == 1.0
    assert throttle.cuts == 1


def test_a_burst_of_refusals_is_one() -> None:
    throttle = Throttle(Pace(per_minute=100))
    sent = [enter(throttle, 0.0) for _ in range(5)]
    for leave in sent:
        throttle.cut(leave, 1.0)
    later = enter(throttle, 1.5)
    throttle.cut(later, 2.0)  # too soon
    assert throttle.cuts == 1
    throttle.cut(sent[0], 30.0)  # sent before the cut
    assert throttle.cuts == 1
    throttle.cut(later, 1.0 + CUT_EVERY_S)
    assert throttle.cuts == 2


def test_a_cut_has_an_end_and_leaves_the_quotas_alone() -> None:
    throttle = Throttle(Pace(per_minute=2, per_day=50))
    for number in range(1, 40):
        throttle.cut(Pass(number * 6.0 - 0.5), number * 6.0)
    assert throttle.share(39 * 6.0) == pytest.approx(LEAST_SHARE, abs=0.05)
    assert entered(throttle, 39 * 6.0, 9) == 1  # never none
    quota = Throttle(Pace(per_day=50))
    quota.cut(enter(quota, 0.0), 1.0)
    assert entered(quota, 1.0, 99) == 49


def test_a_pace_that_comes_back_is_looked_for() -> None:
    throttle = Throttle(Pace(per_minute=10))
    throttle.cut(enter(throttle, 0.0), 1.0)
    assert entered(throttle, 1.0, 99) == 6
    assert throttle.free_at_s(1.0) < 2.0
    assert entered(throttle, 1.0 + 0.1 / RECOVERY_PER_S + 0.01, 99) == 1


def test_another_pace_keeps_the_counts() -> None:
    throttle = Throttle(Pace(per_minute=5))
    assert entered(throttle, 0.0, 3) == 3
    throttle.pace = Pace(per_minute=4, per_hour=9)
    assert entered(throttle, 1.0, 9) == 1
    assert throttle.status(1.0) == msgspec.structs.replace(throttle.status(1.0), last_hour=4, last_day=4, in_flight=4)


PACES = st.builds(
    Pace,
    per_minute=st.none() | st.integers(1, 6),
    per_hour=st.none() | st.integers(1, 12),
    per_day=st.none() | st.integers(1, 20),
    max_in_flight=st.none() | st.integers(1, 4),
    max_queue=st.integers(0, 5),
)
STEPS = st.lists(
    st.sampled_from(["arrive", "retry", "finish", "undo", "cut", "leave", "second", "minutes", "free"]), max_size=60
)
PERIODS = {"per_minute": MINUTE_S, "per_hour": HOUR_S, "per_day": DAY_S}


class Model:
    """A throttle and all that was ever let in through it."""

    def __init__(self, pace: Pace) -> None:
        self.throttle = Throttle(pace)
        self.now_s = 1000.3
        self.sent: list[float] = []
        self.inside: list[Pass] = []
        self.line: list[Ticket] = []

    def step(self, step: str) -> None:
        throttle = self.throttle
        if step in {"arrive", "retry"}:
            leave = throttle.enter(self.now_s)
            if leave is not None:
                self.let_in(leave)
            elif (ticket := throttle.line_up(is_retry=step == "retry")) is not None:
                self.line.insert(0 if step == "retry" else len(self.line), ticket)
        elif step == "finish" and self.inside:
            self.inside.pop(0)
            throttle.give_back()
        elif step == "undo" and self.inside:
            leave = self.inside.pop()
            self.sent.remove(leave.at_s)
            throttle.undo(leave)
        elif step == "cut" and self.inside:
            throttle.cut(self.inside[-1], self.now_s)
        elif step == "leave" and self.line:
            throttle.leave(self.line.pop(len(self.line) // 2))
        elif step == "free":
            self.now_s = throttle.free_at_s(self.now_s)
        else:
            self.now_s += {"second": 0.7, "minutes": 130.0}.get(step, 0.0)
        self.look()

    def look(self) -> None:
        while (ticket := self.throttle.first()) is not None:
            leave = self.throttle.admit(self.now_s)
            if leave is None:
                break
            assert ticket is self.line.pop(0)
            self.let_in(leave)

    def let_in(self, leave: Pass) -> None:
        self.inside.append(leave)
        self.sent.append(leave.at_s)

    def check(self) -> None:
        throttle, pace = self.throttle, self.throttle.pace
        for name, period_s in PERIODS.items():
            limit = getattr(pace, name)
            assert limit is None or sum(at_s > self.now_s - period_s for at_s in self.sent) <= limit
        assert throttle.in_flight == len(self.inside) <= (pace.max_in_flight or 10**9)
        assert throttle.waiting == len(self.line) <= pace.max_queue
        assert LEAST_SHARE <= throttle.share(self.now_s) <= 1
        if self.line:  # whoever waits has a reason to, and a time to look again
            assert not throttle.has_room(self.now_s)
            assert throttle.free_at_s(self.now_s) > self.now_s


@settings(deadline=None)
@given(PACES, STEPS)
def test_never_too_many_never_out_of_turn_and_nobody_is_forgotten(pace: Pace, steps: list[str]) -> None:
    model = Model(pace)
    for step in steps:
        model.step(step)
        model.check()
    for _ in steps:  # all who are inside end, and time passes: the line empties
        model.step("finish")
        model.check()
    for _ in range(10_000):
        if not model.line:
            break
        model.step("free")
        model.step("finish")
        model.check()
    assert model.line == []


@settings(deadline=None)
@given(PACES, st.integers(0, 4000))
def test_at_the_time_that_it_names_there_is_room(pace: Pace, start: int) -> None:
    throttle = Throttle(pace)
    now_s = start / 7
    while throttle.enter(now_s) is not None and throttle.in_flight < 100:
        throttle.give_back()
        if throttle.status(now_s).last_day > 30:
            return
    now_s = throttle.free_at_s(now_s)
    assert throttle.enter(now_s) is not None
