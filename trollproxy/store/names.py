"""The words and bounds that all stores share: tables, fields of a charge, limits, and the errors they answer with.

The words are the seeds' own, so that their data is read where it stands. Values whose stored form is the same in every
store (model limits, dollars of the seeds) are converted here. Nothing here knows a database.
"""

import datetime as dt
import decimal
from collections.abc import Mapping
from typing import Any

import msgspec

from trollproxy.errors import GatewayError, InvalidRequest, StoreUnavailable
from trollproxy.records import NUSD_PER_USD, Charge, ModelLimit, Price

USERS = "usersNew"
CLIENT_KEYS = "user_keys"
FRIEND_KEYS = "friend_keys"
REQUEST_LOGS = "request_logs"
LEDGER = "ledger"
FRIEND_SPEND = "friend_spend"
DEAD_LETTERS = "dead_letters"
PRICES = "prices"
META = "meta"

DEADLINE_S = 5.0
AUDIT_DEADLINE_S = 60.0  # summing a page of users over years of entries; nobody waits for it
LIST_LIMIT = 1000  # no listing answers with more, whatever was asked for
SPEND_LIMIT = 10_000  # models of one friend key on one day; its own list of models is far shorter
CHUNK = 500  # rows of one read by many ids, and operations of one bulk write

APPLIED = "applied"  # an entry of the ledger whose balance has moved
PENDING = "pending"  # its balance may or may not have moved yet; only MongoDB needs it
DEAD = "dead"  # its balance cannot be moved: see dead_letters

UNKNOWN_USER = "unknown_user"
UNMIGRATED_USER = "unmigrated_user"


def camel(name: str) -> str:
    head, *rest = name.split("_")
    return head + "".join(word.title() for word in rest)


CHARGE_FIELDS = {name: "_id" if name == "request_id" else camel(name) for name in Charge.__struct_fields__}


def charge_to_stored(charge: Charge) -> dict[str, Any]:
    stored = dict(zip(CHARGE_FIELDS.values(), msgspec.structs.astuple(charge), strict=True))
    stored["usage"] = msgspec.to_builtins(charge.usage)
    return stored


def charge_from_stored(stored: Mapping[str, Any]) -> Charge:
    flat = {name: stored[field] for name, field in CHARGE_FIELDS.items() if field in stored}  # older ones lack some
    return msgspec.convert(flat, Charge, strict=False)  # not strict: SQLite has no booleans


def price_to_stored(price: Price) -> dict[str, Any]:
    return {"_id": price.version, "perMtokNusd": price.per_mtok_nusd, "multiplierMicro": price.multiplier_micro}


def price_from_stored(stored: Mapping[str, Any]) -> Price:
    buckets = {bucket: int(nusd) for bucket, nusd in stored["perMtokNusd"].items()}
    return Price(version=stored["_id"], per_mtok_nusd=buckets, multiplier_micro=int(stored["multiplierMicro"]))


def limits_to_stored(limits: Mapping[str, ModelLimit]) -> list[dict[str, Any]]:
    """A list, because a model's name has dots and may not become the name of a field."""
    return [
        {"model": model, "enabled": limit.enabled, "dailyLimit": limit.daily_limit_nusd}
        for model, limit in limits.items()
    ]


def limits_from_stored(stored: Any) -> dict[str, ModelLimit]:
    """Read our list, or the seeds' map whose daily limits are dollars."""
    if isinstance(stored, Mapping):
        return {model: _seeds_limit(entry) for model, entry in stored.items() if isinstance(entry, Mapping)}
    return {
        entry["model"]: ModelLimit(enabled=bool(entry["enabled"]), daily_limit_nusd=_plain_int(entry["dailyLimit"]))
        for entry in stored or []
    }


def _seeds_limit(entry: Mapping[str, Any]) -> ModelLimit:
    usd = entry.get("dailyLimit")
    nusd = None if usd is None else nusd_from_usd(usd)
    return ModelLimit(enabled=bool(entry.get("enabled", False)), daily_limit_nusd=nusd)


def _plain_int(value: int | None) -> int | None:
    return None if value is None else int(value)


def nusd_from_usd(usd: float) -> int:
    """By way of the shortest decimal that prints as `usd`, so 0.1 is 100,000,000 and not a neighbour of it."""
    exact = decimal.Decimal(str(usd)) * NUSD_PER_USD
    return int(exact.quantize(decimal.Decimal(1), rounding=decimal.ROUND_HALF_UP))


def date_from_s(at_s: float | None) -> dt.datetime | None:
    return None if at_s is None else dt.datetime.fromtimestamp(at_s, dt.UTC)


def bounded(limit: int) -> int:
    """At least 1, because both databases take 0 or less as "all"."""
    return min(max(limit, 1), LIST_LIMIT)


def already_exists() -> InvalidRequest:
    return InvalidRequest("This name or key already exists.", code="already_exists", status=409)


def ledger_conflict(entry_id: str) -> GatewayError:
    return GatewayError(f"Entry {entry_id} is in the ledger with other contents.", code="ledger_conflict")


def price_conflict(version: str) -> GatewayError:
    return GatewayError(f"Price version {version} is stored with other contents.", code="price_conflict")


def unavailable() -> StoreUnavailable:
    return StoreUnavailable("The store did not answer in time.")
