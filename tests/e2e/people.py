"""Accounts and keys in every state that a caller can be in, made with the commands an administrator has."""

import re
from concurrent.futures import ThreadPoolExecutor

import msgspec

from tests.e2e.process import GatewayProcess


class People(msgspec.Struct, frozen=True, kw_only=True):
    """Keys by the state that they or their account are in."""

    keys: dict[str, str]
    key_ids: dict[str, str]


def issue(gateway: GatewayProcess, *arguments: str) -> tuple[str, str]:
    """The secret and the public id of a key that a command has made."""
    found = re.fullmatch(r"(\S+)\nShown once\. Its id is (\S+)\.\n", gateway.command(*arguments))
    assert found is not None
    return found[1], found[2]


def settle_in(gateway: GatewayProcess) -> People:
    """One account for every state; the administrator of the first start owns the friend keys."""
    wanted = {
        "busy": ("key-add", "busy"),
        "poor": ("key-add", "poor", "--tier", "pro"),
        "unmigrated": ("key-add", "unmigrated", "--tier", "pro"),
        "disabled": ("key-add", "disabled", "--tier", "pro"),
        "revoked": ("key-add", "admin", "--tier", "pro"),
        "expired": ("key-add", "admin", "--tier", "pro", "--days=-1"),
        "friend": ("friend-key-add", "admin", "--model", "demo=0.0005"),
        "spender": ("friend-key-add", "admin", "--model", "demo=0.0005"),
        "elsewhere": ("friend-key-add", "admin", "--model", "another"),
    }
    with ThreadPoolExecutor(4) as pool:  # starting a command takes most of its time
        list(pool.map(lambda name: gateway.command("user-add", name), ("busy", "poor", "unmigrated", "disabled")))
        given = ("busy", "1"), ("poor", "0.000001")
        list(pool.map(lambda to: gateway.command("user-credit", *to, "--wallet", "legacy"), given))
        made = dict(zip(wanted, pool.map(lambda words: issue(gateway, *words), wanted.values()), strict=True))
    gateway.command("key-revoke", made["revoked"][1])
    gateway.books.change("UPDATE usersNew SET migration = 0 WHERE username = 'unmigrated'")
    gateway.books.change("UPDATE usersNew SET isActive = 0 WHERE username = 'disabled'")
    return People(
        keys={"good": gateway.key} | {name: secret for name, (secret, _) in made.items()},
        key_ids={name: key_id for name, (_, key_id) in made.items()},
    )
