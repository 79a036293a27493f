"""Users, keys and credit from the command line, directly on the store; a running gateway sees it at its next reload."""

import argparse
import asyncio
import secrets
from collections.abc import Awaitable, Callable
from datetime import UTC, datetime
from decimal import Decimal, InvalidOperation

import uvloop

from trollproxy.app import build_office, build_pepper, build_store, open_data_dir
from trollproxy.config import Settings
from trollproxy.control.accounts import AccountOffice, Minted
from trollproxy.control.audit import ChargeAudit, audit
from trollproxy.control.passwords import hash_password
from trollproxy.errors import GatewayError
from trollproxy.policy.pricing import usd
from trollproxy.ports import Store
from trollproxy.records import NUSD_PER_USD, ModelLimit

Action = Callable[[Store, AccountOffice, argparse.Namespace], Awaitable[None]]
ReadSettings = Callable[[argparse.Namespace], Settings]
Add = Callable[..., argparse.ArgumentParser]

_SECONDS_PER_DAY = 86_400


def add_commands(commands: object, add: Add, read_settings: ReadSettings) -> None:
    """Every command of this file, with its arguments."""

    def command(name: str, action: Action, help_text: str) -> argparse.ArgumentParser:
        return add(commands, name, lambda options: _run(action, options, read_settings), help_text=help_text)

    command("users", list_users, "list the users and their balances")
    user = command("user-add", add_user, "open an account")
    user.add_argument("username")
    user.add_argument("--admin", action="store_true", help="make an administrator; prints a password")
    credit = command("user-credit", credit_user, "put credit into a wallet, or take it out (negative amount)")
    credit.add_argument("username")
    credit.add_argument("amount", type=_amount, help="in US dollars, e.g. 12.50")
    credit.add_argument("--wallet", choices=("legacy", "new"), required=True)
    credit.add_argument("--kind", choices=("purchase", "refund", "promotional"), default="purchase")
    credit.add_argument("--note", default="")
    keys = command("keys", list_keys, "list a user's keys")
    keys.add_argument("username")
    key = command("key-add", add_key, "issue a client key; prints it once")
    key.add_argument("username")
    key.add_argument("--name", default="")
    key.add_argument("--tier", choices=("dev", "pro"), default="dev")
    key.add_argument("--days", type=float, help="days until it expires; default: never")
    friend = command("friend-key-add", add_friend_key, "issue a friend key; prints it once")
    friend.add_argument("username", help="the owner, who pays")
    friend.add_argument("--name", default="")
    friend.add_argument("--model", action="append", required=True, type=_model_limit, help="MODEL or MODEL=USD-A-DAY")
    rotate = command("key-rotate", rotate_key, "replace a client key's secret; the old one stops at once")
    rotate.add_argument("key_id")
    revoke = command("key-revoke", revoke_key, "revoke a client or friend key")
    revoke.add_argument("key_id")
    command("audit", audit_books, "recompute every balance and every charge, and name any difference")


async def list_users(store: Store, _office: AccountOffice, _options: argparse.Namespace) -> None:
    after = ""
    while users := await store.list_users(after=after):
        for user in users:
            balances = f"credits {usd(user.credits_nusd)}  ref {usd(user.ref_credits_nusd)}"
            state = "active" if user.is_active else "disabled"
            print(f"{user.username:24} {user.role:6} {state:9} {balances}  new {usd(user.credits_new_nusd)}")
        after = users[-1].username


async def add_user(_store: Store, office: AccountOffice, options: argparse.Namespace) -> None:
    password = secrets.token_urlsafe(15)
    password_hash = await asyncio.to_thread(hash_password, password)
    await office.open_account(options.username, role="admin" if options.admin else "user", password_hash=password_hash)
    print(f"Opened {options.username}. Password, shown once: {password}")


async def credit_user(store: Store, office: AccountOffice, options: argparse.Namespace) -> None:
    credit = await office.credit(
        options.username, options.amount, wallet=options.wallet, kind=options.kind, note=options.note
    )
    [user] = await store.read_users([options.username])
    print(f"{credit.entry_id}: {usd(credit.amount_nusd)} to {options.username}'s {options.wallet} wallet.")
    print(f"credits {usd(user.credits_nusd)}  ref {usd(user.ref_credits_nusd)}  new {usd(user.credits_new_nusd)}")


async def list_keys(store: Store, _office: AccountOffice, options: argparse.Namespace) -> None:
    for key in await store.list_client_keys(options.username):
        print(f"{key.key_id:34} {key.tier:6} {_state(is_active=key.is_active)} {_used(key.last_used_at_s)} {key.name}")
    for friend in await store.list_friend_keys(options.username):
        models = ", ".join(friend.model_limits)
        print(f"{friend.key_id:34} friend {_state(is_active=friend.is_active)} {_used(friend.last_used_at_s)} {models}")


async def add_key(_store: Store, office: AccountOffice, options: argparse.Namespace) -> None:
    expires = None if options.days is None else datetime.now(UTC).timestamp() + options.days * _SECONDS_PER_DAY
    _show(await office.issue_key(options.username, name=options.name, tier=options.tier, expires_at_s=expires))


async def add_friend_key(_store: Store, office: AccountOffice, options: argparse.Namespace) -> None:
    _show(await office.issue_friend_key(options.username, name=options.name, model_limits=dict(options.model)))


async def rotate_key(_store: Store, office: AccountOffice, options: argparse.Namespace) -> None:
    _show(await office.rotate_key(options.key_id))


async def revoke_key(_store: Store, office: AccountOffice, options: argparse.Namespace) -> None:
    await office.revoke(options.key_id)
    print(f"Revoked {options.key_id}.")


async def audit_books(store: Store, _office: AccountOffice, _options: argparse.Namespace) -> None:
    found = await audit(store)
    for difference in found.differences:
        print(
            f"{difference.username} {difference.wallet}: balance {usd(difference.balance_nusd)}, "
            f"ledger {usd(difference.ledger_nusd)}, difference {usd(difference.drift_nusd)}"
        )
    charges, mispriced = await _audit_charges(store)
    if found.restless:
        print(f"{found.restless} balances moved whenever they were looked at; audit again when it is quieter.")
    if found.differences or mispriced:
        told = f"{len(found.differences)} balances differ from the ledger, {mispriced} charges from their prices."
        raise GatewayError(told, code="billing_drift")
    print(f"{found.users} users, {usd(found.balance_nusd)} in all: every balance is what its ledger entries say.")
    print(f"{charges} charges: each costs what its tokens come to at its price.")


async def _audit_charges(store: Store) -> tuple[int, int]:
    """How many charges there are, and how many are not what they say; each of these is printed as it is found."""
    books, mispriced = ChargeAudit(store), 0
    async for found in books.mispriced():
        charge, mispriced = found.charge, mispriced + 1
        what = f"costs {usd(charge.cost_nusd)}"
        if found.expected_nusd is None:
            why = f"and its price version {charge.price_version} is unknown"
        else:
            why = f"its tokens come to {usd(found.expected_nusd)}"
        print(f"{charge.request_id} {charge.username}: {what}, {why}")
    return books.count, mispriced


def _run(action: Action, options: argparse.Namespace, read_settings: ReadSettings) -> int:
    settings = read_settings(options)

    async def act() -> None:
        data_dir = open_data_dir(settings)
        store = build_store(settings, data_dir)
        await store.open()
        try:
            await action(store, build_office(store, build_pepper(settings, data_dir)), options)
        finally:
            await store.close()

    uvloop.run(act())
    return 0


def _show(minted: Minted) -> None:
    print(f"{minted.secret}\nShown once. Its id is {minted.key_id}.")


def _state(*, is_active: bool) -> str:
    return "active " if is_active else "revoked"


def _used(at_s: float | None) -> str:
    return "never used      " if at_s is None else datetime.fromtimestamp(at_s, UTC).strftime("%Y-%m-%d %H:%M")


def _amount(text: str) -> int:
    """Dollars as nano-dollars, exactly."""
    try:
        scaled = Decimal(text) * NUSD_PER_USD
    except InvalidOperation as error:
        raise argparse.ArgumentTypeError(f"{text!r} is not an amount") from error
    if not scaled.is_finite() or scaled != scaled.to_integral_value():
        raise argparse.ArgumentTypeError("an amount has at most 9 decimals")
    return int(scaled)


def _model_limit(text: str) -> tuple[str, ModelLimit]:
    model, _, limit = text.partition("=")
    if not model:
        raise argparse.ArgumentTypeError("name a model")
    return model, ModelLimit(daily_limit_nusd=_amount(limit) if limit else None)
