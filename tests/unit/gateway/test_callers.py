"""Who may call: the order of the checks, what is kept in memory, and how it is brought up to date."""

import asyncio
import gc
from typing import Any

import pytest

from tests.fakes import NOON_S, TODAY, make_charge
from tests.unit.gateway.desk import ENVIRONMENT_KEY, FRIEND, KEY, PEPPER, Desk, mint_key, play, with_secret
from trollproxy.errors import Forbidden, GatewayError, StoreUnavailable, Unauthenticated
from trollproxy.gateway import callers as module
from trollproxy.policy.keys import read_key
from trollproxy.records import ClientKey, FriendKey, ModelLimit, User


def test_a_known_key_is_looked_up_once() -> None:
    async def scene(desk: Desk) -> None:
        desk.add()
        first = await desk.enter()
        assert await desk.enter() is first
        assert (first.key_id, first.is_admin, first.friend) == (read_key(KEY, PEPPER).key_id, False, None)
        assert desk.store.calls["find_client_key"] == desk.store.calls["read_users"] == 1
        assert desk.books.last_used == {first.key_id: NOON_S}

    play(scene)


@pytest.mark.parametrize("missing", [None, ""])
def test_no_key(missing: str | None) -> None:
    async def scene(desk: Desk) -> None:
        assert await desk.code(missing) == "missing_key"

    play(scene)


EXPIRED = {"expires_at_s": NOON_S}


@pytest.mark.parametrize(
    ("key", "user", "kind", "code"),
    [
        ({}, {}, None, "ok"),
        ({"expires_at_s": NOON_S + 1}, {}, None, "ok"),
        ({"is_active": False, **EXPIRED}, {"is_active": False, "is_migrated": False}, Unauthenticated, "key_revoked"),
        (EXPIRED, {"is_active": False, "is_migrated": False}, Unauthenticated, "key_expired"),
        ({}, {"is_active": False, "is_migrated": False}, Forbidden, "account_disabled"),
        ({}, {"is_migrated": False}, Forbidden, "migration_required"),
    ],
)
def test_the_checks_have_their_order(
    key: dict[str, Any], user: dict[str, object], kind: type[GatewayError] | None, code: str
) -> None:
    async def scene(desk: Desk) -> None:
        desk.add(**key)
        desk.change_user(**user)
        for _ in range(2):  # from the store, and from memory
            assert await desk.code() == code
        if kind is not None:
            with pytest.raises(kind):
                await desk.enter()

    play(scene)


def test_a_key_without_its_user_is_not_known() -> None:
    async def scene(desk: Desk) -> None:
        desk.add(username="nobody")
        assert await desk.code() == "invalid_key"

    play(scene)


def test_a_new_key_works_after_a_refresh() -> None:
    async def scene(desk: Desk) -> None:
        assert await desk.code() == "invalid_key"
        desk.add()
        await desk.refresh()
        assert await desk.code() == "ok"

    play(scene)


def test_an_outage_of_the_store_is_told_and_not_remembered() -> None:
    async def scene(desk: Desk) -> None:
        desk.add()
        desk.store.failing.append(StoreUnavailable("down"))
        assert await desk.code() == "store_unavailable"
        assert await desk.code() == "ok"

    play(scene)


def test_a_refresh_brings_revocations_and_balances() -> None:
    async def scene(desk: Desk) -> None:
        desk.add()
        caller = await desk.enter()
        desk.change_user(credits_nusd=5, role="admin")
        await desk.refresh()
        assert caller.account is not None
        assert caller.account.user.credits_nusd == 5
        assert caller.is_admin
        desk.add(is_active=False)
        await desk.refresh()
        assert await desk.code() == "key_revoked"

    play(scene)


def test_balances_are_read_in_a_quiet_moment() -> None:
    async def scene(desk: Desk) -> None:
        desk.add()
        seen: list[bool] = []
        real = desk.store.read_users

        async def read_users(names: list[str]) -> list[User]:
            seen.append(desk.books.is_quiet)
            return await real(names)

        desk.store.read_users = read_users  # type: ignore[method-assign,assignment]
        await desk.enter()
        await desk.refresh()
        assert seen == [True, True]

    play(scene)


def test_the_unused_and_the_deleted_are_forgotten() -> None:
    async def scene(desk: Desk) -> None:
        desk.add()
        desk.add(mint_key(3))
        await desk.enter()
        desk.clock.advance(module.UNUSED_TTL_S + 1)
        await desk.enter(mint_key(3))
        await desk.refresh()
        assert len(desk.callers) == 1
        desk.store.client_keys.clear()
        await desk.refresh()
        assert len(desk.callers) == 0

    play(scene)


def test_who_owes_or_holds_is_not_forgotten() -> None:
    async def scene(desk: Desk) -> None:
        desk.add()
        caller = await desk.enter()
        assert caller.account is not None
        caller.account.held["legacy"] = 5
        desk.clock.advance(module.UNUSED_TTL_S + 1)
        await desk.refresh()
        assert len(desk.callers) == 1

    play(scene)


def test_a_rotated_key_does_not_forget_what_its_account_owes() -> None:
    """A charge waits for the store while its only key is replaced: read anew, the balance lacks the charge."""

    async def scene(desk: Desk) -> None:
        desk.add()
        await owe(desk, 400)
        desk.store.client_keys.clear()
        desk.add(mint_key(3))
        await desk.refresh()
        gc.collect()
        caller = await desk.enter(mint_key(3))
        assert caller.account is not None
        assert caller.account.available("legacy", NOON_S) == 600

    play(scene)


async def owe(desk: Desk, cost_nusd: int) -> None:
    caller = await desk.enter()
    assert caller.account is not None
    caller.account.owe("legacy", cost_nusd)


def test_two_refreshes_at_once_agree() -> None:
    """The timer's and a reload's: an error here would end the timer, and with it the gateway."""

    async def scene(desk: Desk) -> None:
        for number in range(3, 6):
            desk.add(mint_key(number))
            await desk.enter(mint_key(number))
        desk.store.client_keys.clear()
        await asyncio.gather(desk.refresh(), desk.refresh())
        assert len(desk.callers) == 0

    play(scene)


def test_a_plain_key_is_adopted_once() -> None:
    async def scene(desk: Desk) -> None:
        desk.store.plain["sk-from-the-seeds"] = ClientKey(key_id="", key_hash=b"", username="ann", name="old")
        caller = await desk.enter("sk-from-the-seeds")
        assert isinstance(caller.key, ClientKey)
        assert caller.key.name == "old"
        assert desk.store.plain == {}
        assert await desk.enter("sk-from-the-seeds") is caller
        assert desk.store.calls["adopt_client_key"] == 1

    play(scene)


def test_a_friend_spends_the_owners_wallet_within_the_day() -> None:
    async def scene(desk: Desk) -> None:
        desk.change_user(role="admin")
        key = desk.add_friend(model_limits={"m": ModelLimit(daily_limit_nusd=100)})
        desk.store.spend[key.key_id, TODAY] = {"m": 40}
        caller = await desk.enter(FRIEND)
        assert caller.account is not None
        assert caller.spend is not None
        assert (caller.account.user.username, caller.friend, caller.is_admin) == ("ann", key, False)
        assert (caller.spend.day, caller.spend.spent) == (TODAY, {"m": 40})
        desk.add_friend(is_active=False)
        await desk.refresh()
        assert await desk.code(FRIEND) == "key_revoked"

    play(scene)


def test_a_plain_friend_key_is_adopted() -> None:
    async def scene(desk: Desk) -> None:
        desk.store.plain["fk-from-the-seeds"] = FriendKey(key_id="", key_hash=b"", owner="ann")
        assert (await desk.enter("fk-from-the-seeds")).friend is not None

    play(scene)


def test_the_environments_key_is_an_admins_and_asks_nobody() -> None:
    async def scene(desk: Desk) -> None:
        caller = await desk.enter(ENVIRONMENT_KEY)
        assert (caller.is_admin, caller.account, caller.key_id) == (True, None, "environment")
        assert desk.callers.limit(caller, "legacy", 0.0) is None
        assert not desk.store.calls

    play(scene)


def test_the_limit_is_by_tier_and_lifted_by_ref_credits() -> None:
    async def scene(desk: Desk) -> None:
        desk.add()
        desk.add(mint_key(3), tier="pro")
        desk.add_friend()
        dev, pro, friend = await desk.enter(), await desk.enter(mint_key(3)), await desk.enter(FRIEND)
        limits = [desk.callers.limit(caller, "legacy", 0.0) for caller in (dev, pro, friend)]
        assert [verdict.limit for verdict in limits if verdict is not None] == [2, 4, 2]
        desk.change_user(credits_nusd=0, ref_credits_nusd=5)
        await desk.refresh()
        lifted, other = desk.callers.limit(dev, "legacy", 0.0), desk.callers.limit(dev, "new", 0.0)
        assert lifted is not None
        assert other is not None
        assert (lifted.limit, lifted.allowed, other.limit, other.allowed) == (4, True, 2, False)

    play(scene)


def test_what_a_friend_spent_before_a_crash_counts_though_the_store_does_not_have_it_yet() -> None:
    async def scene(desk: Desk) -> None:
        key = desk.add_friend(model_limits={"m": ModelLimit()})
        desk.store.spend[key.key_id, TODAY] = {"m": 5}
        desk.accounts.inherit(make_charge(1, friend_key_id=key.key_id, model="m", cost_nusd=30))
        desk.accounts.inherit(make_charge(2, friend_key_id=key.key_id, model="n", cost_nusd=7))
        caller = await desk.enter(FRIEND)
        assert caller.spend is not None
        assert caller.spend.spent == {"m": 35, "n": 7}

    play(scene)


def test_a_friends_day_is_read_in_a_quiet_moment() -> None:
    async def scene(desk: Desk) -> None:
        desk.add_friend()
        seen: list[bool] = []
        real = desk.store.read_friend_spend

        async def read_friend_spend(key_id: str, day: str) -> dict[str, int]:
            seen.append(desk.books.is_quiet)
            return await real(key_id, day)

        desk.store.read_friend_spend = read_friend_spend  # type: ignore[method-assign]
        await desk.enter(FRIEND)
        assert seen == [True]

    play(scene)


# Credentials that were proven before


def test_who_was_let_in_before_is_known_without_a_proof() -> None:
    async def scene(desk: Desk) -> None:
        desk.add()
        desk.add_friend()
        for key in (KEY, FRIEND):
            assert desk.known(key) is None
            caller = await desk.enter(key)
            assert desk.known(key) is caller
        assert desk.known(None) is desk.known("") is None

    play(scene)


def test_who_is_known_is_noted_as_used_and_not_forgotten() -> None:
    async def scene(desk: Desk) -> None:
        desk.add()
        caller = await desk.enter()
        desk.clock.advance(module.UNUSED_TTL_S)
        assert desk.known() is caller
        assert desk.books.last_used == {caller.key_id: NOON_S + module.UNUSED_TTL_S}
        desk.clock.advance(1)
        await desk.refresh()
        assert desk.known() is caller
        desk.clock.advance(module.UNUSED_TTL_S + 1)
        await desk.refresh()
        assert desk.known() is None
        assert await desk.code() == "ok"

    play(scene)


@pytest.mark.parametrize(
    ("key", "user", "code"),
    [
        ({"is_active": False, **EXPIRED}, {"is_active": False}, "key_revoked"),
        ({"expires_at_s": NOON_S + 1}, {"is_active": False, "is_migrated": False}, "key_expired"),
        ({}, {"is_active": False, "is_migrated": False}, "account_disabled"),
        ({}, {"is_migrated": False}, "migration_required"),
    ],
)
def test_the_known_pass_the_same_checks_in_the_same_order(
    key: dict[str, Any], user: dict[str, object], code: str
) -> None:
    async def scene(desk: Desk) -> None:
        desk.add()
        await desk.enter()
        desk.add(**key)
        desk.change_user(**user)
        await desk.refresh()
        desk.books.last_used.clear()
        desk.clock.advance(1)
        for _ in "twice":
            with pytest.raises(GatewayError) as refused:
                desk.known()
            assert refused.value.code == code
        assert desk.books.last_used == {}
        assert await desk.code() == code

    play(scene)


def test_a_key_that_expires_between_two_refreshes_is_refused() -> None:
    async def scene(desk: Desk) -> None:
        desk.add(expires_at_s=NOON_S + 1)
        caller = await desk.enter()
        assert desk.known() is caller
        desk.clock.advance(1)
        with pytest.raises(Unauthenticated):
            desk.known()

    play(scene)


def test_another_secret_of_a_known_key_is_not_known() -> None:
    async def scene(desk: Desk) -> None:
        desk.add()
        await desk.enter()
        guess = with_secret(KEY, 7)
        for _ in "twice":
            assert desk.known(guess) is None
            assert await desk.code(guess) == "invalid_key"

    play(scene)


def test_a_rotated_secret_is_known_no_more_and_the_new_one_after_its_proof() -> None:
    async def scene(desk: Desk) -> None:
        desk.add()
        caller = await desk.enter()
        new = with_secret(KEY, 7)
        desk.add(new)
        await desk.refresh()
        assert desk.known() is desk.known(new) is None
        assert await desk.code() == "invalid_key"
        assert await desk.enter(new) is caller
        assert desk.known(new) is caller
        assert desk.known() is None

    play(scene)


def test_a_deleted_key_is_known_no_more() -> None:
    async def scene(desk: Desk) -> None:
        desk.add()
        await desk.enter()
        record = desk.store.client_keys.copy()
        desk.store.client_keys.clear()
        await desk.refresh()
        assert desk.known() is None
        assert await desk.code() == "invalid_key"
        desk.store.client_keys.update(record)
        await desk.refresh()
        again = await desk.enter()
        assert desk.known() is again  # the entry in memory, not the one that it was proven with before

    play(scene)


def test_the_environments_key_is_always_asked_for() -> None:
    async def scene(desk: Desk) -> None:
        await desk.enter(ENVIRONMENT_KEY)
        assert desk.known(ENVIRONMENT_KEY) is None

    play(scene)


def test_the_known_are_bounded(monkeypatch: pytest.MonkeyPatch) -> None:
    async def scene(desk: Desk) -> None:
        keys = [mint_key(number) for number in range(3, 9)]
        for key in keys:
            desk.add(key)
            await desk.enter(key)
            assert desk.known(key) is not None
            assert len(desk.callers._proven) <= 4
        for key in keys:
            assert await desk.code(key) == "ok"

    monkeypatch.setattr(module, "MAX_ENTRIES", 4)
    play(scene)


def test_credentials_of_those_who_went_are_forgotten() -> None:
    async def scene(desk: Desk) -> None:
        desk.add()
        await desk.enter()
        desk.clock.advance(module.UNUSED_TTL_S + 1)
        await desk.refresh()
        assert desk.callers._proven == {}

    play(scene)
