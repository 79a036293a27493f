"""What must not be seen or waited for: secrets and prompts in what is kept, metrics from elsewhere, slow clients."""

import json
import socket
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from tests.e2e.people import issue
from tests.e2e.process import QUICK, GatewayProcess
from tests.e2e.talk import ANTHROPIC, DIALECTS, OPENAI, ask

PROMPT = "canary-prompt-3f9a1c"
UPSTREAM_KEY = "sk-proj-canaryupstream7d2e4b81c6"
ENVIRONMENT_KEY = "canary-environment-55aa77cc99"
GUESSED_KEY = "sk-canaryguess-0123456789abcdef0123"
TIMEOUTS = {"headerTimeout": "1s", "bodyTimeout": "500ms"}


@pytest.fixture(scope="module")
def gateway(tmp_path_factory: pytest.TempPathFactory) -> Iterator[GatewayProcess]:
    with GatewayProcess(tmp_path_factory.mktemp("privacy"), config={**QUICK, "limits": TIMEOUTS}) as running:
        yield running


def provoke(gateway: GatewayProcess) -> None:
    """Every way in which a prompt or a key passes through, well and badly."""
    texts = (PROMPT, f"#demo status=400\n{PROMPT}", f"#demo status=500\n{PROMPT}", f"#demo cut=1\n{PROMPT}")
    for dialect in DIALECTS:
        headers = dialect.authorize(gateway.key)
        for text in texts:
            for stream in (False, True):
                ask(gateway.port, "POST", dialect.path, body=dialect.ask(text, stream=stream), headers=headers)
        ask(gateway.port, "POST", dialect.path, body=f'{{"model": "{PROMPT}'.encode(), headers=headers)
        ask(gateway.port, "POST", dialect.path, body=dialect.ask(PROMPT, model="unreachable"), headers=headers)
        for key in (ENVIRONMENT_KEY, GUESSED_KEY, gateway.key[:-1]):
            ask(gateway.port, "POST", dialect.path, body=dialect.ask(PROMPT), headers=dialect.authorize(key))


def test_no_secret_and_no_prompt_is_kept(tmp_path: Path) -> None:
    config: dict[str, Any] = {
        **QUICK,
        "log": {"format": "json", "level": "debug"},
        "upstreams": {
            "u": {"baseUrl": "http://127.0.0.1:9", "formats": ["openai", "anthropic"], "apiKey": UPSTREAM_KEY}
        },
        "models": [{"id": "unreachable", "upstream": "u", "pricing": {"input": 1, "output": 1}}],
    }
    with GatewayProcess(tmp_path, config=config, environment={"PROXY_API_KEY": ENVIRONMENT_KEY}) as gateway:
        provoke(gateway)
        gateway.settle()
        metrics = "\n".join(gateway.metrics())
        assert len(gateway.books.read().charges) >= 18
    lines = [json.loads(line) for line in gateway.log.splitlines()]
    assert len([line for line in lines if line["message"] == "exchange"]) >= 24
    assert all({"ts", "level", "logger", "message"} <= line.keys() for line in lines)
    files = b"".join(path.read_bytes() for path in gateway.data_dir.glob("*.sqlite*"))
    assert b"request_logs" in files
    _, _, key_id, secret, _ = gateway.key.split("-")
    assert key_id in gateway.log
    for canary in (PROMPT, UPSTREAM_KEY, ENVIRONMENT_KEY, GUESSED_KEY, gateway.key, secret, gateway.password):
        assert canary not in gateway.log
        assert canary not in metrics
        assert canary.encode() not in files


def test_operations_are_for_administrators(gateway: GatewayProcess) -> None:
    """Metrics also for this machine, but not for what a proxy on it passes on."""
    elsewhere = {"x-forwarded-for": "203.0.113.9"}
    assert ask(gateway.port, "GET", "/metrics").status == 200
    refused = ask(gateway.port, "GET", "/metrics", headers=elsewhere)
    assert refused.status == 401
    assert b"trollproxy_" not in refused.body
    gateway.command("user-add", "ann")
    stranger, _ = issue(gateway, "key-add", "ann")
    friend, _ = issue(gateway, "friend-key-add", "admin", "--model", "demo")
    for method, path in (("GET", "/metrics"), ("GET", "/keys/status"), ("POST", "/reload")):
        statuses = [
            ask(gateway.port, method, path, headers=elsewhere | OPENAI.authorize(key)).status
            for key in (gateway.key, stranger, friend, "sk-nobody")
        ]
        assert statuses == [200, 403, 403, 401], path


def read_to_the_end(client: socket.socket, deadline_s: float, *, trickle: bytes) -> bytes:
    """Send a little now and then, which must not buy more time, until the server has had enough."""
    got = b""
    client.settimeout(0.1)
    while time.monotonic() < deadline_s:
        try:
            piece = client.recv(65_536)
        except TimeoutError:
            client.sendall(trickle)
            continue
        except ConnectionError:
            return got
        if not piece:
            return got
        got += piece
    raise AssertionError("the server waits for ever")


@pytest.mark.parametrize(
    ("head", "trickle"),
    [(b"", b""), (b"POST /v1/mess", b"x"), (b"POST /v1/messages HTTP/1.1\r\nhost: x\r\nx-slow: ", b"x")],
)
def test_a_slow_head_is_cut_off_while_others_are_served(gateway: GatewayProcess, head: bytes, trickle: bytes) -> None:
    with socket.create_connection(("127.0.0.1", gateway.port)) as client:
        client.sendall(head)
        began_s = time.monotonic()
        assert gateway.ask("POST", OPENAI.path, OPENAI.ask("#demo tokens=5")).status == 200
        got = read_to_the_end(client, began_s + 5, trickle=trickle)
        assert 0.9 < time.monotonic() - began_s < 4
    assert got.startswith(b"HTTP/1.1 408 ")


def test_a_slow_body_is_answered_408_and_cut_off(gateway: GatewayProcess) -> None:
    """What is still to come of the body is nothing to wait for: the answer says so and the connection ends."""
    head = "".join(f"{name}: {value}\r\n" for name, value in ANTHROPIC.authorize(gateway.key).items())
    with gateway.bill() as bill, socket.create_connection(("127.0.0.1", gateway.port), timeout=5) as client:
        client.sendall(f"POST /v1/messages HTTP/1.1\r\nhost: x\r\ncontent-length: 100\r\n{head}\r\n{{".encode())
        got = client.recv(65_536)
        is_cut_off = b"connection: close" in got.lower()
    assert got.startswith(b"HTTP/1.1 408 ")
    assert b"request_timeout" in got
    assert bill == []
    assert is_cut_off


def test_what_is_not_http_is_refused_briefly(gateway: GatewayProcess) -> None:
    with socket.create_connection(("127.0.0.1", gateway.port), timeout=5) as client:
        client.sendall(b"\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03 hello\r\n\r\n")
        got = b""
        while piece := client.recv(65_536):
            got += piece
    assert got.startswith((b"HTTP/1.0 400 ", b"HTTP/1.1 400 "))
    assert gateway.ask("GET", "/ping").status == 200
