"""Ending a gateway as kill -9 does, in this process; and the requests that the money tests make."""

import asyncio
import os

from tests.faults.model import Running
from trollproxy.app import Gateway
from trollproxy.chat import Usage
from trollproxy.records import Intent, Price

NOON_S = 1_760_011_200.0
MODEL, FRIEND = "m.$1", "fk-1"
PRICE = Price(version="v1", per_mtok_nusd=dict.fromkeys(Usage.__struct_fields__, 1_000_000))  # a token, a nano-dollar


async def crash(gateway: Gateway, torn: bytes) -> None:
    """As kill -9 leaves it: nothing is synced, acknowledged or closed by our own code, an append may be half done."""
    for task in gateway._tasks:
        task.cancel()
    await asyncio.gather(*gateway._tasks, return_exceptions=True)
    journal = gateway.journal
    active = journal._active
    if active is not None and torn:
        os.write(active.file, torn)
    assert journal._executor is not None
    journal._executor.shutdown()
    for part in journal._writable():
        os.close(part.file)
    journal._close_reader()
    journal._folder.close()
    gateway.data_dir.unlock()


def intent_of(request_id: str, run: Running) -> Intent:
    username, wallet = run.account
    return Intent(
        request_id=request_id,
        username=username,
        key_id="key-1",
        friend_key_id=FRIEND if run.is_friends else None,
        wallet=wallet,
        format="openai_chat",
        model=MODEL,
        upstream_model=MODEL,
        provider="acme",
        stream=True,
        price=PRICE,
        upstream_price=None,
        input_bytes=run.input_bytes,
        hold_nusd=run.hold_nusd,
        day=run.day,
        started_at_s=NOON_S,
    )
