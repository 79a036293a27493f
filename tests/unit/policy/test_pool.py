"""The pool: turns, rests, probes, leases, backups and reloads, by a clock that the tests move."""

from collections.abc import Iterable

from hypothesis import example, given, settings
from hypothesis import strategies as st

from trollproxy.errors import Failure
from trollproxy.policy.pool import BUSY_S, CONFIRMED, MAX_NEWS, PROBE_PATIENCE_S, Lease, Member, Pool, Rest

RESTS: dict[Failure, Rest] = {
    "auth": Rest(10.0, 100.0, is_lasting=True),
    "rate": Rest(1.0, 8.0),
}
INFINITY = float("inf")


def members(*names: str, backups: Iterable[str] = (), most: int | None = None) -> list[Member[str]]:
    own = [Member(id=name, value=name.upper(), max_leases=most) for name in names]
    return [*own, *(Member(id=name, value=name.upper(), is_backup=True) for name in backups)]


def pool_of(*names: str, backups: Iterable[str] = (), most: int | None = None) -> Pool[str]:
    return Pool(members(*names, backups=backups, most=most), RESTS)


def pick(pool: Pool[str], now_s: float = 0.0) -> Lease[str]:
    lease = pool.pick(now_s)
    assert lease is not None
    return lease


def turns(pool: Pool[str], count: int, now_s: float = 0.0) -> str:
    """Who is picked, each given back well before the next."""
    picked = ""
    for _ in range(count):
        lease = pool.pick(now_s, may_probe=False)
        picked += lease.id if lease is not None else "-"
        if lease is not None:
            lease.release()
    return picked


def fail(pool: Pool[str], failure: Failure, now_s: float = 0.0, retry_after_s: float | None = None) -> str:
    lease = pick(pool, now_s)
    lease.report(failure, now_s, retry_after_s)
    lease.release()
    return lease.id


def states(pool: Pool[str], now_s: float = 0.0) -> dict[str, str]:
    return {each.id: each.state for each in pool.status(now_s)}


# Turns


def test_members_take_turns() -> None:
    pool = pool_of("a", "b", "c")
    assert turns(pool, 7) == "abcabca"
    assert len(pool) == 3
    assert pick(pool).value == "B"


def test_an_empty_pool() -> None:
    pool: Pool[str] = Pool((), RESTS)
    assert pool.pick(0.0) is None
    assert pool.free_at_s(0.0) == INFINITY
    assert pool.status(0.0) == []
    assert len(pool) == 0


# Rests


def test_a_failed_member_rests_until_its_time() -> None:
    pool = pool_of("a", "b")
    assert fail(pool, "rate") == "a"
    assert turns(pool, 3, 0.9) == "bbb"
    assert {turns(pool, 1, 1.0), pick(pool, 1.0).id} == {"a", "b"}


def test_a_class_that_the_table_lacks_rests_nobody() -> None:
    pool = pool_of("a", "b")
    for failure in ("content", "network", "overload"):
        fail(pool, failure)
    assert states(pool) == {"a": "healthy", "b": "healthy"}
    assert pool.news() == []


def test_the_providers_word_counts_and_the_longest_of_all() -> None:
    pool = pool_of("a")
    first, second, third = pick(pool), pick(pool), pick(pool)
    first.report("rate", 0.0, 5.0)
    second.report("rate", 1.0, 3.0)  # at once with the first, so it is not worse than the first said
    assert pool.free_at_s(1.0) == 5.0
    third.report("rate", 2.0, 6.0)
    assert pool.pick(7.9) is None
    assert pool.free_at_s(7.9) == 8.0


def test_each_repeated_failure_rests_longer_up_to_a_bound() -> None:
    pool, now_s, rests = pool_of("a"), 0.0, []
    for _ in range(6):
        fail(pool, "rate", now_s)
        rests.append(pool.free_at_s(now_s) - now_s)
        now_s += rests[-1]
    assert rests == [1, 2, 4, 8, 8, 8]


def test_another_class_begins_anew_and_what_the_provider_says_may_be_longer() -> None:
    pool = pool_of("a")
    fail(pool, "rate", 0.0)
    fail(pool, "auth", 1.0)
    assert pool.free_at_s(1.0) == 11.0
    fail(pool, "auth", 11.0, 90.0)
    assert pool.free_at_s(11.0) == 101.0
    fail(pool, "auth", 101.0, 0.5)
    assert pool.free_at_s(101.0) == 141.0  # the fourth would be 80; the third is 40, and no less for a kind word


def test_a_failure_from_before_the_rest_does_not_double_it() -> None:
    pool = pool_of("a")
    leases = [pick(pool) for _ in range(10)]
    for lease in leases:
        lease.report("rate", 0.0)
        lease.release()
    assert pool.free_at_s(0.0) == 1.0
    assert pool.status(0.0)[0].leases == 0


def test_when_all_rest_there_is_nothing_to_pick() -> None:
    pool = pool_of("a", "b")
    fail(pool, "rate", 0.0, 10.0)
    fail(pool, "rate", 0.0, 7.0)
    assert pool.pick(1.0) is None
    assert pool.free_at_s(1.0) == 7.0
    assert [(each.id, each.rests_for_s) for each in pool.status(5.0)] == [("a", 5.0), ("b", 2.0)]


# Probes


def test_exactly_one_request_carries_the_probe() -> None:
    pool = pool_of("a")
    fail(pool, "rate")
    probe = pick(pool, 1.0)
    assert probe.is_probe
    assert pool.pick(1.0) is None
    assert pool.free_at_s(1.0) == 1.0 + PROBE_PATIENCE_S
    probe.report("ok", 1.5)
    assert not pick(pool, 1.5).is_probe
    probe.release()
    assert states(pool, 1.5) == {"a": "healthy"}


def test_the_first_try_carries_the_probe_and_a_second_one_does_not() -> None:
    pool = pool_of("a", "b", "c")
    fail(pool, "rate")
    second = pool.pick(1.0, may_probe=False)
    assert second is not None
    assert second.id == "b"
    assert (pick(pool, 1.0).id, pick(pool, 1.0).id) == ("a", "c")


def test_where_nothing_else_is_left_a_second_try_carries_it_too() -> None:
    pool = pool_of("a")
    fail(pool, "rate")
    probe = pool.pick(1.0, may_probe=False)
    assert probe is not None
    assert probe.is_probe


def test_a_probe_without_verdict_leaves_it_to_the_next_request() -> None:
    pool = pool_of("a")
    fail(pool, "rate")
    cancelled = pick(pool, 1.0)
    cancelled.release()
    content = pick(pool, 1.0)
    content.report("content", 1.0)
    content.release()
    content.release()  # twice is as good as once
    assert pick(pool, 1.0).is_probe


def test_a_silent_probe_lets_another_one_pass() -> None:
    pool = pool_of("a")
    fail(pool, "rate")
    silent = pick(pool, 1.0)
    assert pool.pick(1.0 + PROBE_PATIENCE_S - 0.1) is None
    other = pick(pool, 1.0 + PROBE_PATIENCE_S)
    assert other.is_probe
    other.report("ok", 7.0)
    silent.release()
    assert states(pool, 7.0) == {"a": "healthy"}


def test_success_from_before_the_rest_heals_nobody() -> None:
    pool = pool_of("a")
    old, failing = pick(pool), pick(pool)
    failing.report("auth", 0.0)
    old.report("ok", 1.0)
    assert states(pool, 1.0) == {"a": "resting"}


def test_a_rest_is_over_in_time_though_a_probe_before_it_had_more_patience() -> None:
    pool = pool_of("a")
    fail(pool, "rate")
    fail(pool, "rate", 1.0)
    assert pool.pick(2.9) is None
    assert pick(pool, 3.0).is_probe


def test_a_rest_after_a_healed_one_is_over_in_time() -> None:
    pool = pool_of("a")
    fail(pool, "rate")
    pick(pool, 1.0).report("ok", 1.0)
    fail(pool, "rate", 1.0)
    assert pick(pool, 2.0).is_probe


def test_the_patience_with_each_probe_is_its_own() -> None:
    pool = pool_of("a", "b", most=2)
    slow = {lease.id: lease for lease in (pick(pool), pick(pool))}
    for rest_s in (1.5, 1.0):
        fail(pool, "rate", 0.0, rest_s)
    assert [pick(pool, 1.0).id, pick(pool, 2.0).id] == ["b", "a"]
    slow["b"].release()  # which says nothing of the probe
    assert pool.free_at_s(2.0) == 1.0 + PROBE_PATIENCE_S
    heir = Pool(members("b", "a", most=2), RESTS, previous=pool)
    assert heir.free_at_s(2.0) == 1.0 + PROBE_PATIENCE_S
    assert pick(heir, 1.0 + PROBE_PATIENCE_S).id == "b"
    slow["a"].release()
    assert heir.pick(1.5 + PROBE_PATIENCE_S) is None
    assert pick(heir, 2.0 + PROBE_PATIENCE_S).id == "a"


# Leases


def test_a_member_has_no_more_requests_than_it_may() -> None:
    pool = pool_of("a", "b", most=2)
    leases = [pick(pool) for _ in range(4)]
    assert [lease.id for lease in leases] == list("abab")
    assert pool.pick(0.0) is None
    assert pool.free_at_s(0.0) == BUSY_S
    leases[1].release()
    assert pick(pool).id == "b"
    assert pool.pick(0.0) is None


def test_who_is_only_busy_may_be_free_before_a_rest_ends() -> None:
    pool = pool_of("a", "b", most=1)
    fail(pool, "rate", 0.0, 60.0)
    busy = pick(pool)
    assert pool.free_at_s(0.0) == BUSY_S
    busy.report("rate", 0.0, 30.0)
    assert pool.free_at_s(0.0) == 30.0


def test_a_full_member_that_fails_and_empties_comes_back() -> None:
    pool = pool_of("a", most=1)
    lease = pick(pool)
    lease.report("rate", 0.0)
    lease.release()
    assert pool.pick(0.5) is None
    probe = pick(pool, 1.0)
    probe.report("ok", 1.0)
    assert pool.pick(1.0) is None
    probe.release()
    assert not pick(pool, 1.0).is_probe


# Backups


def lose(pool: Pool[str], member_id: str, now_s: float = 0.0) -> float:
    """Fail one member for good; the others answer. The time at which it is lost."""
    failed = 0
    while failed < CONFIRMED:
        lease = pool.pick(now_s)
        if lease is None:
            now_s += 1.0
            continue
        lease.report("auth" if lease.id == member_id else "ok", now_s)
        failed += lease.id == member_id
        now_s += lease.id != member_id
        lease.release()
    return now_s


def test_backups_stand_by_while_a_primary_can_be_picked() -> None:
    pool = pool_of("a", "b", backups="x")
    assert turns(pool, 4) == "abab"
    fail(pool, "rate")
    assert turns(pool, 2) == "bb"
    fail(pool, "rate")
    assert turns(pool, 2) == "xx"
    assert pool.free_at_s(0.0) == 0.0
    assert set(turns(pool, 2, 1.0)) == set("ab")


def test_a_member_that_is_lost_is_replaced_by_one_backup() -> None:
    pool = pool_of("a", "b", backups="xy")
    now_s = lose(pool, "a")
    assert [each.id for each in pool.status(now_s) if each.is_lost] == ["a"]
    assert set(turns(pool, 6, now_s)) == set("bx")
    assert [news.change for news in pool.news()][-2:] == ["lost", "called_up"]


def test_a_backup_that_is_lost_is_replaced_and_stands_down_when_its_primary_heals() -> None:
    pool = pool_of("a", backups="xy")
    now_s = lose(pool, "a")
    now_s = lose(pool, "x", now_s)
    assert set(turns(pool, 4, now_s)) == {"y"}
    while pick(pool, now_s).id != "a":
        now_s += 1.0
    now_s += PROBE_PATIENCE_S
    probe = next(lease for lease in iter(lambda: pick(pool, now_s), None) if lease.id == "a")
    probe.report("ok", now_s)
    assert set(turns(pool, 4, now_s)) == {"a"}
    assert [each.id for each in pool.status(now_s) if each.is_standing_by] == ["x", "y"]


# Reload


def test_a_new_pool_keeps_health_leases_and_turns_of_those_that_stayed() -> None:
    old = pool_of("a", "b", "c", most=1)
    fail(old, "rate", 0.0, 50.0)
    held = pick(old)
    assert held.id == "b"
    new = Pool(members("d", "c", "b", "a", most=1), RESTS, previous=old)
    assert turns(new, 3) == "cdc"
    held.release()
    assert "b" in turns(new, 3)
    assert states(new) == {"a": "resting", "b": "healthy", "c": "healthy", "d": "healthy"}
    assert new.changes[("resting", "rate")] == 1
    assert pick(new, 50.0).id == "a"


def test_a_replaced_secret_is_another_member() -> None:
    old = Pool([Member(id="a", value="1", identity="1")], RESTS)
    fail(old, "rate")
    new = Pool([Member(id="a", value="2", identity="2")], RESTS, previous=old)
    assert pick(new).value == "2"
    kept = Pool([Member(id="a", value="3", identity="2", max_leases=1)], RESTS, previous=new)
    assert kept.pick(0.0) is None  # the one that was picked is still out
    assert old.pick(0.0) is None  # who began with the old members never gets the new one


def test_who_works_with_the_old_pool_picks_from_the_new_one_what_stayed() -> None:
    old = pool_of("a", "b")
    new = Pool(members("b", "c"), RESTS, previous=old)
    picked = [lease.id if (lease := old.pick(0.0)) else None for _ in range(4)]
    assert picked == ["b", None, "b", None]
    assert {each.id: each.leases for each in new.status(0.0)} == {"b": 2, "c": 0}
    assert old.free_at_s(0.0) == 0.0
    third = Pool(members("b"), RESTS, previous=old)
    assert third.status(0.0)[0].leases == 2


def test_a_member_that_went_is_given_back_to_nobody() -> None:
    old = pool_of("a", most=1)
    held = pick(old)
    new = Pool(members("b"), RESTS, previous=old)
    held.report("auth", 0.0)
    held.release()
    assert turns(new, 2) == "bb"


def test_who_is_lost_after_it_went_calls_up_nobody() -> None:
    old = pool_of("a", backups="x")
    fail(old, "auth", 0.0)
    fail(old, "auth", 10.0)
    probe = pick(old, 30.0)
    while probe.id != "a":
        probe = pick(old, 30.0)
    new = Pool(members("b", backups="x"), RESTS, previous=old)
    probe.report("auth", 31.0)
    assert turns(new, 2, 31.0) == "bb"
    assert [each.id for each in new.status(31.0) if each.is_standing_by] == ["x"]
    fail(new, "rate", 31.0)
    assert turns(new, 2, 31.0) == "xx"


def test_roles_can_change_at_a_reload() -> None:
    old = pool_of("a", backups="x")
    new = Pool(members("x", backups="a"), RESTS, previous=old)
    assert turns(new, 2) == "xx"


# Facts


def test_transitions_are_told_once_and_counted_for_ever() -> None:
    pool = pool_of("a")
    fail(pool, "rate")
    pick(pool, 1.0).report("ok", 1.0)
    told = pool.news()
    assert [(news.member_id, news.change, news.cause) for news in told] == [
        ("a", "resting", "rate"),
        ("a", "half_open", "rate"),
        ("a", "healthy", None),
    ]
    assert told[0].rests_for_s == 1.0
    assert pool.news() == []
    assert pool.changes == {("resting", "rate"): 1, ("half_open", "rate"): 1, ("healthy", ""): 1}
    assert repr(pool) == "<Pool healthy=1 of 1>"


def test_news_is_bounded() -> None:
    pool, now_s = pool_of("a"), 0.0
    for _ in range(MAX_NEWS):
        fail(pool, "rate", now_s)
        now_s += 10
    assert len(pool.news()) == MAX_NEWS


def test_what_waits_is_bounded_by_the_number_of_members() -> None:
    pool, now_s = pool_of("a", "b", "c"), 0.0
    for step in range(1_000):
        now_s += 0.3
        lease = pool.pick(now_s)
        if lease is not None:
            lease.report("rate" if step % 3 else "ok", now_s, step % 7)
            lease.release()
    assert len(pool._timers) <= 3


def test_who_probes_without_a_request_gets_only_whose_probe_is_due() -> None:
    pool = pool_of("a", "b")
    assert pool.pick_due(0.0) is None
    pick(pool).report("rate", 0.0)
    assert pool.pick_due(0.5) is None
    probe = pool.pick_due(1.0)
    assert probe is not None
    assert (probe.id, probe.is_probe) == ("a", True)
    assert pool.pick_due(1.0) is None
    probe.report("ok", 1.0)
    assert [each.state for each in pool.status(1.0)] == ["healthy", "healthy"]


def test_after_a_reload_the_old_pool_gives_out_probes_of_those_who_stayed() -> None:
    old = pool_of("a", "b")
    for _ in "ab":
        pick(old).report("rate", 0.0)
    heir = Pool(members("b", "c"), RESTS, previous=old)
    probe = old.pick_due(1.0)
    assert probe is not None
    assert probe.id == "b"
    assert heir.pick_due(1.0) is None


MOVES = st.tuples(st.integers(0, 5), st.sampled_from(["ok", "rate", "auth", "content", "give up"]), st.booleans())


OLD_PATIENCE = [  # the backup's second rest is shorter than the patience with the probe that began it
    *[(0, "ok", True), *[(0, "ok", False)] * 11, *[(0, "ok", True)] * 2, (0, "rate", False), *[(0, "ok", False)] * 2],
    *[(1, "rate", False), (1, "ok", False)],
]


@settings(deadline=None)
@example(1, 1, OLD_PATIENCE)
@given(st.integers(1, 4), st.sampled_from([None, 1, 2]), st.lists(MOVES, max_size=60))
def test_whatever_happens_a_pick_fails_only_where_nobody_can_be_picked(
    size: int, most: int | None, moves: list[tuple[int, str, bool]]
) -> None:
    pool: Pool[str] = pool_of(*"abcd"[:size], backups="x", most=most)
    out: list[Lease[str]] = []
    now_s = 0.0
    for seconds, verdict, is_held in moves:
        now_s += seconds
        shown = {each.id: each for each in pool.status(now_s)}
        assert all(each.rests_for_s > 0 for each in shown.values() if each.state == "resting")
        lease = pool.pick(now_s)
        if lease is None:
            assert pool.free_at_s(now_s) > now_s
            assert not any(each.state == "healthy" and each.leases < (most or 99) for each in shown.values())
        else:
            assert shown[lease.id].state != "resting"
            assert most is None or lease.id == "x" or shown[lease.id].leases < most
            out.append(lease)
        if out and not is_held:
            ended = out.pop(0)
            if verdict != "give up":
                ended.report(verdict, now_s)  # type: ignore[arg-type]
            ended.release()
    for lease in out:
        lease.release()
    assert all(each.leases == 0 for each in pool.status(now_s))
