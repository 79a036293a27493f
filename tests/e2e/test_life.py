"""How a gateway process begins and ends: what it tells, what it finishes, what it leaves on the books."""

import asyncio
import contextlib
import shutil
import signal
import time
from pathlib import Path
from typing import Any

import pytest

from tests.aio import run
from tests.e2e.books import demo_cost_nusd
from tests.e2e.process import PROGRAM, ROOT, GatewayProcess, run_command, wait_until
from tests.e2e.talk import ANTHROPIC, DIALECTS, OPENAI, Dialect, RawStream, ask
from trollproxy import __version__

LONG = "#demo tokens=500 delay_ms=20"  # ten seconds, which no test waits for
FIRST_BALANCE_NUSD = 5_000_000_000


def say(gateway: GatewayProcess, text: str = "#demo tokens=5") -> None:
    answer = gateway.ask("POST", OPENAI.path, OPENAI.ask(text))
    assert answer.status == 200, answer.body


def test_secrets_are_told_once_and_the_books_outlive_the_process(tmp_path: Path) -> None:
    gateway = GatewayProcess(tmp_path)
    with gateway:
        key, password = gateway.key, gateway.password
        assert key.startswith("sk-troll-")
        assert len(password) == 24
        assert f"curl http://localhost:{gateway.port}/v1/chat/completions" in gateway.output
        assert ask(gateway.port, "GET", "/health").json()["status"] == "ok"
        say(gateway)
    first = gateway.books.read()
    (charge,) = first.charges.values()
    assert charge.cost_nusd > 0
    assert first.balances == {"admin": FIRST_BALANCE_NUSD - charge.cost_nusd}
    with gateway:
        assert "First start" not in gateway.output
        assert not [secret for secret in (key, password) if secret in gateway.output]
        assert gateway.books.read() == first
        say(gateway)
    last = gateway.books.read()
    assert len(last.charges) == 2
    assert last.balances["admin"] == FIRST_BALANCE_NUSD - sum(c.cost_nusd for c in last.charges.values())
    assert not [secret for secret in (key, password) if secret in gateway.log]


async def refuses_connections(port: int) -> bool:
    try:
        _, writer = await asyncio.open_connection("127.0.0.1", port)
    except ConnectionError:
        return True
    writer.close()
    with contextlib.suppress(ConnectionError):  # taken by the kernel just before the listener went, and then reset
        await writer.wait_closed()
    return False


async def wait_for_refusal(port: int) -> None:
    async with asyncio.timeout(5):
        while not await refuses_connections(port):
            await asyncio.sleep(0)


@pytest.mark.parametrize("dialect", DIALECTS, ids=lambda dialect: dialect.name)
def test_a_stream_is_finished_before_the_end(tmp_path: Path, dialect: Dialect) -> None:
    async def scenario() -> bytes:
        idle = await asyncio.open_connection("127.0.0.1", gateway.port)
        text = "#demo tokens=40 delay_ms=20"
        stream = await RawStream.open(gateway.port, dialect, gateway.key, text)
        await stream.read_events(3)
        gateway.signal(signal.SIGTERM)
        await wait_for_refusal(gateway.port)
        assert await idle[0].read() == b""  # who is idle holds nobody up
        idle[1].close()
        assert (b"[DONE]" if dialect is OPENAI else b"message_stop") not in stream.body
        body = await stream.read_all()
        await stream.close()
        return body

    with GatewayProcess(tmp_path) as gateway:
        body = run(scenario())
        assert gateway.wait() == 0
    assert (b"[DONE]" if dialect is OPENAI else b"message_stop") in body
    page = gateway.books.read()
    (charge,) = page.charges.values()
    assert (charge.ended_by, charge.usage.out_text) == ("completed", 40)
    assert charge.cost_nusd == demo_cost_nusd(uncached=charge.usage.uncached, out=40)
    assert page.balances["admin"] == FIRST_BALANCE_NUSD - charge.cost_nusd


def test_a_stream_that_outlasts_the_drain_is_cut_and_charged(tmp_path: Path) -> None:
    async def scenario() -> bytes:
        stream = await RawStream.open(gateway.port, OPENAI, gateway.key, LONG)
        await stream.read_events(3)
        gateway.signal(signal.SIGTERM)
        body = await stream.read_until_cut()
        await stream.close()
        return body

    with GatewayProcess(tmp_path, config={"drainTimeout": "300ms"}) as gateway:
        began_s = time.monotonic()
        body = run(scenario())
        assert gateway.wait() == 0
        assert time.monotonic() - began_s < 5
    assert b"[DONE]" not in body
    assert not body.endswith(b"0\r\n\r\n")  # the client sees that it is not all
    page = gateway.books.read()
    (charge,) = page.charges.values()
    assert (charge.ended_by, charge.is_estimated) == ("client_disconnected", True)
    assert 0 < charge.usage.out_text < 400
    assert page.balances["admin"] == FIRST_BALANCE_NUSD - charge.cost_nusd


def test_a_second_signal_ends_at_once(tmp_path: Path) -> None:
    async def scenario() -> None:
        stream = await RawStream.open(gateway.port, ANTHROPIC, gateway.key, LONG)
        await stream.read_events(3)
        gateway.signal(signal.SIGTERM)
        await wait_for_refusal(gateway.port)
        gateway.signal(signal.SIGINT)
        await stream.read_until_cut()
        await stream.close()

    with GatewayProcess(tmp_path) as gateway:
        began_s = time.monotonic()
        run(scenario())
        assert gateway.wait(within_s=2) == 130
        assert time.monotonic() - began_s < 5


def test_killed_outright_it_starts_again_with_what_was_on_the_books(tmp_path: Path) -> None:
    gateway = GatewayProcess(tmp_path, config={"billing": {"batching": False}}).start()
    try:
        say(gateway)
        gateway.settle()
    finally:
        gateway.kill()
    (charge,) = gateway.books.read().charges.values()
    with gateway:
        assert gateway.books.read().balances["admin"] == FIRST_BALANCE_NUSD - charge.cost_nusd
        say(gateway)


def test_one_process_a_data_directory(tmp_path: Path) -> None:
    with GatewayProcess(tmp_path) as gateway:
        second = run_command(tmp_path, "serve", "--port", "0")
        assert second.returncode == 1
        assert second.stderr.startswith("trollproxy: Another gateway is running on the data directory")
        assert "Traceback" not in second.stderr
        say(gateway)


def test_it_says_whether_it_is_compiled(tmp_path: Path) -> None:
    how = " (compiled)" if PROGRAM != ROOT and shutil.which("cc") else ""
    assert run_command(tmp_path, "--version").stdout == f"trollproxy {__version__}{how}\n"


def test_a_port_that_is_taken(tmp_path: Path) -> None:
    with GatewayProcess(tmp_path / "first") as gateway:
        (tmp_path / "second").mkdir()
        second = run_command(tmp_path / "second", "serve", "--host", "127.0.0.1", "--port", str(gateway.port))
        assert second.returncode == 1
        assert "address already in use" in second.stderr
        assert "Traceback" not in second.stderr


def is_charged(gateway: GatewayProcess) -> bool:
    return bool(gateway.books.read().charges)


def test_without_batching_a_charge_is_written_at_once(tmp_path: Path) -> None:
    """The interval of an hour would not let it through."""
    config: dict[str, Any] = {"billing": {"batching": False, "flushInterval": "1h"}}
    with GatewayProcess(tmp_path, config=config) as gateway:
        say(gateway)
        wait_until(lambda: is_charged(gateway), within_s=2, what="a charge on the books")


def test_with_batching_a_charge_waits_for_the_interval_or_the_end(tmp_path: Path) -> None:
    with GatewayProcess(tmp_path, config={"billing": {"flushInterval": "1h"}}) as gateway:
        say(gateway)
        assert gateway.metrics()["trollproxy_writer_queued_charges"] == 1
        assert not is_charged(gateway)
    page = gateway.books.read()
    (charge,) = page.charges.values()
    assert page.balances["admin"] == FIRST_BALANCE_NUSD - charge.cost_nusd


def test_two_listeners_spend_two_wallets(tmp_path: Path) -> None:
    config = {"listeners": [{"port": 0, "wallet": "legacy"}, {"port": 0, "wallet": "new"}]}
    with GatewayProcess(tmp_path, config=config, arguments=()) as gateway:
        ports = [int(word.rpartition(":")[2]) for word in gateway.output.splitlines()[-1].split(", ")]
        for port in ports:
            body, headers = OPENAI.ask("hi"), OPENAI.authorize(gateway.key)
            assert ask(port, "POST", OPENAI.path, body=body, headers=headers).status == 200
    assert [charge.wallet for charge in gateway.books.read().charges.values()] == ["legacy", "new"]
