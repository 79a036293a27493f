"""The first start: an empty store is set up and told once; any other is left alone."""

import os

from tests.aio import run
from tests.fakes import NOON_S, FakeStore
from trollproxy.control.accounts import AccountOffice
from trollproxy.control.first_start import ADMIN, DEMO_CREDIT_NUSD, Welcome, greeting, welcome
from trollproxy.control.passwords import is_password
from trollproxy.policy.keys import is_proven, read_key
from trollproxy.records import User, Wallet

PEPPER = b"pepper"


async def start(store: FakeStore, *wallets: Wallet) -> Welcome | None:
    office = AccountOffice(store, pepper=PEPPER, random_bytes=os.urandom, wall=lambda: NOON_S)
    return await welcome(store, office, wallets=wallets, random_bytes=os.urandom)


def test_an_empty_store_is_set_up() -> None:
    async def scene() -> None:
        store = FakeStore()
        found = await start(store, "legacy", "new")
        assert found is not None
        admin = store.users[ADMIN]
        assert (admin.role, admin.credits_nusd, admin.credits_new_nusd) == ("admin", DEMO_CREDIT_NUSD, DEMO_CREDIT_NUSD)
        assert admin.ref_credits_nusd == 0
        assert admin.password_hash is not None
        assert is_password(admin.password_hash, found.password)
        assert found.password not in admin.password_hash
        [key] = store.client_keys.values()
        assert is_proven(read_key(found.secret, PEPPER), key.key_hash)
        assert await start(store, "legacy") is None
        assert len(store.client_keys) == 1

    run(scene())


def test_only_the_wallets_that_are_served_get_credit() -> None:
    async def scene() -> None:
        store = FakeStore()
        await start(store, "new")
        assert (store.users[ADMIN].credits_nusd, store.users[ADMIN].credits_new_nusd) == (0, DEMO_CREDIT_NUSD)

    run(scene())


def test_a_store_with_users_is_left_alone() -> None:
    async def scene() -> None:
        store = FakeStore()
        store.users["ann"] = User(username="ann")
        assert await start(store, "legacy") is None
        assert list(store.users) == ["ann"]
        assert store.client_keys == {}

    run(scene())


def test_the_greeting_can_be_pasted() -> None:
    text = greeting(Welcome("admin", "pw", "sk-troll-x"), url="http://localhost:1", model="demo")
    assert "admin / pw" in text
    assert "Bearer sk-troll-x" in text
    assert text.count("http://localhost:1/v1/") == 2
    assert '"model":"demo"' in text
