"""Many requests at once on one balance: what is spent never passes what there is, and nobody is charged unserved.

A request to the model `dime` holds exactly ten cents and costs exactly that: input is free, and each of its ten tokens
of output costs a cent. So a balance of five dollars is fifty answers, whoever comes first.
"""

import asyncio
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import aiohttp
import msgspec
import pytest

from tests.aio import run
from tests.e2e.books import Page
from tests.e2e.process import GatewayProcess
from tests.e2e.talk import DIALECTS, Dialect
from trollproxy.app import build_office, build_pepper, build_store, open_data_dir
from trollproxy.config import load
from trollproxy.control.accounts import AccountOffice
from trollproxy.control.audit import audit
from trollproxy.policy.limits import utc_day
from trollproxy.records import NUSD_PER_USD, ModelLimit

DIME_NUSD = NUSD_PER_USD // 10
CAP_NUSD = 5 * NUSD_PER_USD
ANSWERS = CAP_NUSD // DIME_NUSD
CROWD = 1000
FRIENDS_CROWD, FRIENDS_ANSWERS = 200, 12
ASK = "#demo tokens=10 delay_ms=20"
# The demo provider is the gateway's own; ten tokens at $10,000 a million are ten cents.
CONFIG = {
    "models": [{"id": "dime", "upstream": "demo", "upstreamModel": "demo", "pricing": {"input": 0, "output": 10_000}}],
    "limits": {"devRpm": 1_000_000, "proRpm": 1_000_000},
}


class Told(msgspec.Struct, frozen=True):
    """What a caller was answered."""

    status: int
    request_id: str
    code: str


@pytest.fixture
def gateway(tmp_path: Path) -> Iterator[GatewayProcess]:
    with GatewayProcess(tmp_path, config=CONFIG) as running:
        yield running


async def ask_for_a_dime(session: aiohttp.ClientSession, url: str, key: str, *, number: int) -> Told:
    dialect: Dialect = DIALECTS[number % 2]
    body = dialect.ask(ASK, model="dime", max_tokens=10, stream=number % 4 < 2)
    async with session.post(url + dialect.path, json=body, headers=dialect.authorize(key)) as reply:
        data = await reply.read()
        request_id = reply.headers[dialect.request_id]
        return Told(reply.status, request_id, "" if reply.status == 200 else code_of(data))


def code_of(data: bytes) -> str:
    error: dict[str, Any] = msgspec.json.decode(data)["error"]
    return str(error.get("code") or error["type"])


def rush(gateway: GatewayProcess, keys: list[str], count: int) -> list[Told]:
    """So many requests at the same time, the keys in turn."""

    async def all_at_once() -> list[Told]:
        timeout = aiohttp.ClientTimeout(total=50)
        async with aiohttp.ClientSession(connector=aiohttp.TCPConnector(limit=0), timeout=timeout) as session:
            asked = (ask_for_a_dime(session, gateway.url, keys[n % len(keys)], number=n) for n in range(count))
            return await asyncio.gather(*asked)

    return run(all_at_once())


def check(gateway: GatewayProcess, told: list[Told], *, answers: int) -> Page:
    """As many answers as there was money, a row for each of them and for nobody else, and nothing held."""
    gateway.settle()
    page = gateway.books.read()
    served = [one.request_id for one in told if one.status == 200]
    refused = [one for one in told if one.status != 200]
    assert len(served) == answers
    assert {one.status for one in refused} == {402}
    assert sorted(page.charges) == sorted(served)
    assert {charge.cost_nusd for charge in page.charges.values()} == {DIME_NUSD}
    used = [entry for entry in page.ledger.values() if entry.kind == "usage"]
    assert sum(entry.amount_nusd for entry in used) == -answers * DIME_NUSD
    assert min(page.balances.values()) >= 0
    assert gateway.metrics()["trollproxy_held_usd"] == 0
    assert run(differences(gateway)) == ()
    return page


async def differences(gateway: GatewayProcess) -> tuple[object, ...]:
    store = build_store(settings := settings_of(gateway), open_data_dir(settings))
    await store.open()
    try:
        return (await audit(store)).differences
    finally:
        await store.close()


def settings_of(gateway: GatewayProcess) -> Any:
    return load(str(gateway.config_path), {}, {"data_dir": str(gateway.data_dir)})


async def issue(gateway: GatewayProcess, owner: str, *, keys: int, limits: list[int]) -> list[str]:
    """Keys of a new user with five dollars, then a friend key for each daily limit, made beside the running gateway."""
    settings = settings_of(gateway)
    data_dir = open_data_dir(settings)
    store = build_store(settings, data_dir)
    await store.open()
    try:
        office: AccountOffice = build_office(store, build_pepper(settings, data_dir))
        await office.open_account(owner)
        await office.credit(owner, CAP_NUSD, wallet="legacy", kind="purchase")
        made = [await office.issue_key(owner) for _ in range(keys)]
        for limit in limits:
            opened = {"dime": ModelLimit(daily_limit_nusd=limit)}
            made.append(await office.issue_friend_key(owner, name="friend", model_limits=opened))
        return [one.secret for one in made]
    finally:
        await store.close()


def test_a_thousand_requests_of_one_key(gateway: GatewayProcess) -> None:
    told = rush(gateway, [gateway.key], CROWD)
    page = check(gateway, told, answers=ANSWERS)
    assert page.balances["admin"] == 0
    assert rush(gateway, [gateway.key], 1)[0].status == 402


def test_twenty_keys_and_friends_of_one_user(gateway: GatewayProcess) -> None:
    keys = run(issue(gateway, "rich", keys=20, limits=[CAP_NUSD] * 5))
    told = rush(gateway, keys, CROWD)
    page = check(gateway, told, answers=ANSWERS)
    assert page.balances == {"rich": 0, "admin": CAP_NUSD}


def test_a_friends_daily_limit(gateway: GatewayProcess) -> None:
    """Less than the owner has, and not a whole number of dimes: what is left over is not enough for another."""
    limit = FRIENDS_ANSWERS * DIME_NUSD + DIME_NUSD // 2
    (key,) = run(issue(gateway, "rich", keys=0, limits=[limit]))
    told = rush(gateway, [key], FRIENDS_CROWD)
    page = check(gateway, told, answers=FRIENDS_ANSWERS)
    assert {charge.friend_key_id is not None for charge in page.charges.values()} == {True}
    assert {charge.day for charge in page.charges.values()} == {
        utc_day(min(c.started_at_s for c in page.charges.values()))
    }
    assert page.balances["rich"] == CAP_NUSD - FRIENDS_ANSWERS * DIME_NUSD
