"""What is seen of keys and breakers from outside the process: in `/keys/status`, `/metrics` and the log."""

import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from tests.e2e.native import Said, answer, error
from tests.e2e.process import GatewayProcess, wait_until
from tests.e2e.vendors import Vendors

PRICES = {"input": 3.0, "output": 15.0}
WITHIN_S = 20.0
FAILURES = 20  # so many open a breaker


@pytest.fixture
def vendors() -> Iterator[Vendors]:
    with Vendors() as running:
        yield running


def gateway(folder: Path, vendors: Vendors, **more: Any) -> GatewayProcess:
    """One provider with one key, and nobody who tries twice."""
    config = {
        "demo": False,
        "upstreams": {"acme": {"baseUrl": vendors.url, "type": "openai", "keys": [{"id": "only", "key": "secret"}]}},
        "models": [{"id": "m", "upstream": "acme", "pricing": PRICES}],
        "retry": {"tries": 1},
        "log": {"format": "text"},
        **more,
    }
    return GatewayProcess(folder, config=config)


def ask(running: GatewayProcess) -> tuple[int, str]:
    body = {"model": "m", "messages": [{"role": "user", "content": "hi"}], "max_tokens": 5}
    told = running.ask("POST", "/v1/chat/completions", body)
    return told.status, "ok" if told.status == 200 else told.json()["error"]["code"]


def status(running: GatewayProcess) -> Any:
    return running.ask("GET", "/keys/status").json()


def key_state(running: GatewayProcess) -> str:
    [key] = status(running)["providers"]["acme"]
    return str(key["state"])


def gauge(running: GatewayProcess, name: str, **labels: str) -> float:
    written = ",".join(f'{label}="{value}"' for label, value in sorted(labels.items()))
    return running.metrics().get(f"trollproxy_{name}{{{written}}}", 0.0)


def wait_until_told(running: GatewayProcess, text: str, **fields: str) -> None:
    """Until the log has a line with this event and these fields: lines are written a moment after what they tell."""

    def is_told() -> bool:
        lines = [line for line in running.log.splitlines() if text in line]
        return any(all(re.search(rf"\b{name}={value}\b", line) for name, value in fields.items()) for line in lines)

    wait_until(is_told, within_s=WITHIN_S, what=f"the log tells that {text}: {fields}")


def test_a_key_is_seen_to_rest_to_be_probed_and_to_be_well(tmp_path: Path, vendors: Vendors) -> None:
    with gateway(tmp_path, vendors) as running:
        vendors.play(error("openai", 429, retry_after="1"))
        assert ask(running) == (429, "upstream_rate_limited")
        [key] = status(running)["providers"]["acme"]
        assert (key["key"], key["state"], key["cause"], key["is_healthy"]) == ("only", "resting", "rate", False)
        assert 0 < key["rests_for_s"] <= 1
        assert gauge(running, "upstream_keys", provider="acme", state="resting") == 1
        assert gauge(running, "upstream_keys", provider="acme", state="healthy") == 0
        wait_until(lambda: key_state(running) == "half_open", within_s=WITHIN_S, what="a probe that is due")
        assert gauge(running, "upstream_keys", provider="acme", state="half_open") == 1
        vendors.play(answer("openai", Said(text="Hello")))
        assert ask(running) == (200, "ok")
        assert key_state(running) == "healthy"
        assert gauge(running, "upstream_keys", provider="acme", state="healthy") == 1
        causes = {"resting": "rate", "half_open": "rate", "healthy": ""}
        for change, cause in causes.items():
            assert gauge(running, "upstream_key_changes_total", provider="acme", change=change, cause=cause) == 1, (
                change
            )
            wait_until_told(running, "an upstream key changed", id="only", change=change)
        assert len(vendors.seen) == 2


def test_a_key_that_is_lost_and_its_backup(tmp_path: Path, vendors: Vendors) -> None:
    """A refused key rests; its backup, which stood by, serves at once."""
    keys = [{"id": "first", "key": "secret"}, {"id": "spare", "key": "other", "backup": True}]
    upstream = {"baseUrl": vendors.url, "type": "openai", "keys": keys}
    with gateway(tmp_path, vendors, upstreams={"acme": upstream}, retry={"tries": 2}) as running:
        assert gauge(running, "upstream_keys", provider="acme", state="standing_by") == 1
        vendors.play(error("openai", 401), answer("openai", Said(text="Hello")))
        assert ask(running) == (200, "ok")
        states = {key["key"]: (key["state"], key["cause"]) for key in status(running)["providers"]["acme"]}
        assert states == {"first": ("resting", "auth"), "spare": ("standing_by", None)}
        assert [seen.headers["authorization"] for seen in vendors.seen] == ["Bearer secret", "Bearer other"]


def test_a_breaker_is_seen_to_open_and_to_close(tmp_path: Path, vendors: Vendors) -> None:
    with gateway(tmp_path, vendors) as running:
        vendors.play(*(error("openai", 500) for _ in range(FAILURES)))
        assert {ask(running) for _ in range(FAILURES)} == {(502, "upstream_failed")}
        assert status(running)["breakers"] == {"acme": {"m": "open"}}
        assert gauge(running, "breakers_open", provider="acme") == 1
        asked = len(vendors.seen)
        assert ask(running) == (503, "upstream_breaker_open")
        assert len(vendors.seen) == asked
        vendors.play(answer("openai", Said(text="Hello")))
        wait_until(lambda: ask(running) == (200, "ok"), within_s=WITHIN_S, what="the breaker lets one through")
        assert len(vendors.seen) == asked + 1
        assert status(running)["breakers"] == {}
        assert gauge(running, "breakers_open", provider="acme") == 0
        for state in ("open", "half_open", "closed"):
            assert gauge(running, "breaker_changes_total", provider="acme", state=state) == 1, state
        for state in ("open", "closed"):
            wait_until_told(running, "a breaker changed", provider="acme", model="m", state=state)
