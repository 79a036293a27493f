"""The first start of an empty gateway: an administrator, a client key with credit to try it, told once."""

import asyncio
import base64
from collections.abc import Callable

import msgspec

from trollproxy.control.accounts import AccountOffice
from trollproxy.control.passwords import hash_password
from trollproxy.ports import Store
from trollproxy.records import NUSD_PER_USD, Wallet

ADMIN = "admin"
DEMO_CREDIT_NUSD = 5 * NUSD_PER_USD


class Welcome(msgspec.Struct, frozen=True):
    """What the operator must be told, since it cannot be read again."""

    username: str
    password: str
    secret: str


async def welcome(
    store: Store, office: AccountOffice, *, wallets: tuple[Wallet, ...], random_bytes: Callable[[int], bytes]
) -> Welcome | None:
    """Set up an empty store; None where there are users already."""
    if await store.list_users(limit=1):
        return None
    password = base64.b32encode(random_bytes(15)).decode().lower()
    password_hash = await asyncio.to_thread(hash_password, password)
    await office.open_account(ADMIN, role="admin", password_hash=password_hash)
    for wallet in wallets:
        # promotional credit of the legacy wallet would go to refCredits, which lift limits; the demo shall not
        await office.credit(ADMIN, DEMO_CREDIT_NUSD, wallet=wallet, kind="purchase", note="demo credit")
    minted = await office.issue_key(ADMIN, name="first key", tier="pro")
    return Welcome(ADMIN, password, minted.secret)


def greeting(found: Welcome, *, url: str, model: str) -> str:
    """The lines printed once: the secrets, and what to paste."""
    return f"""
First start. These are shown once and stored only as hashes:
  admin login    {found.username} / {found.password}
  client key     {found.secret}

Paste to see a billed answer:
  curl {url}/v1/chat/completions -H 'Authorization: Bearer {found.secret}' -H 'Content-Type: application/json' \
-d '{{"model":"{model}","messages":[{{"role":"user","content":"Hello"}}]}}'
  curl -N {url}/v1/messages -H 'x-api-key: {found.secret}' -H 'Content-Type: application/json' \
-d '{{"model":"{model}","max_tokens":200,"stream":true,"messages":[{{"role":"user","content":"Hello"}}]}}'
  curl {url}/metrics
"""
