"""What must be true of the books after any number of crashes, laid beside what provider and clients saw.

Pure. Every rule returns a sentence for each offence, with the marker of the request or the name of the user; nothing is
ever corrected or left out here.
"""

from collections import Counter, defaultdict
from collections.abc import Iterator, Mapping

import msgspec

from tests.faults.load import Outcome
from tests.faults.plans import Plan
from tests.faults.shelf import Page, Row
from trollproxy.policy.retrying import RetryPolicy

CRASHED = {"gateway_crashed", "gateway_crashed_before_token"}
UNSENT = "client_disconnected_before_send"
FAILED = {"provider_error_before_token", "provider_error_mid_stream"}
# How an exchange may have ended, by what its client saw. Who has a whole answer, also a bad one, was charged before.
ENDINGS: dict[Outcome, set[str]] = {
    "complete": {"completed"},
    "refused": {*FAILED, "timeout_before_token"},
    "cut": {"completed", "client_disconnected", UNSENT, *FAILED, *CRASHED},
    "broken": {"completed", *FAILED, *CRASHED},
}
WALLETS = {"legacy": ("credits", "refCredits"), "new": ("creditsNew",)}


class Evidence(msgspec.Struct, frozen=True, kw_only=True):
    """All sides of a run. `credited` is what was put into each wallet, by user and wallet."""

    plans: Mapping[str, Plan]
    outcomes: Mapping[str, Outcome]
    seen: Mapping[str, int]
    page: Page
    credited: Mapping[tuple[str, str], int]
    friend_cap_nusd: Mapping[str, int]


class Verdict(msgspec.Struct, frozen=True, kw_only=True):
    """The figures, and every offence."""

    requests: int
    seen: int
    rows: int
    lost: list[str]
    doubled: list[str]
    drift_nusd: int
    endings: dict[str, int]
    offences: list[str]


def judge(evidence: Evidence) -> Verdict:
    page = evidence.page
    rows = Counter(row["upstreamModel"] for row in page.logs)
    entries = {entry["_id"] for entry in page.ledger if entry["type"] == "usage"}
    posted = {row["upstreamModel"] for row in page.logs if row["_id"] in entries}
    lost = [marker for marker in evidence.seen if marker not in posted]
    doubled = [marker for marker, count in rows.items() if count > 1]
    drift = dict(_drift(evidence))
    return Verdict(
        requests=len(evidence.plans),
        seen=len(evidence.seen),
        rows=len(page.logs),
        lost=lost,
        doubled=doubled,
        drift_nusd=sum(map(abs, drift.values())),
        endings=dict(Counter(row["endedBy"] for row in page.logs)),
        offences=[
            *(f"{marker}: seen by the provider and not on the books" for marker in lost),
            *(f"{marker}: {rows[marker]} rows" for marker in doubled),
            *(f"{marker}: sent {n} times" for marker, n in evidence.seen.items() if n > _may_be_sent(evidence, marker)),
            *(f"{user} {wallet}: {nusd} nano-dollars astray" for (user, wallet), nusd in drift.items() if nusd),
            *(offence for row in page.logs for offence in _judge_row(row, evidence)),
            *_judge_missing(evidence, posted),
            *_judge_ledger(page),
            *_judge_users(page),
            *_judge_friends(evidence),
        ],
    )


def _may_be_sent(evidence: Evidence, marker: str) -> int:
    """What the provider answers is asked for once. What it refuses or breaks off is tried again, in each round once."""
    return 1 if evidence.plans[marker].fate == "answer" else RetryPolicy().max_rounds


def _judge_row(row: Row, evidence: Evidence) -> Iterator[str]:
    plan = evidence.plans[row["upstreamModel"]]
    cost, ended_by, full = row["costNusd"], row["endedBy"], plan.full_nusd
    told = (
        f"{plan.marker} ({row['_id']}, {ended_by}, {plan.dialect}, stream {plan.stream}, {plan.fate}, cut {plan.cut})"
    )
    outcome = evidence.outcomes[plan.marker]
    if ended_by not in ENDINGS[outcome]:
        yield f"{told}: the client saw {outcome}"
    if ended_by == "completed" and (cost != full or plan.fate != "answer"):
        yield f"{told}: costs {cost}, the provider's usage {full}"
    if ended_by in FAILED and plan.fate == "answer":
        yield f"{told}: the provider answered"
    if not 0 <= cost <= full:
        yield f"{told}: costs {cost}, more than {full}"
    if cost and plan.marker not in evidence.seen:
        yield f"{told}: costs {cost}, and the provider never saw it"
    if ended_by == UNSENT and plan.marker in evidence.seen:
        yield f"{told}: the provider saw it"
    if cost and ended_by in {UNSENT, "gateway_crashed_before_token", "provider_error_before_token"}:
        yield f"{told}: costs {cost}"
    if row["username"] != plan.person.username or row["wallet"] != ("new" if plan.marker[0] == "n" else "legacy"):
        yield f"{told}: charged to {row['username']} {row['wallet']}"


def _judge_missing(evidence: Evidence, posted: set[str]) -> Iterator[str]:
    for marker, outcome in evidence.outcomes.items():
        if outcome == "complete" and marker not in posted:
            yield f"{marker}: answered in full and not on the books"


def _judge_ledger(page: Page) -> Iterator[str]:
    logs = {row["_id"]: row for row in page.logs}
    usage = {entry["_id"]: entry for entry in page.ledger if entry["type"] == "usage"}
    for request_id in logs.keys() ^ usage.keys():
        yield f"{request_id}: in one of request_logs and ledger only"
    for request_id in logs.keys() & usage.keys():
        row, entry = logs[request_id], usage[request_id]
        said = (-row["costNusd"], row["username"], row["wallet"], "applied")
        if (entry["amount"], entry["username"], entry["wallet"], entry["state"]) != said:
            yield f"{request_id}: the ledger says {entry}, its row {row}"
    for letter in page.dead_letters:
        yield f"{letter['_id']}: a dead letter ({letter['reason']})"


def _judge_users(page: Page) -> Iterator[str]:
    """Nobody here may spend more than there is: no answer costs more than was held for it."""
    for user in page.users:
        for field in ("credits", "refCredits", "creditsNew"):
            if user[field] < 0:
                yield f"{user['username']}: {field} is {user[field]}"


def _judge_friends(evidence: Evidence) -> Iterator[str]:
    page = evidence.page
    by_key: dict[str, int] = defaultdict(int)
    by_day: dict[tuple[str, str], int] = defaultdict(int)
    for row in page.logs:
        if row["friendKeyId"]:
            by_key[row["friendKeyId"]] += row["costNusd"]
            by_day[row["friendKeyId"], row["day"]] += row["costNusd"]
    totals = {key["keyId"]: key["totalSpent"] for key in page.friend_keys}
    if totals != {name: by_key[name] for name in totals}:
        yield f"friend keys say {totals}, their charges {dict(by_key)}"
    counted: dict[tuple[str, str], int] = defaultdict(int)
    for row in page.friend_spend:
        counted[row["keyId"], row["day"]] += row["spent"]
        cap = evidence.friend_cap_nusd.get(row["keyId"])
        if cap is not None and row["spent"] > cap:
            yield f"friend key {row['keyId']}: spent {row['spent']} of {cap} a day"
    if counted != by_day:
        yield f"friend counters say {dict(counted)}, the charges {dict(by_day)}"


def _drift(evidence: Evidence) -> Iterator[tuple[tuple[str, str], int]]:
    """What each balance is off from credit less charges, and from the ledger, whichever is worse."""
    page = evidence.page
    by_rows, by_ledger = Counter(evidence.credited), Counter[tuple[str, str]]()
    for row in page.logs:
        by_rows[row["username"], row["wallet"]] -= row["costNusd"]
    for entry in page.ledger:
        by_ledger[entry["username"], entry["wallet"]] += entry["amount"]
    for user in page.users:
        for wallet, fields in WALLETS.items():
            name, balance = (user["username"], wallet), sum(user[field] for field in fields)
            yield name, max(balance - by_rows[name], balance - by_ledger[name], key=abs)
