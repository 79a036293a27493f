"""Receipts: for whoever paid, and what the operator paid for the operator's eyes only."""

from typing import get_args

import msgspec
import pytest

from tests.fakes import make_charge
from trollproxy.chat import Usage
from trollproxy.gateway.callers import Caller
from trollproxy.money.accounts import Account
from trollproxy.money.settle import POLICY
from trollproxy.records import Charge, ClientKey, EndedBy, FriendKey, User
from trollproxy.web.receipts import may_see, write_receipt


def own(name: str, key_id: str, **user: str) -> Caller:
    return Caller(ClientKey(key_id=key_id, key_hash=b"h", username=name), account(name, **user))


def friend(owner: str, key_id: str, **user: str) -> Caller:
    return Caller(FriendKey(key_id=key_id, key_hash=b"h", owner=owner), account(owner, **user))


def account(name: str, role: str = "user") -> Account:
    return Account(msgspec.convert({"username": name, "role": role}, User))


CALLERS = {
    "ann": own("ann", "ann-1"),
    "ann's other key": own("ann", "ann-2"),
    "bob": own("bob", "bob-1"),
    "ann's friend": friend("ann", "fk-1"),
    "ann's other friend": friend("ann", "fk-2"),
    "bob's friend": friend("bob", "fk-3"),
    "an admin": own("root", "root-1", role="admin"),
    "an admin's friend": friend("root", "fk-4", role="admin"),
    "the environment": Caller(None, None),
}
BY_ANN = make_charge(1, username="ann", key_id="ann-1")
BY_FRIEND = make_charge(2, username="ann", key_id="fk-1", friend_key_id="fk-1")
BY_ADMIN = make_charge(3, username="root", key_id="root-1")
BY_ENVIRONMENT = make_charge(4, username="", key_id="environment")
ALWAYS = {"an admin", "the environment"}


@pytest.mark.parametrize(
    ("charge", "seen_by"),
    [
        (BY_ANN, {"ann", "ann's other key"}),
        (BY_FRIEND, {"ann", "ann's other key", "ann's friend"}),
        (BY_ADMIN, set()),
        (BY_ENVIRONMENT, set()),
    ],
    ids=["ann", "friend", "admin", "environment"],
)
def test_who_may_see_what(charge: Charge, seen_by: set[str]) -> None:
    seen = {name for name, caller in CALLERS.items() if may_see(caller, charge)}
    assert seen == seen_by | ALWAYS


def test_a_receipt_tells_what_was_used_what_it_cost_and_why() -> None:
    charge = make_charge(
        1,
        usage=Usage(uncached=10, out_text=5),
        cost_nusd=1_500_000,
        multiplier_micro=1_050_000,
        duration_ms=12.345,
        friend_key_id="fk-1",
        ended_by="timeout_mid_stream",
        is_estimated=True,
    )
    receipt = write_receipt(charge, is_admin=False)
    assert (receipt["id"], receipt["object"]) == ("req-1", "receipt")
    assert (receipt["ended_by"], receipt["charged_by"]) == ("timeout_mid_stream", "usage")
    assert (receipt["cost_usd"], receipt["multiplier"]) == ("0.0015", "1.05")
    assert (receipt["usage"], receipt["is_estimated"]) == (charge.usage, True)
    assert (receipt["duration_ms"], receipt["friend_key_id"]) == (12.3, "fk-1")
    assert msgspec.json.decode(msgspec.json.encode(receipt))["usage"]["out_text"] == 5


@pytest.mark.parametrize("ended_by", get_args(EndedBy))
def test_every_ending_has_its_row(ended_by: EndedBy) -> None:
    assert write_receipt(make_charge(1, ended_by=ended_by), is_admin=False)["charged_by"] == POLICY[ended_by]


def test_what_the_operator_paid_is_for_the_operator() -> None:
    charge = make_charge(1, cost_nusd=3_000_000, upstream_cost_nusd=1_000_000)
    told = write_receipt(charge, is_admin=True)
    assert (told["upstream_cost_usd"], told["profit_usd"]) == ("0.001", "0.002")
    receipt = write_receipt(charge, is_admin=False)
    assert set(told) - set(receipt) == {"upstream_cost_usd", "profit_usd"}
    assert b"upstream" not in msgspec.json.encode(receipt)


def test_a_loss_is_told_as_one() -> None:
    charge = make_charge(1, cost_nusd=0, upstream_cost_nusd=1_000_000)
    assert write_receipt(charge, is_admin=True)["profit_usd"] == "-0.001"


def test_what_lost_tries_cost_is_the_operators_loss() -> None:
    charge = make_charge(1, cost_nusd=3_000_000, upstream_cost_nusd=1_000_000, lost_cost_nusd=500_000)
    told = write_receipt(charge, is_admin=True)
    assert (told["lost_cost_usd"], told["profit_usd"]) == ("0.0005", "0.0015")
    assert "lost_cost_usd" not in write_receipt(charge, is_admin=False)


def test_a_cost_that_is_unknown_is_not_told() -> None:
    assert "upstream_cost_usd" not in write_receipt(make_charge(1), is_admin=True)


@pytest.mark.parametrize("is_admin", [True, False])
def test_a_receipt_names_no_secrets_of_ours(is_admin: bool) -> None:
    text = msgspec.json.encode(write_receipt(make_charge(1, username="ann-smith"), is_admin=is_admin))
    for hidden in (b"uk-1", b"acme", b"key-1", b"ann-smith"):
        assert hidden not in text
