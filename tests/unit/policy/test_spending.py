"""What keys have spent, period by period, and when that is enough."""

import pytest

from trollproxy.policy.pool import Member, Pool, Rest
from trollproxy.policy.spending import Limit, Spendings

KEY = ("acme", "k1")
USD = 10**9


def watching(**limit: object) -> Spendings:
    spendings = Spendings(margin_percent=10)
    spendings.watch({KEY: Limit(nusd=10 * USD, **limit)}, "2026-01-31")  # type: ignore[arg-type]
    return spendings


def test_a_key_is_spent_a_margin_before_its_limit() -> None:
    spendings = watching()
    spendings.add(KEY, 9 * USD - 1, "2026-01-31")
    assert not spendings.is_spent(KEY, "2026-01-31")
    spendings.add(KEY, 1, "2026-01-31")
    assert spendings.is_spent(KEY, "2026-01-31")
    assert not spendings.is_spent(("acme", "other"), "2026-01-31")


@pytest.mark.parametrize(("period", "over"), [("day", "2026-02-01"), ("month", "2026-02-01"), ("total", "never")])
def test_a_period_begins_at_nothing(period: str, over: str) -> None:
    spendings = watching(period=period)
    spendings.add(KEY, 10 * USD, "2026-01-31")
    assert spendings.is_spent(KEY, "2026-01-31")
    assert spendings.is_spent(KEY, "2026-02-01") == (over == "never")
    spendings.add(KEY, 10 * USD, "2026-01-31")  # a charge of yesterday that comes late
    assert spendings.is_spent(KEY, "2026-02-01") == (over == "never")


def test_the_past_is_on_the_books_and_nothing_is_unspent() -> None:
    spendings = watching()
    spendings.add(KEY, 2 * USD, "2026-01-31")
    spendings.recall({KEY: 1 * USD}, "total", "2026-01-31")  # the books are a second behind
    assert spendings.items()[0][1].own_nusd == 2 * USD
    spendings.recall({KEY: 9 * USD}, "day", "2026-01-31")
    assert spendings.items()[0][1].own_nusd == 2 * USD
    spendings.recall({KEY: 9 * USD, ("acme", "k2"): 1}, "total", "2026-01-31")
    assert spendings.is_spent(KEY, "2026-01-31")


def test_what_the_provider_tells_counts_too() -> None:
    spendings = watching()
    spendings.tell(KEY, 9 * USD, None)
    assert spendings.is_spent(KEY, "2026-01-31")
    spendings.tell(KEY, 1 * USD, 1 * USD)  # its own limit is lower
    assert spendings.is_spent(KEY, "2026-01-31")
    spendings.tell(KEY, 1 * USD, 5 * USD)
    assert not spendings.is_spent(KEY, "2026-01-31")


def test_the_providers_count_of_all_time_says_nothing_of_a_day() -> None:
    spendings = watching(period="day")
    spendings.tell(KEY, 100 * USD, None)
    assert not spendings.is_spent(KEY, "2026-01-31")


def test_who_stays_keeps_what_is_known_and_a_new_secret_is_a_new_key() -> None:
    spendings = watching(identity="a")
    spendings.add(KEY, 10 * USD, "2026-01-31")
    assert spendings.watch({KEY: Limit(nusd=20 * USD, identity="a")}, "2026-01-31") == set()
    assert spendings.items()[0][1].own_nusd == 10 * USD
    assert spendings.watch({KEY: Limit(nusd=20 * USD, identity="b")}, "2026-01-31") == {KEY}
    assert spendings.first_days({KEY}, "2026-01-31") == {"total": ""}
    assert spendings.items()[0][1].own_nusd == 0


def test_a_pool_rests_a_member_that_has_not_failed() -> None:
    pool = Pool([Member(id="k1", value=1), Member(id="k2", value=2)], {"budget": Rest(60.0, 3600.0, is_lasting=True)})
    lease = pool.pick(0.0)
    assert lease is not None
    pool.rest("k1", "budget", now_s=0.0, rest_s=10.0)
    pool.rest("k1", "budget", now_s=5.0, rest_s=10.0)
    pool.rest("unknown", "budget", now_s=5.0, rest_s=10.0)
    lease.report("ok", 6.0)  # what was under way does not heal it
    assert [found.id for found in (pool.pick(6.0), pool.pick(14.0)) if found] == ["k2", "k2"]
    assert [news.change for news in pool.news()] == ["resting"]
    probe = pool.pick(15.0)
    assert probe is not None
    assert (probe.id, probe.is_probe) == ("k1", True)
    probe.report("ok", 15.0)
    assert [member.state for member in pool.status(15.0)] == ["healthy", "healthy"]
