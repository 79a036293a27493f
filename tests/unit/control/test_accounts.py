"""Accounts and keys: what is created can be used, secrets are told once, what is wrong is refused."""

import os

import msgspec
import pytest

from tests.aio import run
from tests.fakes import NOON_S, FakeStore
from trollproxy.control.accounts import MAX_USERNAME, AccountOffice
from trollproxy.errors import InvalidRequest, NotFound
from trollproxy.policy.keys import is_friend, is_proven, read_key
from trollproxy.records import ModelLimit

PEPPER = b"pepper"


def open_office() -> tuple[FakeStore, AccountOffice]:
    store = FakeStore()
    return store, AccountOffice(store, pepper=PEPPER, random_bytes=os.urandom, wall=lambda: NOON_S)


@pytest.mark.parametrize("name", ["a", "ann.b_c-d@e+f", "A" * MAX_USERNAME, "0"])
def test_an_account_is_opened_once(name: str) -> None:
    async def scene() -> None:
        store, office = open_office()
        user = await office.open_account(name, role="admin", password_hash="h")
        assert store.users[name] == user
        assert (user.role, user.created_at_s, user.credits_nusd) == ("admin", NOON_S, 0)
        with pytest.raises(InvalidRequest) as caught:
            await office.open_account(name)
        assert caught.value.code == "already_exists"

    run(scene())


@pytest.mark.parametrize("name", ["", "a" * (MAX_USERNAME + 1), "a b", "a\n", "ä", "$where", "a/b", "a\x00"])
def test_a_name_that_is_none(name: str) -> None:
    async def scene() -> None:
        store, office = open_office()
        with pytest.raises(InvalidRequest):
            await office.open_account(name)
        assert store.users == {}

    run(scene())


def test_an_issued_key_proves_itself_and_its_secret_is_not_kept() -> None:
    async def scene() -> None:
        store, office = open_office()
        await office.open_account("ann")
        minted = await office.issue_key("ann", name="laptop", tier="pro", expires_at_s=5.0)
        key = store.client_keys[minted.key_id]
        assert is_proven(read_key(minted.secret, PEPPER), key.key_hash)
        assert (key.username, key.name, key.tier, key.expires_at_s, key.is_active) == (
            "ann",
            "laptop",
            "pro",
            5.0,
            True,
        )
        assert minted.secret.split("-")[3] not in repr(key)

    run(scene())


def test_a_friend_key_is_one() -> None:
    async def scene() -> None:
        store, office = open_office()
        await office.open_account("ann")
        limits = {"m": ModelLimit(daily_limit_nusd=5)}
        minted = await office.issue_friend_key("ann", name="bob", model_limits=limits)
        key = store.friend_keys[minted.key_id]
        assert is_friend(minted.secret)
        assert is_proven(read_key(minted.secret, PEPPER), key.key_hash)
        assert (key.owner, key.name, key.model_limits) == ("ann", "bob", limits)

    run(scene())


def test_nobody_has_no_keys() -> None:
    async def scene() -> None:
        _, office = open_office()
        with pytest.raises(NotFound):
            await office.issue_key("ann")
        with pytest.raises(NotFound):
            await office.issue_friend_key("ann", name="", model_limits={})
        for change in (office.rotate_key, office.revoke):
            with pytest.raises(NotFound):
                await change("nothing")

    run(scene())


def test_a_rotated_key_keeps_all_but_its_secret() -> None:
    async def scene() -> None:
        store, office = open_office()
        await office.open_account("ann")
        old = await office.issue_key("ann", name="laptop", tier="pro", expires_at_s=5.0)
        before = store.client_keys[old.key_id]
        new = await office.rotate_key(old.key_id)
        after = store.client_keys[new.key_id]
        assert old.key_id not in store.client_keys
        assert new.secret != old.secret
        same = msgspec.structs.replace(after, key_id=before.key_id, key_hash=before.key_hash)
        assert same == before

    run(scene())


def test_a_revoked_key_is_not_active() -> None:
    async def scene() -> None:
        store, office = open_office()
        await office.open_account("ann")
        client, friend = await office.issue_key("ann"), await office.issue_friend_key("ann", name="", model_limits={})
        await office.revoke(client.key_id)
        await office.revoke(friend.key_id)
        assert not store.client_keys[client.key_id].is_active
        assert not store.friend_keys[friend.key_id].is_active

    run(scene())


def test_credit_arrives_with_its_reason() -> None:
    async def scene() -> None:
        store, office = open_office()
        await office.open_account("ann")
        first = await office.credit("ann", 5, wallet="legacy", kind="purchase", note="card")
        second = await office.credit("ann", 7, wallet="new", kind="promotional")
        assert first.entry_id != second.entry_id
        assert (store.users["ann"].credits_nusd, store.users["ann"].credits_new_nusd) == (5, 7)
        assert store.credits[first.entry_id].note == "card"
        with pytest.raises(NotFound):
            await office.credit("bob", 5, wallet="legacy", kind="refund")

    run(scene())
