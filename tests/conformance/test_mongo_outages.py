"""What MongoDB alone must be careful with: adoptions cut short, a server that shuts down, and the driver's own log."""

import asyncio
import logging
import time
from typing import Any

import pytest
from pymongo.errors import AutoReconnect

from tests.conformance.store_lab import MongoLab, make_user, play
from trollproxy.errors import StoreUnavailable
from trollproxy.ports import Store
from trollproxy.records import ClientKeyMaterial
from trollproxy.store.mongo import HEARTBEAT_MS, MongoStore
from trollproxy.store.mongo_quiet import quieten_driver

MATERIAL = ClientKeyMaterial(key_id="new-id", key_hash=b"new-hash", plain="sk-troll-plain")
SEEDS_USER = {"username": "ann", "role": "user", "isActive": True, "apiKey": MATERIAL.plain}


class Crash(Exception):
    """The process is gone."""


class Dying:
    """A database whose updates past the first `left` do not happen, because the process has ended."""

    def __init__(self, database: Any, left: int) -> None:
        self.left = left
        self._database = database

    def __getitem__(self, name: str) -> "DyingCollection":
        return DyingCollection(self, self._database[name])


class DyingCollection:
    def __init__(self, database: Dying, collection: Any) -> None:
        self._of, self._collection = database, collection

    def __getattr__(self, name: str) -> Any:
        return getattr(self._collection, name)

    async def update_one(self, *args: Any, **more: Any) -> Any:
        if self._of.left == 0:
            raise Crash
        self._of.left -= 1
        return await self._collection.update_one(*args, **more)


@pytest.mark.parametrize("writes", range(4))
@pytest.mark.parametrize("then", ["boots", "asks"])
def test_an_adoption_cut_short_leaves_no_plain_text_and_loses_no_key(
    mongo_lab: MongoLab, writes: int, then: str
) -> None:
    def plain_texts() -> list[Any]:
        return [row["apiKey"] for row in mongo_lab.rows("usersNew") if "apiKey" in row]

    async def crash(store: Store) -> None:
        assert isinstance(store, MongoStore)
        mongo_lab.put("usersNew", SEEDS_USER)
        whole, store._open_database = store._open_database, Dying(store._open_database, writes)
        try:
            await store.adopt_client_key(MATERIAL)
        except Crash:
            assert writes < 3
        store._open_database = whole

    async def later(store: Store) -> None:
        found = await store.find_client_key("new-id")
        if then == "asks" or writes == 0:
            found = found or await store.adopt_client_key(MATERIAL)
        assert found is not None
        assert (found.username, found.key_hash) == ("ann", b"new-hash")
        assert plain_texts() == []
        assert not any("adopting" in row for row in mongo_lab.rows("usersNew"))
        assert len(mongo_lab.rows("user_keys")) == 1

    play(mongo_lab, crash)
    assert plain_texts() == ([MATERIAL.plain] if writes == 0 else [])
    play(mongo_lab, later)


def test_an_id_that_is_anothers_is_not_taken_over(mongo_lab: MongoLab) -> None:
    async def scene(store: Store) -> None:
        mongo_lab.put("usersNew", SEEDS_USER)
        mongo_lab.put("user_keys", {"keyId": "new-id", "keyHash": b"another", "name": "bob"})
        assert await store.adopt_client_key(MATERIAL) is None
        found = await store.find_client_key("new-id")
        assert found is not None
        assert found.username == "bob"

    play(mongo_lab, scene)


def test_a_server_that_shuts_down_is_asked_again_within_the_deadline(mongo_lab: MongoLab) -> None:
    async def scene(store: Store) -> None:
        await store.add_user(make_user())
        fault = {"failCommands": ["update"], "errorCode": 91}
        mongo_lab.client.admin.command("configureFailPoint", "failCommand", mode={"times": 2}, data=fault)
        try:
            began_s = time.monotonic()
            while time.monotonic() - began_s < 10:
                try:
                    await store.ping()
                    break
                except StoreUnavailable:
                    await asyncio.sleep(0.05)
            assert time.monotonic() - began_s < 3
        finally:
            mongo_lab.client.admin.command("configureFailPoint", "failCommand", mode="off")

    assert 500 <= HEARTBEAT_MS <= 1000  # the driver takes no less
    play(mongo_lab, scene)


def test_the_drivers_traceback_of_an_outage_is_one_line_and_a_bugs_stays(caplog: pytest.LogCaptureFixture) -> None:
    for _ in range(2):
        quieten_driver()
    for error in (AutoReconnect("gone"), TypeError("a bug")):
        try:
            raise error
        except type(error):
            logging.getLogger("pymongo.client").exception("MongoClient background task encountered an error:")
    outage, bug = caplog.records
    assert (outage.getMessage(), outage.levelname) == ("the MongoDB driver met an outage", "WARNING")
    assert (outage.exc_info, outage.fields) == (None, {"reason": "AutoReconnect"})  # type: ignore[attr-defined]
    assert bug.exc_info is not None
    assert bug.levelname == "ERROR"
