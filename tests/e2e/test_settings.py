"""Where settings come from, what is said of bad ones, and what a reload takes without a restart."""

import signal
from pathlib import Path
from typing import Any

import pytest

from tests.e2e.people import issue
from tests.e2e.process import QUICK, GatewayProcess, run_command, wait_until
from tests.e2e.talk import ANTHROPIC, DIALECTS, OPENAI, Dialect, ask
from tests.mongod import free_port

ENVIRONMENT_KEY = "environment-key-0123456789abcdef"

BAD_CONFIGS = [
    ("limts: {}", {}, ("config.yaml: limts: ", "did you mean `limits`?")),
    ("billing: {flushInterval: fast}", {}, ("config.yaml: billing.flushInterval: ", "is not a duration")),
    ("limits: {devRpm: 0}", {}, ("config.yaml: limits.devRpm: ",)),
    ("models: [{id: a, pricing: {input: 1}}]", {}, ("config.yaml: models[0].pricing.output: ", "is required")),
    ("models: [", {}, ("config.yaml: line ", "is not valid YAML")),
    ("proxyApiKey: ${MISSING}", {}, ("config.yaml: proxyApiKey: ", "MISSING is not set")),
    ("", {"PORT": "http"}, ("environment: PORT: ",)),
    ("", {"PROXY_API_KEY": "short"}, ("environment: PROXY_API_KEY: ", "at least 16")),
    ("", {"CONFIG_PATH": "nowhere.yaml"}, ("nowhere.yaml: ", "cannot be read")),
]


@pytest.mark.parametrize(("text", "environment", "says"), BAD_CONFIGS, ids=[says[0] for _, _, says in BAD_CONFIGS])
def test_a_bad_configuration_is_told_with_file_path_and_reason(
    tmp_path: Path, text: str, environment: dict[str, str], says: tuple[str, ...]
) -> None:
    (tmp_path / "config.yaml").write_text(text)
    done = run_command(tmp_path, "serve", **environment)
    assert (done.returncode, done.stdout) == (1, "")
    assert done.stderr.startswith(f"trollproxy: {says[0]}")
    assert all(words in done.stderr for words in says)
    assert done.stderr.count("\n") == 1
    assert not (tmp_path / "data").exists()


def test_check_shows_the_settings_without_a_secret(tmp_path: Path) -> None:
    secrets = {
        "UPSTREAM": "sk-upstream-secret-0001",
        "PROXY_API_KEY": "proxy-api-key-secret-0002",
        "TROLLPROXY_PEPPER": "pepper-secret-0003-0123456789",
        "MONGODB_URI": "mongodb://ann:mongo-secret-0004@127.0.0.1/x",
    }
    (tmp_path / "config.yaml").write_text(
        "upstreams: {u: {baseUrl: 'http://127.0.0.1:1', type: openai, apiKey: '${UPSTREAM}',"
        " headers: {x-tenant: header-secret-0005}}}\n"
        "models: [{id: seen, upstream: u, pricing: {input: 1, output: 2}}]\n"
    )
    done = run_command(tmp_path, "check", **secrets)
    assert (done.returncode, done.stderr) == (0, "")
    assert "seen" in done.stdout
    assert "price version" in done.stdout
    assert "secret" not in done.stdout


def test_init_writes_a_configuration_that_passes_the_check(tmp_path: Path) -> None:
    assert run_command(tmp_path, "init").returncode == 0
    assert run_command(tmp_path, "check", OPENAI_API_KEY="sk-x").returncode == 0
    again = run_command(tmp_path, "init")
    assert again.returncode == 1
    assert "config.yaml" in again.stderr


def test_port_and_key_of_the_environment(tmp_path: Path) -> None:
    """The environment's key is nobody's: served, on the log, and billed to no one."""
    environment = {"PORT": str(free_port()), "PROXY_API_KEY": ENVIRONMENT_KEY}
    with GatewayProcess(tmp_path, config=QUICK, arguments=(), environment=environment) as gateway:
        assert gateway.port == int(environment["PORT"])
        with gateway.bill() as bill:
            for dialect in DIALECTS:
                headers = dialect.authorize(ENVIRONMENT_KEY)
                answer = ask(gateway.port, "POST", dialect.path, body=dialect.ask("hi"), headers=headers)
                assert answer.status == 200
        assert [(charge.username, charge.key_id) for charge in bill] == [("", "environment")] * 2
        assert all(charge.cost_nusd > 0 for charge in bill)
        assert gateway.ask("POST", "/reload", authorization=f"Bearer {ENVIRONMENT_KEY}").status == 200
    page = gateway.books.read()
    assert {entry.kind for entry in page.ledger.values()} == {"purchase"}


def configured(*models: str, price: float = 1.0) -> dict[str, Any]:
    pricing = {"input": price, "output": price}
    return {**QUICK, "models": [{"id": name, "upstream": "demo", "pricing": pricing} for name in models]}


def models_of(gateway: GatewayProcess) -> list[str]:
    return [model["id"] for model in gateway.ask("GET", "/v1/models").json()["data"]]


def test_a_reload_takes_models_and_prices(tmp_path: Path) -> None:
    with GatewayProcess(tmp_path, config=configured("first")) as gateway:
        assert models_of(gateway) == ["first", "demo"]
        gateway.write_config(configured("first", "second", price=3.0))
        assert models_of(gateway) == ["first", "demo"]
        assert gateway.ask("POST", "/reload").json() == {"status": "reloaded"}
        assert models_of(gateway) == ["first", "second", "demo"]
        with gateway.bill() as bill:
            assert gateway.ask("POST", OPENAI.path, OPENAI.ask("#demo tokens=5", model="first")).status == 200
        assert bill[0].cost_nusd == 3000 * (bill[0].usage.uncached + 5)


def test_a_hangup_reloads(tmp_path: Path) -> None:
    with GatewayProcess(tmp_path, config=configured("first")) as gateway:
        gateway.write_config(configured("first", "second"))
        gateway.signal(signal.SIGHUP)
        wait_until(lambda: "second" in models_of(gateway), within_s=5, what="the new model")
        gateway.config_path.write_text("models: 7")
        gateway.signal(signal.SIGHUP)
        wait_until(lambda: "not reloaded" in gateway.log, within_s=5, what="the refusal in the log")
        assert "config.yaml: models: " in gateway.log
        assert models_of(gateway) == ["first", "second", "demo"]


def test_a_bad_file_at_a_reload_changes_nothing(tmp_path: Path) -> None:
    with GatewayProcess(tmp_path, config=configured("first")) as gateway:
        for text in ("models: 7", "models: [", "limts: {}"):
            gateway.config_path.write_text(text)
            answer = gateway.ask("POST", "/reload")
            assert (answer.status, answer.json()["error"]["code"]) == (400, "bad_configuration")
            assert answer.json()["error"]["message"].startswith("config.yaml: ")
            assert models_of(gateway) == ["first", "demo"]
            assert gateway.ask("POST", OPENAI.path, OPENAI.ask("hi", model="first")).status == 200


def try_key(gateway: GatewayProcess, dialect: Dialect, key: str) -> tuple[int, str]:
    answer = ask(gateway.port, "POST", dialect.path, body=dialect.ask("hi"), headers=dialect.authorize(key))
    error = answer.json().get("error", {})
    return answer.status, error.get("code") or error.get("details", {}).get("code", "")


def test_a_revoked_key_stops_at_the_reload(tmp_path: Path) -> None:
    with GatewayProcess(tmp_path, config=QUICK) as gateway:
        key, key_id = issue(gateway, "key-add", "admin", "--name", "laptop")
        friend, friend_id = issue(gateway, "friend-key-add", "admin", "--model", "demo")
        assert try_key(gateway, OPENAI, key) == try_key(gateway, OPENAI, friend) == (200, "")
        gateway.command("key-revoke", key_id)
        gateway.command("key-revoke", friend_id)
        assert gateway.ask("POST", "/reload").status == 200
        for refused in (key, friend):
            assert try_key(gateway, OPENAI, refused) == (401, "key_revoked")
            assert try_key(gateway, ANTHROPIC, refused) == (401, "key_revoked")
        assert try_key(gateway, OPENAI, gateway.key) == (200, "")
        listed = gateway.command("keys", "admin")
        assert [line.split()[2] for line in listed.splitlines() if key_id in line or friend_id in line] == [
            "revoked",
            "revoked",
        ]


def test_a_rotated_key_and_its_successor(tmp_path: Path) -> None:
    with GatewayProcess(tmp_path, config=QUICK) as gateway:
        old, key_id = issue(gateway, "key-add", "admin", "--tier", "pro")
        assert try_key(gateway, OPENAI, old) == (200, "")
        new, new_id = issue(gateway, "key-rotate", key_id)
        assert try_key(gateway, OPENAI, new) == (200, "")
        assert gateway.ask("POST", "/reload").status == 200
        assert try_key(gateway, OPENAI, old) == (401, "invalid_api_key")
        listed = gateway.command("keys", "admin")
        assert key_id not in listed
        assert f"{new_id:34} pro" in listed


def test_credit_reaches_a_running_gateway_at_the_reload(tmp_path: Path) -> None:
    with GatewayProcess(tmp_path, config=QUICK) as gateway:
        gateway.command("user-add", "ann")
        key, _ = issue(gateway, "key-add", "ann")
        assert try_key(gateway, OPENAI, key) == (402, "insufficient_credits")
        gateway.command("user-credit", "ann", "2.50", "--wallet", "legacy")
        assert gateway.ask("POST", "/reload").status == 200
        assert try_key(gateway, OPENAI, key) == (200, "")
        gateway.settle()
        assert "ann" in gateway.command("users")
