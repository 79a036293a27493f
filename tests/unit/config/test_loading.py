"""What a configuration may say, who wins where sources disagree, and how each mistake is named."""

import re
from contextlib import suppress
from pathlib import Path

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from trollproxy.config import loading, settings
from trollproxy.config.loading import ConfigError, load, pick_path
from trollproxy.config.text import parse_tree

DOC = Path(__file__).parents[3] / "docs" / "configuration.md"
SEED = """{"port": 8080, "models": [{"id": "claude-sonnet-4-20250514", "type": "anthropic", "upstream": "main",
  "pricing": {"input": 3.0, "output": 15.0, "cacheWrite": 3.75, "cacheHit": 0.30}, "billingMultiplier": 1.05}]}"""
SEED_ENV = {"MAIN_TARGET_SERVER": "https://api.example.com", "MAIN_UPSTREAM_KEY": "sk-main"}
PRICING = "pricing: {input: 1, output: 2}"
LOCAL = "upstreams: {local: {baseUrl: 'http://localhost:1', type: openai}}"
SECRET = "CANARY-secret-0123456789"  # planted, to be looked for


@pytest.fixture
def read(tmp_path):
    def read_text(text, env=None, **overrides):
        path = tmp_path / "c.yaml"
        path.write_text(text)
        return load(str(path), env or {}, overrides)

    return read_text


# What is read


def test_defaults_serve_the_demo_from_sqlite():
    found = load(None, {}, {})
    assert (found.demo, found.mongodb_uri, found.data_dir, found.port) == (True, None, "./data", 8080)
    assert found == settings.Settings()


def test_the_seeds_file_loads_as_it_is(read):
    found = read(SEED, SEED_ENV)
    assert found.models[0].pricing.cache_hit_nusd == 300_000_000
    assert found.models[0].billing_multiplier_micro == 1_050_000
    main = found.upstreams["main"]
    assert (main.base_url, main.api_key, main.spoken) == (
        "https://api.example.com",
        "sk-main",
        ("openai", "anthropic"),
    )


def test_flags_win_over_the_environment_and_it_over_the_file(read):
    text = "port: 1\nhost: file\nreloadInterval: 9s\nlog: {format: json}"
    env = {"PORT": "2", "BINDING_RELOAD_INTERVAL": "500ms"}
    assert read(text).port == 1
    assert read(text, env).port == 2
    found = read(text, env, port=3, host=None, log_level="error")
    assert (found.port, found.host, found.reload_interval_s) == (3, "file", 0.5)
    assert (found.log.format, found.log_level) == ("json", "error")
    assert found.listeners == (settings.Listener(port=3, wallet="legacy"),)


@pytest.mark.parametrize(
    ("variable", "text", "field", "value"),
    [
        ("MONGODB_URI", "mongodb://u:p@h/db", "mongodb_uri", "mongodb://u:p@h/db"),
        ("DEBUG", "true", "debug", True),
        ("DEBUG", "0", "debug", False),
        ("DEBUG", "Yes", "debug", True),
        ("PORT", "", "port", 8080),
        ("PROXY_API_KEY", SECRET, "proxy_api_key", SECRET),
        ("TROLLPROXY_PEPPER", SECRET, "pepper", SECRET),
        ("BINDING_RELOAD_INTERVAL", "45", "reload_interval_s", 45.0),
    ],
)
def test_environment(variable, text, field, value):
    assert getattr(load(None, {variable: text}, {}), field) == value


def test_debug_is_a_log_level():
    assert load(None, {"DEBUG": "1"}, {}).log_level == "debug"
    assert load(None, {}, {}).log_level == "info"


def test_variables_are_filled_in(read):
    text = """
    host: ${HOST}
    port: ${PORT_:-81}
    dataDir: "${EMPTY:-/var}/${HOST}"
    mongodbUri: ${NOTHING:-}
    models: [{id: "$${x}", pricing: {input: "${PRICE}", output: 1}, upstream: demo}]
    """
    found = read(text, {"HOST": "h", "EMPTY": "", "PRICE": "0.1"})
    assert (found.host, found.port, found.data_dir, found.mongodb_uri) == ("h", 81, "/var/h", None)
    assert (found.models[0].id, found.models[0].pricing.input_nusd) == ("${x}", 100_000_000)


def test_main_key_replaces_and_troll_key_follows_the_files_keys(read):
    text = """
    upstreams:
      main: {baseUrl: "http://old", keys: [a, b]}
      openhands: {keys: [k1, {id: spare, key: k2}]}
    """
    found = read(text, SEED_ENV | {"TROLL_API_KEY": "k3"}).upstreams
    assert found["main"].named_keys("main") == (("main-1", "sk-main"),)
    assert found["main"].base_url == "https://api.example.com"
    keys = (("openhands-1", "k1"), ("spare", "k2"), ("openhands-3", "k3"))
    assert found["openhands"].named_keys("openhands") == keys
    assert found["openhands"].base_url == loading.OPENHANDS_URL
    single = read("upstreams: {openhands: {apiKey: k1}}", {"TROLL_API_KEY": "k2"}).upstreams["openhands"]
    assert [key for _, key in single.named_keys("o")] == ["k1", "k2"]


@pytest.mark.parametrize(
    ("named", "env", "served_by"),
    [
        ("", {"TROLL_API_KEY": "k"} | SEED_ENV, "openhands"),
        ("", SEED_ENV, "main"),
        (", upstream: troll", {"TROLL_API_KEY": "k"}, "openhands"),
        (", upstream: demo", {}, "demo"),
        (", upstream: main", SEED_ENV | {"TROLL_API_KEY": "k"}, "main"),
    ],
)
def test_which_upstream_serves_a_model(read, named, env, served_by):
    found = read(f"models: [{{id: m, {PRICING}{named}}}]", env)
    assert found.upstream_of(found.models[0]) == served_by


def test_fallback_upstream_can_be_named(read):
    found = read(f"{LOCAL}\nfallbackUpstream: local\nmodels: [{{id: m, {PRICING}}}]", SEED_ENV)
    assert found.upstream_of(found.models[0]) == "local"


def test_listeners_say_which_wallet(read):
    found = read("listeners: [{port: 8005, wallet: legacy}, {port: 8004, wallet: new}]")
    assert [(listener.port, listener.wallet) for listener in found.listeners] == [(8005, "legacy"), (8004, "new")]


def test_trusted_networks(read):
    assert "10.1.2.3" in map(str, read("trustedProxies: [10.1.2.3/32]").trusted_networks[0])
    assert read("trustedProxies: [10.1.2.3]").trusted_proxies == ("10.1.2.3/32",)


@pytest.mark.parametrize("text", ["", "# nothing", "{}", "\ufeff{}", '{\n\t"port":\t8080\n}', "{port: 8080}"])
def test_yaml_and_json_are_told_apart_by_content(read, text):
    assert read(text) == settings.Settings()


def test_yaml_merge_keys_may_be_overridden():
    text = "a: &a {x: 1, y: 2}\nb: {<<: *a, x: 3}"
    assert parse_tree(text, file="f", env={})["b"] == {"x": 3, "y": 2}


def test_pick_path(tmp_path):
    folder = str(tmp_path)
    assert pick_path("a", {"CONFIG_PATH": "b"}, folder=folder) == "a"
    assert pick_path(None, {"CONFIG_PATH": "b"}, folder=folder) == "b"
    assert pick_path(None, {"CONFIG_PATH": ""}, folder=folder) is None
    (tmp_path / "config.json").write_text("{}")
    assert pick_path(None, {}, folder=folder) == str(tmp_path / "config.json")


@given(st.text(alphabet="{}[]:,-\"'$ \n\tab1&*<!#|>?%@"))
def test_any_file_is_read_or_refused(text):
    with suppress(ConfigError):
        assert isinstance(parse_tree(text, file="f", env={}), dict)


# The document


def _sections() -> list[type[settings.Section]]:
    return [kind for kind in vars(settings).values() if isinstance(kind, type) and issubclass(kind, settings.Section)]


def test_every_setting_is_documented():
    text = DOC.read_text()
    fields = {field.encode_name for kind in _sections() for field in msgspec.structs.fields(kind)}
    assert len(fields) > 60
    assert [name for name in sorted(fields) if f"`{name}`" not in text] == []


def test_every_variable_and_flag_is_documented():
    text = DOC.read_text()
    for variable in [*loading._VARIABLES, "CONFIG_PATH", "MAIN_UPSTREAM_KEY", "TROLL_API_KEY"]:
        assert f"`{variable}`" in text
    for name in loading._OVERRIDES:
        assert f"`--{name.replace('_', '-')}`" in text


EXAMPLES = re.findall(r"```(?:yaml|json)\n(.*?)```", DOC.read_text(), re.DOTALL)


@pytest.mark.parametrize("text", EXAMPLES)
def test_the_documents_examples_load(read, text):
    assert read(text, SEED_ENV).models


def test_there_are_examples():
    assert len(EXAMPLES) == 5
