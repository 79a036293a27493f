"""The same process with its books in a real MongoDB: billed in both dialects, and through an outage of the server."""

import time
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import pytest
from bson.int64 import Int64

from tests.e2e.process import QUICK, GatewayProcess, wait_until
from tests.e2e.talk import DIALECTS, OPENAI, Answer, Dialect, ask
from tests.mongod import Mongod

FIRST_BALANCE_NUSD = 5_000_000_000
FLUSHED_WITHIN_S = 30.0  # the writer's longest pause and the server's election
OUTAGE_REQUESTS = 6


@pytest.fixture
def mongod() -> Iterator[Mongod]:
    with Mongod() as server:
        yield server


def gateway_on(mongod: Mongod, folder: Path) -> GatewayProcess:
    arguments = ("--port", "0", "--mongodb-uri", mongod.uri)
    return GatewayProcess(folder, config=QUICK, arguments=arguments)


def collect(mongod: Mongod) -> dict[str, list[dict[str, Any]]]:
    """Every document of the books."""
    with mongod.client() as client:
        database = client["trollproxy"]
        return {name: list(database[name].find()) for name in ("usersNew", "request_logs", "ledger", "dead_letters")}


def post(gateway: GatewayProcess, dialect: Dialect, text: str = "#demo tokens=5 delay_ms=0") -> Answer:
    return ask(gateway.port, "POST", dialect.path, body=dialect.ask(text), headers=dialect.authorize(gateway.key))


def check_books(mongod: Mongod, answers: Mapping[str, Answer]) -> None:
    """One charge and one entry for each request, all amounts Int64, and the balance is the sum of the ledger."""
    books = collect(mongod)
    logs = {log["_id"]: log for log in books["request_logs"]}
    usage = {entry["_id"]: entry for entry in books["ledger"] if entry["type"] == "usage"}
    assert logs.keys() == usage.keys() == answers.keys()
    assert len(logs) == len(books["request_logs"])
    assert books["dead_letters"] == []
    assert {type(log["costNusd"]) for log in logs.values()} == {Int64}
    assert {type(entry["amount"]) for entry in books["ledger"]} == {Int64}
    assert {entry["state"] for entry in books["ledger"]} == {"applied"}
    assert all(usage[name]["amount"] == -log["costNusd"] < 0 for name, log in logs.items())
    (user,) = books["usersNew"]
    assert {type(user[name]) for name in ("credits", "refCredits", "creditsNew")} == {Int64}
    assert user["credits"] == sum(entry["amount"] for entry in books["ledger"])
    assert user["credits"] == FIRST_BALANCE_NUSD - sum(log["costNusd"] for log in logs.values())


def by_id(answers: list[tuple[Dialect, Answer]]) -> dict[str, Answer]:
    assert [answer.status for _, answer in answers] == [200] * len(answers)
    return {answer.headers[dialect.request_id]: answer for dialect, answer in answers}


def test_billed_and_kept_over_a_restart_and_through_an_outage(mongod: Mongod, tmp_path: Path) -> None:
    """One story, since a server takes seconds to start and to elect itself."""
    gateway = gateway_on(mongod, tmp_path)
    with gateway:
        answers = by_id([(dialect, post(gateway, dialect)) for dialect in DIALECTS])
        gateway.settle()
        check_books(mongod, answers)
    with gateway:
        assert "First start" not in gateway.output
        answers |= by_id([(dialect, post(gateway, dialect)) for dialect in DIALECTS])
        gateway.settle()
        check_books(mongod, answers)
        answers |= through_an_outage(mongod, gateway)
        check_books(mongod, answers)
        assert "every balance is what its ledger entries say" in gateway.command("audit", "--mongodb-uri", mongod.uri)
    check_books(mongod, answers)


def through_an_outage(mongod: Mongod, gateway: GatewayProcess) -> dict[str, Answer]:
    """Callers in memory are served while the server is away; what they owe is written when it is back."""
    mongod.kill()
    dialects = [DIALECTS[number % 2] for number in range(OUTAGE_REQUESTS)]
    answers = by_id([(dialect, post(gateway, dialect)) for dialect in dialects])
    health = ask(gateway.port, "GET", "/health")
    assert (health.status, health.json()["status"], health.json()["store"]) == (503, "degraded", "store_unavailable")
    assert health.json()["charges_queued"] == OUTAGE_REQUESTS
    check_stranger(gateway)
    mongod.restart()
    wait_until(
        lambda: gateway.metrics()["trollproxy_writer_queued_charges"] == 0,
        within_s=FLUSHED_WITHIN_S,
        what="the charges of the outage on the books",
    )
    gateway.settle()
    wait_until(lambda: ask(gateway.port, "GET", "/health").status == 200, within_s=10, what="healthy again")
    return answers


def check_stranger(gateway: GatewayProcess) -> None:
    """Who is not in memory cannot be known now, and is told so within the store's deadline; nobody is let in."""
    began_s = time.monotonic()
    stem, _, _ = gateway.key.rpartition("-")
    old_form = f"sk-{stem[-32:]}"
    answer = ask(gateway.port, "POST", OPENAI.path, body=OPENAI.ask("hi"), headers=OPENAI.authorize(old_form))
    assert (answer.status, answer.json()["error"]["code"]) == (503, "store_unavailable")
    assert time.monotonic() - began_s < 8


def test_a_server_that_is_away_at_the_start(tmp_path: Path) -> None:
    gateway = GatewayProcess(tmp_path, arguments=("--port", "0", "--mongodb-uri", "mongodb://127.0.0.1:9/"))
    with pytest.raises(AssertionError, match="ended at its start"):
        gateway.start()
    assert gateway.log == "trollproxy: The store did not answer in time.\n"
