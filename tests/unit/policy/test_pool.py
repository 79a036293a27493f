"""The pool: in turn, around those that rest, and back when their time is up."""

from hypothesis import given, settings
from hypothesis import strategies as st

from trollproxy.policy.pool import Pool


def test_members_take_turns() -> None:
    pool = Pool(("a", "b", "c"))
    assert [pool.pick(0.0) for _ in range(7)] == list("abcabca")
    assert len(pool) == 3


def test_a_failed_member_rests_until_its_time() -> None:
    pool = Pool(("a", "b"))
    pool.report_failure("a", 10.0)
    assert [pool.pick(9.9) for _ in range(3)] == ["b", "b", "b"]
    assert {pool.pick(10.0), pool.pick(10.0)} == {"a", "b"}


def test_the_longest_rest_counts() -> None:
    pool = Pool(("a",))
    pool.report_failure("a", 10.0)
    pool.report_failure("a", 5.0)
    assert pool.pick(7.0) is None
    assert pool.free_at_s() == 10.0


def test_when_all_rest_there_is_nothing_to_pick() -> None:
    pool = Pool(("a", "b"))
    pool.report_failure("a", 10.0)
    pool.report_failure("b", 20.0)
    assert pool.pick(0.0) is None
    assert pool.free_at_s() == 10.0
    assert pool.status(5.0) == [("a", 5.0), ("b", 15.0)]


def test_an_empty_pool() -> None:
    pool: Pool[str] = Pool(())
    assert pool.pick(0.0) is None
    assert pool.free_at_s() == float("inf")
    assert pool.status(0.0) == []


@settings(deadline=None)
@given(st.integers(1, 5), st.lists(st.tuples(st.integers(0, 4), st.integers(0, 9), st.booleans()), max_size=50))
def test_only_the_healthy_are_picked_and_none_is_left_out(size: int, moves: list[tuple[int, int, bool]]) -> None:
    members = tuple(range(size))
    pool, rests, now_s = Pool(members), dict.fromkeys(members, 0.0), 0.0
    nobody: set[int | None] = {None}
    for member, seconds, is_failure in moves:
        now_s += seconds % 3
        if is_failure:
            until_s = now_s + seconds
            pool.report_failure(member % size, until_s)
            rests[member % size] = max(rests[member % size], until_s)
        healthy = {m for m in members if rests[m] <= now_s}
        assert {pool.pick(now_s) for _ in members} == (healthy or nobody)
        assert pool.free_at_s() == min(rests.values())
