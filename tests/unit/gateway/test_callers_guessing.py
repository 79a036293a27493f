"""How often the store is asked, and what somebody without a key can and cannot do."""

import asyncio

import pytest

from tests.unit.gateway.desk import FRIEND, KEY, PEPPER, Desk, mint_key, play, respelt, with_secret
from trollproxy.errors import RateLimited
from trollproxy.gateway import callers as module
from trollproxy.policy.keys import read_key


def test_an_unknown_key_is_looked_up_once() -> None:
    async def scene(desk: Desk) -> None:
        assert [await desk.code() for _ in range(3)] == ["invalid_key"] * 3
        assert desk.store.calls["find_client_key"] == 1
        desk.clock.advance(module.UNKNOWN_TTL_S + 61)
        desk.add()
        assert await desk.code() == "ok"

    play(scene)


def test_what_is_remembered_of_unknown_keys_is_bounded(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "MAX_UNKNOWN", 3)

    async def scene(desk: Desk) -> None:
        for number in range(10, 20):
            assert await desk.code(mint_key(number)) == "invalid_key"
        assert len(desk.callers._unknown) == 3
        assert await desk.code(mint_key(19)) == "invalid_key"
        assert desk.store.calls["find_client_key"] == 10

    play(scene, failed_per_minute=100)


def test_a_mistyped_key_costs_no_look_up() -> None:
    async def scene(desk: Desk) -> None:
        assert await desk.code(KEY[:-1] + "0") == "invalid_key"
        assert await desk.code("garbage") == "invalid_key"
        assert not desk.store.calls

    play(scene)


def test_parallel_first_requests_do_one_look_up() -> None:
    async def scene(desk: Desk) -> None:
        desk.add()
        found = await asyncio.gather(*(desk.enter() for _ in range(100)))
        assert len(set(map(id, found))) == 1
        assert desk.store.calls["find_client_key"] == desk.store.calls["read_users"] == 1

    play(scene)


def test_one_that_hangs_up_does_not_end_the_look_up_for_the_others() -> None:
    async def scene(desk: Desk) -> None:
        desk.add()
        first, second = asyncio.create_task(desk.enter()), asyncio.create_task(desk.enter())
        await asyncio.sleep(0)
        first.cancel()
        assert (await second).key is not None
        assert desk.store.calls["find_client_key"] == 1

    play(scene)


def test_guessing_is_limited_by_address_and_known_keys_pass() -> None:
    async def scene(desk: Desk) -> None:
        desk.add()
        assert await desk.code() == "ok"
        guesses = [await desk.code(mint_key(number)) for number in range(10, 15)]
        assert guesses == ["invalid_key"] * 3 + ["too_many_failures"] * 2
        assert await desk.code() == "ok"
        assert await desk.code(mint_key(20), peer="2.2.2.2") == "invalid_key"
        with pytest.raises(RateLimited) as caught:
            await desk.enter(mint_key(21))
        assert caught.value.retry_after_s is not None
        desk.clock.advance(60)
        assert await desk.code(mint_key(22)) == "invalid_key"

    play(scene)


def test_a_wrong_secret_for_a_known_id_is_refused_and_takes_nobodys_place() -> None:
    async def scene(desk: Desk) -> None:
        desk.add()
        wrong = with_secret(KEY, 7)
        assert read_key(wrong, PEPPER).key_id == read_key(KEY, PEPPER).key_id
        assert await desk.code(wrong) == "invalid_key"
        assert len(desk.callers) == 0
        assert await desk.code() == "ok"
        assert await desk.code(wrong) == "invalid_key"
        assert len(desk.callers) == 1

    play(scene)


def test_a_wrong_secret_at_the_same_time_does_not_keep_the_right_one_out_of_memory() -> None:
    """Else each request has a friend's day of its own, and the daily limit binds nobody."""

    async def scene(desk: Desk) -> None:
        desk.add_friend()
        _, right = await asyncio.gather(desk.code(with_secret(FRIEND, 7)), desk.enter(FRIEND))
        assert await desk.enter(FRIEND) is right

    play(scene)


def test_a_friends_spelling_of_a_clients_id_locks_nobody_out() -> None:
    async def scene(desk: Desk) -> None:
        desk.add()
        as_friend = respelt("fk-troll-" + "-".join(KEY.split("-")[2:4]))
        assert await desk.code(as_friend, peer="6.6.6.6") == "invalid_key"
        assert await desk.code() == "ok"

    play(scene)


def test_memory_is_bounded(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "MAX_ENTRIES", 2)

    async def scene(desk: Desk) -> None:
        for number in range(3, 8):
            desk.add(mint_key(number))
            assert await desk.code(mint_key(number)) == "ok"
        assert len(desk.callers) == 2
        assert await desk.code(mint_key(3)) == "ok"

    play(scene)


@pytest.mark.parametrize("credential", ["sk-\udcff", "sk-é", "\udcff", "sk-" + "x" * 5_000])
def test_bytes_that_are_no_key_are_refused_beside_an_environment_key(credential: str) -> None:
    """A header's bytes that are not UTF-8 arrive as lone surrogates."""

    async def scene(desk: Desk) -> None:
        assert await desk.code(credential) == "invalid_key"

    play(scene)
