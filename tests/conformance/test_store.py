"""The Store contract: users, keys, the seeds' data, and outages of the store itself. Money is in test_store_books."""

import asyncio
import time
from pathlib import Path

import pytest

from tests.aio import run
from tests.conformance.store_lab import (
    AT_S,
    Lab,
    MongoLab,
    balances,
    make_batch,
    make_charge,
    make_client_key,
    make_friend_key,
    make_user,
    play,
    read_user,
)
from tests.mongod import Mongod
from trollproxy.errors import Forbidden, InvalidRequest, NotFound, StoreUnavailable
from trollproxy.ports import Store
from trollproxy.records import ClientKeyMaterial, Credit, ModelLimit
from trollproxy.store.mongo import MongoStore
from trollproxy.store.sqlite import SqliteStore

ODD_MODELS = ("gpt-4.1", "$where", "a.$b|c", "模型-é", "x" * 300)
MATERIAL = ClientKeyMaterial(key_id="new-id", key_hash=b"new-hash", plain="sk-troll-plain")


def test_a_user_is_read_as_it_was_added(lab: Lab) -> None:
    user = make_user(
        role="admin", is_active=False, password_hash="$argon2id$x", credits_nusd=-5, ref_credits_nusd=7,
        credits_new_nusd=9_007_199_254_740_993, credits_expire_at_s=AT_S + 60, tokens_used=3_000_000_000,
    )  # fmt: skip

    async def scene(store: Store) -> None:
        await store.add_user(user)
        assert await store.read_users(["ann", "nobody"]) == [user]
        assert await balances(store) == (-5, 7, 9_007_199_254_740_993)

    play(lab, scene)


def test_a_name_or_key_can_be_taken_only_once(lab: Lab) -> None:
    async def scene(store: Store) -> None:
        await store.add_user(make_user(credits_nusd=5))
        await store.add_client_key(make_client_key())
        await store.add_friend_key(make_friend_key())
        again = (
            store.add_user(make_user(credits_nusd=9)),
            store.add_client_key(make_client_key()),
            store.add_friend_key(make_friend_key()),
        )
        for operation in again:
            with pytest.raises(InvalidRequest) as caught:
                await operation
            assert (caught.value.code, caught.value.status) == ("already_exists", 409)
        assert await balances(store) == (5, 0, 0)

    play(lab, scene)


def test_users_are_listed_by_name_from_where_the_last_page_ended(lab: Lab) -> None:
    async def scene(store: Store) -> None:
        for name in ("cid", "ann", "bob", "Zoë"):
            await store.add_user(make_user(name))
        first = await store.list_users(limit=2)
        assert [user.username for user in first] == ["Zoë", "ann"]
        assert [user.username for user in await store.list_users(after="ann")] == ["bob", "cid"]
        assert len(await store.list_users(limit=0)) == 1

    play(lab, scene)


def test_many_ids_are_read_in_one_go(lab: Lab) -> None:
    async def scene(store: Store) -> None:
        await store.add_user(make_user())
        await store.add_client_key(make_client_key())
        names = [f"nobody-{number}" for number in range(1100)]
        assert len(await store.read_users([*names, "ann"])) == 1
        assert len(await store.read_client_keys(["key-1", *names])) == 1
        assert await store.read_users([]) == []

    play(lab, scene)


def test_keys_are_read_as_they_were_added(lab: Lab) -> None:
    client = make_client_key(name="laptop", tier="pro", is_active=False, expires_at_s=AT_S, last_used_at_s=AT_S + 1)
    limits = {model: ModelLimit(enabled=False, daily_limit_nusd=10**15) for model in ODD_MODELS}
    limits["open"] = ModelLimit()
    friend = make_friend_key(name="bob's", model_limits=limits, total_spent_nusd=10**12, last_used_at_s=AT_S)

    async def scene(store: Store) -> None:
        await store.add_client_key(client)
        await store.add_friend_key(friend)
        assert await store.find_client_key("key-1") == client
        assert await store.find_friend_key("fk-1") == friend
        assert await store.list_client_keys("ann") == await store.read_client_keys(["key-1"]) == [client]
        assert await store.list_friend_keys("ann") == await store.read_friend_keys(["fk-1"]) == [friend]
        assert await store.find_client_key("fk-1") is None
        assert await store.find_friend_key("key-1") is None
        assert await store.list_client_keys("bob") == []
        assert await store.list_friend_keys("bob") == []

    play(lab, scene)


def test_keys_are_switched_off_and_on(lab: Lab) -> None:
    async def scene(store: Store) -> None:
        await store.add_client_key(make_client_key())
        await store.add_friend_key(make_friend_key())
        for _ in range(2):
            assert await store.set_client_key_active("key-1", active=False)
            assert await store.set_friend_key_active("fk-1", active=False)
        assert (await store.read_client_keys(["key-1"]))[0].is_active is False
        assert (await store.read_friend_keys(["fk-1"]))[0].is_active is False
        assert await store.set_client_key_active("key-1", active=True)
        assert (await store.read_client_keys(["key-1"]))[0].is_active is True
        assert not await store.set_client_key_active("nothing", active=True)
        assert not await store.set_friend_key_active("nothing", active=True)

    play(lab, scene)


def test_rotation_replaces_a_key_in_one_step(lab: Lab) -> None:
    new = make_client_key("key-2", key_hash=b"other", name="rotated")

    async def scene(store: Store) -> None:
        await store.add_client_key(make_client_key())
        await store.add_client_key(make_client_key("key-3"))
        for _ in range(2):
            await store.replace_client_key("key-1", new)
        assert await store.find_client_key("key-1") is None
        assert await store.find_client_key("key-2") == new
        with pytest.raises(NotFound):
            await store.replace_client_key("key-1", make_client_key("key-9"))
        with pytest.raises(InvalidRequest):
            await store.replace_client_key("key-3", new)

    play(lab, scene)


def test_a_plain_client_key_is_adopted_and_its_text_forgotten(lab: Lab) -> None:
    async def scene(store: Store) -> None:
        lab.put("user_keys", {"name": "ann", "key": MATERIAL.plain, "tier": "pro", "isActive": True})
        lab.put("user_keys", {"name": "bob", "key": "sk-troll-other", "tier": "dev", "isActive": True})
        assert await store.list_client_keys("ann") == []
        for _ in range(2):
            key = await store.adopt_client_key(MATERIAL)
            assert key is not None
            assert (key.key_id, key.key_hash, key.username, key.tier) == ("new-id", b"new-hash", "ann", "pro")
        assert await store.find_client_key("new-id") == key
        assert [row.get("key") for row in lab.rows("user_keys")] == [None, "sk-troll-other"]
        assert await store.adopt_client_key(ClientKeyMaterial(key_id="x", key_hash=b"x", plain="unknown")) is None
        assert await store.adopt_client_key(ClientKeyMaterial(key_id="new-id", key_hash=b"x", plain="unknown")) is None
        assert await store.adopt_client_key(ClientKeyMaterial(key_id="x", key_hash=b"x", plain="")) is None

    play(lab, scene)


def test_a_users_own_plain_key_becomes_a_client_key(lab: Lab) -> None:
    async def scene(store: Store) -> None:
        lab.put("usersNew", {"username": "ann", "role": "user", "isActive": True, "apiKey": MATERIAL.plain})
        for _ in range(2):
            key = await store.adopt_client_key(MATERIAL)
            assert key is not None
            assert (key.key_id, key.username, key.tier, key.is_active) == ("new-id", "ann", "dev", True)
        assert len(lab.rows("user_keys")) == 1
        assert lab.rows("usersNew")[0].get("apiKey") is None
        assert await balances(store) == (0, 0, 0)

    play(lab, scene)


def test_a_plain_friend_key_is_adopted_with_the_seeds_limits_in_dollars(lab: Lab) -> None:
    limits = {"gpt-5": {"enabled": True, "dailyLimit": 0.1}, "o3": {"enabled": False, "dailyLimit": 2}}

    async def scene(store: Store) -> None:
        row = {"ownerUsername": "ann", "name": "bob's", "key": MATERIAL.plain, "isActive": True}
        lab.put("friend_keys", row | {"modelLimits": limits})
        for _ in range(2):
            key = await store.adopt_friend_key(MATERIAL)
            assert key is not None
            assert (key.key_id, key.owner, key.name) == ("new-id", "ann", "bob's")
            assert key.model_limits["gpt-5"] == ModelLimit(enabled=True, daily_limit_nusd=100_000_000)
            assert key.model_limits["o3"] == ModelLimit(enabled=False, daily_limit_nusd=2_000_000_000)
        assert lab.rows("friend_keys")[0].get("key") is None
        assert await store.adopt_friend_key(ClientKeyMaterial(key_id="x", key_hash=b"x", plain="unknown")) is None
        assert await store.adopt_friend_key(ClientKeyMaterial(key_id="x", key_hash=b"x", plain="")) is None

    play(lab, scene)


def test_amounts_of_an_unmigrated_user_are_neither_read_nor_touched(lab: Lab) -> None:
    async def scene(store: Store) -> None:
        lab.put_unmigrated_user("old")
        before = lab.rows("usersNew")
        user = await read_user(store, "old")
        assert not user.is_migrated
        assert (user.credits_nusd, user.ref_credits_nusd, user.credits_new_nusd) == (0, 0, 0)
        await store.add_user(make_user())
        await store.write_batch(make_batch(make_charge(1, username="old"), make_charge(2)))
        credit = Credit(
            entry_id="c", username="old", wallet="legacy", kind="purchase", amount_nusd=1, created_at_s=AT_S
        )
        with pytest.raises(Forbidden) as caught:
            await store.apply_credit(credit)
        assert caught.value.code == "migration_required"
        assert lab.rows("usersNew")[:1] == before
        assert [(row["_id"], row["reason"]) for row in lab.rows("dead_letters")] == [("req-1", "unmigrated_user")]
        assert await balances(store) == (-100, 0, 0)

    play(lab, scene)


def test_a_user_marked_unmigrated_stays_so(lab: Lab) -> None:
    async def scene(store: Store) -> None:
        await store.add_user(make_user(is_migrated=False, credits_nusd=5))
        assert await read_user(store) == make_user(is_migrated=False)
        assert await store.sum_ledger("ann", "legacy") == 0

    play(lab, scene)


def test_ping_answers_and_a_store_can_be_opened_again(lab: Lab) -> None:
    async def scene(store: Store) -> None:
        await store.ping()
        await store.add_user(make_user())
        await store.close()
        for operation in (store.ping(), store.read_users(["ann"]), store.sum_ledger("ann", "new")):
            with pytest.raises(StoreUnavailable):
                await operation
        await store.open()
        await store.ping()
        assert await store.read_users(["ann"]) == [make_user()]

    play(lab, scene)


def test_the_loop_stays_free_while_the_store_works(lab: Lab) -> None:
    async def scene(store: Store) -> None:
        await store.add_user(make_user())
        work = [store.write_batch(make_batch(make_charge(seq), writer=f"w{seq}")) for seq in range(20)]
        await asyncio.gather(*work, store.ping(), store.read_users(["ann"]))
        assert await balances(store) == (-2000, 0, 0)

    play(lab, scene)


def test_a_locked_sqlite_file_is_an_outage_within_the_deadline(tmp_path: Path) -> None:
    async def scene() -> None:
        store, other = SqliteStore(tmp_path / "db"), SqliteStore(tmp_path / "db")
        await store.open()
        await other.open()
        assert other._writer is not None
        await other._writer.run(lambda db: db.execute("BEGIN IMMEDIATE").rowcount)
        began_s = time.monotonic()
        with pytest.raises(StoreUnavailable) as caught:
            await store.add_user(make_user())
        assert time.monotonic() - began_s < 6
        assert caught.value.__cause__ is not None
        assert await store.read_users(["ann"]) == []
        await other.close()
        await store.add_user(make_user())
        await store.close()

    run(scene())


def test_a_path_that_cannot_be_opened_is_an_outage(tmp_path: Path) -> None:
    (tmp_path / "db").mkdir()
    with pytest.raises(StoreUnavailable):
        run(SqliteStore(tmp_path / "db").open())


def test_a_killed_mongod_is_an_outage_within_the_deadline_and_comes_back() -> None:
    async def scene(server: Mongod) -> None:
        store = MongoStore(server.uri, "outage")
        await store.open()
        await store.add_user(make_user())
        server.kill()
        began_s = time.monotonic()
        outcomes = await asyncio.gather(
            store.ping(), store.read_users(["ann"]), store.write_batch(make_batch(make_charge(1))), MongoStore(
                server.uri
            ).open(), return_exceptions=True,
        )  # fmt: skip
        assert time.monotonic() - began_s < 6
        assert all(isinstance(outcome, StoreUnavailable) for outcome in outcomes)
        assert all(isinstance(outcome, Exception) and outcome.__cause__ is not None for outcome in outcomes)
        server.restart()
        await store.write_batch(make_batch(make_charge(1)))
        assert await balances(store) == (-100, 0, 0)
        await store.close()

    with Mongod() as server:
        run(scene(server))


def test_seeds_doubles_of_a_friend_key_are_counted_on_from(mongo_lab: MongoLab) -> None:
    async def scene(store: Store) -> None:
        mongo_lab.put("friend_keys", {"ownerUsername": "ann", "key": MATERIAL.plain, "totalSpent": 1.5})
        await store.add_user(make_user())
        key = await store.adopt_friend_key(MATERIAL)
        assert key is not None
        assert key.total_spent_nusd == 1_500_000_000
        await store.write_batch(make_batch(make_charge(1, friend_key_id="new-id")))
        assert (await store.read_friend_keys(["new-id"]))[0].total_spent_nusd == 1_500_000_100

    play(mongo_lab, scene)
