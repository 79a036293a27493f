"""The configuration is read again by itself: what changes is taken over, and what is known of keys is kept."""

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from tests.e2e.native import Said, answer, error
from tests.e2e.process import GatewayProcess, wait_until
from tests.e2e.vendors import Vendors

WITHIN_S = 15.0


@pytest.fixture
def vendors() -> Iterator[Vendors]:
    with Vendors() as running:
        yield running


def config(vendors: Vendors, *keys: str) -> dict[str, Any]:
    named = [{"id": key, "key": f"secret-{key}"} for key in keys]
    return {
        "demo": False,
        "upstreams": {"acme": {"baseUrl": vendors.url, "type": "openai", "keys": named}},
        "models": [{"id": "m", "upstream": "acme", "pricing": {"input": 3.0, "output": 15.0}}],
        "retry": {"tries": 1},
    }


def ask(running: GatewayProcess) -> int:
    body = {"model": "m", "messages": [{"role": "user", "content": "hi"}], "max_tokens": 5}
    return running.ask("POST", "/v1/chat/completions", body).status


def keys(running: GatewayProcess) -> dict[str, str]:
    shown = running.ask("GET", "/keys/status").json()["providers"]["acme"]
    return {key["key"]: key["state"] for key in shown}


def test_keys_of_a_changed_file_are_taken_over_and_health_is_kept(tmp_path: Path, vendors: Vendors) -> None:
    environment = {"BINDING_RELOAD_INTERVAL": "200ms"}
    with GatewayProcess(tmp_path, config=config(vendors, "old", "gone"), environment=environment) as running:
        vendors.play(error("openai", 401))
        assert ask(running) == 502
        assert keys(running) == {"old": "resting", "gone": "healthy"}
        running.write_config(config(vendors, "old", "new"))
        wait_until(lambda: "new" in keys(running), within_s=WITHIN_S, what="the new key")
        assert keys(running) == {"old": "resting", "new": "healthy"}
        assert "the configuration has changed" in running.log
        vendors.play(answer("openai", Said(text="Hello")))
        assert ask(running) == 200
        assert vendors.seen[-1].headers["authorization"] == "Bearer secret-new"


def test_a_file_that_went_bad_changes_nothing_and_is_read_again(tmp_path: Path, vendors: Vendors) -> None:
    with GatewayProcess(tmp_path, config=config(vendors, "old") | {"reloadInterval": "200ms"}) as running:
        running.write_config(config(vendors, "new") | {"models": "none"})
        wait_until(lambda: "the configuration was not read" in running.log, within_s=WITHIN_S, what="a word of it")
        assert keys(running) == {"old": "healthy"}
        running.write_config(config(vendors, "new"))
        wait_until(lambda: keys(running) == {"new": "healthy"}, within_s=WITHIN_S, what="the new key")
        vendors.play(answer("openai", Said(text="Hello")))
        assert ask(running) == 200
