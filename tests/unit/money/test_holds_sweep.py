"""The sweeper of holds: what is forgotten is released after its time, never before, and no charge is lost by it."""

from hypothesis import given
from hypothesis import strategies as st

from tests.fakes import NOON_S
from trollproxy.money.accounts import Account
from trollproxy.money.holds import FriendSpend, Hold, Holds, hold
from trollproxy.records import ModelLimit, User

LIFE_S = 100.0
NOBODY: frozenset[str] = frozenset()


def account_of(credits_nusd: int = 1_000) -> Account:
    return Account(User(username="ann", credits_nusd=credits_nusd))


def watched(holds: Holds, account: Account, name: str = "r1", *, now_s: float = 0.0) -> Hold:
    made = hold(account, "legacy", 10, now_s=NOON_S)
    holds.watch(made, name, now_s=now_s)
    return made


def test_a_forgotten_hold_is_released_at_its_time_and_named() -> None:
    holds, account = Holds(LIFE_S), account_of()
    watched(holds, account)
    assert holds.sweep(LIFE_S - 0.001, alive=NOBODY) == []
    assert account.held["legacy"] == 10
    assert holds.sweep(LIFE_S, alive=NOBODY) == ["r1"]
    assert (account.held["legacy"], len(holds)) == (0, 0)
    assert holds.sweep(LIFE_S, alive=NOBODY) == []


def test_one_that_ends_is_not_watched_any_more() -> None:
    holds, account = Holds(LIFE_S), account_of()
    watched(holds, account, "r1").release()
    watched(holds, account, "r2").settle(5)
    assert len(holds) == 0
    assert holds.sweep(LIFE_S * 2, alive=NOBODY) == []
    assert (account.held["legacy"], account.unflushed["legacy"]) == (0, 5)


def test_releasing_again_after_a_sweep_does_nothing() -> None:
    holds, account = Holds(LIFE_S), account_of()
    made = watched(holds, account)
    holds.sweep(LIFE_S, alive=NOBODY)
    assert not made.release()
    assert not made.sweep()
    assert account.held["legacy"] == 0


def test_a_charge_that_comes_after_a_sweep_is_owed_once() -> None:
    holds, account = Holds(LIFE_S), account_of()
    made, spend = watched(holds, account), FriendSpend("d", {})
    made.bind(spend, "m")
    holds.sweep(LIFE_S, alive=NOBODY)
    assert spend.left("m", ModelLimit(daily_limit_nusd=100)) == 100
    made.settle(7)
    made.settle(7)
    assert (account.held["legacy"], account.unflushed["legacy"]) == (0, 7)
    assert spend.left("m", ModelLimit(daily_limit_nusd=100)) == 93
    assert account.available("legacy", NOON_S) == 993


def test_one_that_is_seen_alive_has_its_time_anew() -> None:
    holds, account = Holds(LIFE_S), account_of()
    watched(holds, account)
    assert holds.sweep(LIFE_S * 50, alive={"r1"}) == []
    assert holds.sweep(LIFE_S * 51 - 1, alive=NOBODY) == []
    assert holds.sweep(LIFE_S * 51, alive=NOBODY) == ["r1"]


def test_a_life_only_gets_longer() -> None:
    holds, account = Holds(LIFE_S), account_of()
    holds.outlast(LIFE_S * 2)
    holds.outlast(LIFE_S)
    watched(holds, account)
    assert holds.sweep(LIFE_S * 2 - 1, alive=NOBODY) == []
    assert holds.sweep(LIFE_S * 2, alive=NOBODY) == ["r1"]


Step = tuple[float, str, int]
steps = st.lists(
    st.tuples(st.floats(0, LIFE_S * 2), st.sampled_from(["hold", "end", "sweep", "look"]), st.integers(0, 9)),
    max_size=40,
)


@given(steps)
def test_a_sweep_never_releases_one_before_its_time(script: list[Step]) -> None:
    """`look` is a sweep that sees the named one alive; ages are kept by hand beside."""
    holds, account, now_s = Holds(LIFE_S), account_of(), 0.0
    seen_s: dict[str, float] = {}
    mine: dict[str, Hold] = {}
    for pause_s, what, number in script:
        now_s += pause_s
        name = f"r{number}"
        if what == "hold" and name not in mine:
            mine[name], seen_s[name] = watched(holds, account, name, now_s=now_s), now_s
        elif what == "end" and name in mine:
            assert mine.pop(name).release()
        elif what in {"sweep", "look"}:
            alive = {name} & mine.keys() if what == "look" else set()
            seen_s |= dict.fromkeys(alive, now_s)
            swept = set(holds.sweep(now_s, alive=alive))
            assert swept == {each for each in mine if seen_s[each] + LIFE_S <= now_s and each not in alive}
            for each in swept:
                assert not mine.pop(each).release()
        assert account.held["legacy"] == 10 * len(mine) == 10 * len(holds)
