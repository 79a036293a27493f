"""How each mistake in a configuration is named, and that no secret is shown, in errors or otherwise."""

import json

import pytest

from trollproxy.config.loading import ConfigError, load

SEED_ENV = {"MAIN_TARGET_SERVER": "https://api.example.com", "MAIN_UPSTREAM_KEY": "sk-main"}
PRICING = "pricing: {input: 1, output: 2}"
SECRET = "CANARY-secret-0123456789"  # planted, to be looked for


@pytest.fixture
def read(tmp_path):
    def read_text(text, env=None, **overrides):
        path = tmp_path / "c.yaml"
        path.write_text(text)
        return load(str(path), env or {}, overrides)

    return read_text


# What is refused

MODEL_ERRORS = [
    ("{id: m}", "models[0].pricing", "is required"),
    (f"{{{PRICING}}}", "models[0].id", "is required"),
    ("{id: m, pricing: {input: 1}}", "models[0].pricing.output", "is required"),
    ("{id: m, pricing: {inptu: 1}}", "models[0].pricing.inptu", "unknown field; did you mean `input`?"),
    ("{id: m, pricing: {input: -1, output: 1}}", "models[0].pricing.input", "must be from 0 to 1000000"),
    ("{id: m, pricing: {input: .nan, output: 1}}", "models[0].pricing.input", "must be a finite number"),
    ("{id: m, pricing: {input: .inf, output: 1}}", "models[0].pricing.input", "must be a finite number"),
    ("{id: m, pricing: {input: true, output: 1}}", "models[0].pricing.input", "is not a number of US dollars"),
    ("{id: m, pricing: {input: '0.0000000001', output: 1}}", "models[0].pricing.input", "has more than 9 decimals"),
    ("{id: m, pricing: {input: '1e-999999', output: 1}}", "models[0].pricing.input", "has more than 9 decimals"),
    (f"{{id: m, {PRICING}, billingMultiplier: 0}}", "models[0].billingMultiplier", "must be above 0 and at most 1000"),
    (f"{{id: m, {PRICING}, billingMultiplier: 1001}}", "models[0].billingMultiplier", "must be above 0 and at most"),
    (f"{{id: m, {PRICING}, billingMultiplier: 1.0000001}}", "models[0].billingMultiplier", "more than 6 decimals"),
    (f"{{id: m, {PRICING}, size: MIDDLE}}", "models[0].size", "must be one of SMALL, BIG"),
    (f"{{id: m, {PRICING}, type: cohere}}", "models[0].type", "must be one of openai, responses, anthropic, gemini"),
    (f"{{id: m, {PRICING}, wallet: old}}", "models[0].wallet", "must be one of legacy, new"),
    (f"{{id: 'a*b', {PRICING}}}", "models[0].id", "with '*' only at the end"),
    (f"{{id: '', {PRICING}}}", "models[0].id", "must be 1 to 256 visible ASCII characters"),
    (f"{{id: m, {PRICING}, maxOutputTokens: 0}}", "models[0].maxOutputTokens", "expected `int` >= 1"),
    (f"{{id: m, {PRICING}, upstream: nowhere}}", "models[0].upstream", "no upstream `nowhere`; known: demo"),
    (f"{{id: m, {PRICING}, upstream: main}}", "models[0].upstream", "when MAIN_TARGET_SERVER is set"),
    (f"{{id: m, {PRICING}, upstream: troll}}", "models[0].upstream", "when TROLL_API_KEY is set"),
    (f"{{id: m, {PRICING}}}", "models[0].upstream", "is required, since there is no upstream to fall back to"),
    (f"{{id: m, {PRICING}, upstream: demo, fallbacks: [demo]}}", "models[0].fallbacks[0]", "serves this model"),
    (f"{{id: m, {PRICING}, upstream: demo, fallbacks: [x]}}", "models[0].fallbacks[0]", "there is no upstream `x`"),
    (f"{{id: m, {PRICING}, upstream: demo, fallbacks: [{{}}]}}", "models[0].fallbacks[0].upstream", "is required"),
    (f"{{id: m, {PRICING}, upstream: demo, race: 2}}", "models[0].race", "more than the upstreams"),
    (f"{{id: m, {PRICING}, upstream: demo, race: 0}}", "models[0].race", ">= 1"),
    (f"{{id: m, {PRICING}, upstream: demo}}, {{id: m, {PRICING}, upstream: demo}}", "models[1].id", "earlier model"),
]


@pytest.mark.parametrize(("models", "path", "reason"), MODEL_ERRORS)
def test_model_errors(read, tmp_path, models, path, reason):
    with pytest.raises(ConfigError) as caught:
        read(f"models: [{models}]")
    assert (caught.value.file, caught.value.path) == (str(tmp_path / "c.yaml"), path)
    assert reason in caught.value.reason


URL = "baseUrl: 'http://h', type: openai"
UPSTREAM_ERRORS = [
    ("type: openai", ".baseUrl", "is required"),
    (f"{URL}, throttle: {{}}", ".throttle", "limits nothing"),
    (f"{URL}, throttle: {{maxQueue: 5}}", ".throttle", "limits nothing"),
    (f"{URL}, throttle: {{perMinute: 0}}", ".throttle.perMinute", ">= 1"),
    ("baseUrl: 'ftp://h'", ".baseUrl", "must begin with http:// or https://"),
    ("baseUrl: h.example", ".baseUrl", "must begin with http"),
    ("baseUrl: 'https://'", ".baseUrl", "has no valid host and port"),
    ("baseUrl: 'https://h:99999'", ".baseUrl", "has no valid host and port"),
    ("baseUrl: 'https://h:0'", ".baseUrl", "has no valid host and port"),
    ("baseUrl: 'https://u:p@h'", ".baseUrl", "must not hold a user or password"),
    ("baseUrl: 'https://h/?a=b'", ".baseUrl", "must not hold a query"),
    ("baseUrl: 'https://h/#a'", ".baseUrl", "must not hold a fragment"),
    ("baseUrl: 'https://h/a b'", ".baseUrl", "must be a URL"),
    ("baseUrl: 'https://h'", ".formats", "is required"),
    ("baseUrl: 'https://h', formats: []", ".formats", "is required"),
    (f"{URL}, formats: [openai]", ".formats", "stands beside `type`"),
    ("baseUrl: 'https://h', formats: [openai, openai]", ".formats[1]", "is given twice"),
    ("baseUrl: 'https://h', formats: [cohere]", ".formats[0]", "must be one of openai, responses, anthropic, gemini"),
    (f"{URL}, apiKey: a, keys: [b]", ".apiKey", "stands beside `keys`"),
    (f"{URL}, apiKey: ''", ".apiKey", "not empty"),
    (f"{URL}, keys: ['a b']", ".keys[0]", "without spaces"),
    (f"{URL}, keys: [{{key: a, backup: true}}]", ".keys[0].backup", "leaves no key to begin with"),
    (f"{URL}, keys: [{{id: a}}]", ".keys[0].key", "is required"),
    (f"{URL}, keys: [{{key: a, id: a}}]", ".keys[0].id", "ids are public"),
    (f"{URL}, keys: [a, {{key: b, id: local-1}}]", ".keys[1].id", "is the id of an earlier key"),
    (f"{URL}, keys: no-list", ".keys", "expected a list, got `str`"),
    (f"{URL}, headers: {{'a b': c}}", ".headers.a b", "is not the name of a header"),
    (f"{URL}, headers: {{Host: c}}", ".headers.Host", "is set by the gateway itself"),
    (f'{URL}, headers: {{X-A: "a\\r\\nb: c"}}', ".headers.X-A", "visible ASCII"),
    (f"{URL}, headers: {{ok: c, X-A: 5}}", ".headers.X-A", "visible ASCII"),
    (f"{URL}, headers: {{X-A: a, x-a: b}}", ".headers.x-a", "is given twice"),
    (f"{URL}, paths: {{openai: chat}}", ".paths.openai", "begins with '/'"),
    (f"{URL}, paths: {{anthropic: /m}}", ".paths.anthropic", "does not speak"),
    (f"{URL}, timeouts: {{connect: 0}}", ".timeouts.connect", "must be above zero and at most 24h"),
    (f"{URL}, timeouts: {{first_byte: 3}}", ".timeouts.first_byte", "did you mean `firstByte`?"),
]


@pytest.mark.parametrize(("fields", "path", "reason"), UPSTREAM_ERRORS)
def test_upstream_errors(read, tmp_path, fields, path, reason):
    with pytest.raises(ConfigError) as caught:
        read(f"upstreams: {{fine: {{{URL}}}, local: {{{fields}}}}}")
    assert (caught.value.file, caught.value.path) == (str(tmp_path / "c.yaml"), "upstreams.local" + path)
    assert reason in caught.value.reason


ERRORS = [
    ("prot: 80", "prot", "unknown field; did you mean `port`?"),
    ("zzzzzz: 80", "zzzzzz", "unknown field; known: host, port"),
    ("port: 65536", "port", "expected `int` <= 65535"),
    ("port: -1", "port", "expected `int` >= 0"),
    ("port: eighty", "port", "expected `int`, got `str`"),
    ("port: 80\nlisteners: [{port: 81, wallet: new}]", "port", "stands beside `listeners`"),
    ("listeners: []", "listeners", "needs at least one listener"),
    ("listeners: [{port: 81}]", "listeners[0].wallet", "is required"),
    ("listeners: [{port: 1, wallet: new}, {port: 1, wallet: legacy}]", "listeners[1].port", "is listened on twice"),
    ("host: ''", "host", "length >= 1"),
    ("models:", "models", "expected a list, got nothing"),
    ("upstreams: []", "upstreams", "expected a mapping, got a list"),
    ("upstreams: {a: 5}", "upstreams.a", "expected a mapping, got `int`"),
    (f"upstreams: {{demo: {{{URL}}}}}", "upstreams.demo", "is the built-in upstream"),
    (f"upstreams: {{'a b': {{{URL}}}}}", "upstreams.a b", "a name must be 1 to 64 letters"),
    ("fallbackUpstream: x", "fallbackUpstream", "there is no upstream `x`; known: demo"),
    ("demo: false\nfallbackUpstream: demo", "fallbackUpstream", "unless `demo` is false"),
    ("trustedProxies: [10.0.0.1/8]", "trustedProxies[0]", "no bits may be set behind the prefix"),
    ("reloadInterval: 3x", "reloadInterval", "is not a duration"),
    ("drainTimeout: 25h", "drainTimeout", "at most 24h"),
    ("limits: {maxBodyBytes: 32 MiX}", "limits.maxBodyBytes", "is not a size"),
    ("limits: {maxBodyBytes: 2GiB}", "limits.maxBodyBytes", "must be from 1KiB to 1GiB"),
    ("limits: {maxBodyBytes: 1024.5}", "limits.maxBodyBytes", "is not a whole number of bytes"),
    ("log: {level: loud}", "log.level", "must be one of debug, info, warning, error"),
    ("billing: {bytesPerToken: 0}", "billing.bytesPerToken", "expected `int` >= 1"),
    ("proxyApiKey: short", "proxyApiKey", "must have at least 16 characters"),
    ("pepper: short", "pepper", "must have at least 16 characters"),
    ("mongodbUri: postgres://x", "mongodbUri", "must begin with mongodb://"),
    ("host: ${NOPE}", "host", "the environment variable NOPE is not set"),
    (f"models: [{{id: '${{NOPE}}', {PRICING}}}]", "models[0].id", "the environment variable NOPE is not set"),
    ("host: ${", "host", "a reference must read ${NAME}"),
    ("host: ${a-b}", "host", "a reference must read ${NAME}"),
    ("port: 1\nport: 2", "line 2", "key `port` is given twice"),
    ('{"port": 1, "port": 2}', "port", "key `port` is given twice"),
    ('{"limits": {"devRpm": 1, "devRpm": 2}}', "devRpm", "key `devRpm` is given twice"),
    ("{port: 1, port: 2}", "line 1", "key `port` is given twice"),
    ("1: 2", "line 1", "a key must be text"),
    ("a: {x`y: 1}", "a", "a key must not hold a backtick"),
    ("- a", "", "must be a mapping of settings"),
    ("port: [", "line 1, column 8", "is not valid YAML"),
    ('{"port": 1,, }', "line 1, column 12", "is not valid JSON"),
    ('{"port": NaN}', "", "NaN and Infinity"),
    ("host: 2025-13-45", "", "is not valid YAML"),
    ("host: \x00", "", "is not valid YAML"),
    ("host: &a [*a]", "", "is nested too deeply"),
    ("a: " + "[" * 1000, "", "is nested too deeply"),
]


@pytest.mark.parametrize(("text", "path", "reason"), ERRORS)
def test_errors(read, tmp_path, text, path, reason):
    with pytest.raises(ConfigError) as caught:
        read(text)
    assert (caught.value.file, caught.value.path) == (str(tmp_path / "c.yaml"), path)
    assert reason in caught.value.reason
    assert str(caught.value).endswith(caught.value.reason)


@pytest.mark.parametrize(
    ("env", "overrides", "source", "name", "reason"),
    [
        ({"PORT": "99999"}, {}, "environment", "PORT", "<= 65535"),
        ({"DEBUG": "maybe"}, {}, "environment", "DEBUG", "expected `bool`"),
        ({"BINDING_RELOAD_INTERVAL": "0s"}, {}, "environment", "BINDING_RELOAD_INTERVAL", "above zero"),
        ({"PROXY_API_KEY": "xxx"}, {}, "environment", "PROXY_API_KEY", "at least 16"),
        ({"MAIN_TARGET_SERVER": "x"}, {}, "environment", "MAIN_TARGET_SERVER", "must begin with http"),
        (SEED_ENV | {"MAIN_UPSTREAM_KEY": "a b"}, {}, "environment", "MAIN_UPSTREAM_KEY", "without spaces"),
        ({"TROLL_API_KEY": "a b"}, {}, "environment", "TROLL_API_KEY", "without spaces"),
        ({"PORT": "80"}, {"port": 70_000}, "command line", "--port", "<= 65535"),
        ({}, {"log_format": "xml"}, "command line", "--log-format", "must be one of text, json"),
    ],
)
def test_errors_name_the_variable_or_flag(env, overrides, source, name, reason):
    with pytest.raises(ConfigError) as caught:
        load(None, env, overrides)
    assert (caught.value.file, caught.value.path) == (source, name)
    assert reason in caught.value.reason


def test_a_stray_port_variable_does_not_replace_listeners(read):
    with pytest.raises(ConfigError, match="environment: PORT: stands beside"):
        read("listeners: [{port: 81, wallet: new}]", {"PORT": "80"})


def test_a_section_of_the_wrong_kind_is_refused_when_merging(read):
    with pytest.raises(ConfigError, match="log: expected a mapping"):
        read("log: loud", log_format="json")
    with pytest.raises(ConfigError, match="upstreams: expected a mapping"):
        read("upstreams:", SEED_ENV)
    with pytest.raises(ConfigError, match=r"upstreams.openhands.keys: expected a list"):
        read("upstreams: {openhands: {keys: 5}}", {"TROLL_API_KEY": "k"})


def test_files_that_cannot_be_read(tmp_path):
    missing = str(tmp_path / "none.yaml")
    with pytest.raises(ConfigError, match="cannot be read: No such file") as caught:
        load(missing, {}, {})
    assert caught.value.file == missing
    (tmp_path / "latin.yaml").write_bytes(b"host: \xff")
    with pytest.raises(ConfigError, match="is not UTF-8 text"):
        load(str(tmp_path / "latin.yaml"), {}, {})


# Secrets


def test_secrets_are_masked_wherever_settings_are_shown(read):
    text = f"""
    mongodbUri: mongodb://user:{SECRET}@h/db
    proxyApiKey: {SECRET}
    pepper: {SECRET}
    upstreams:
      local: {{{URL}, keys: [{SECRET}, {{id: b, key: {SECRET}}}], headers: {{X-Key: {SECRET}}}}}
    """
    found = read(text, {"MAIN_TARGET_SERVER": "http://h", "MAIN_UPSTREAM_KEY": SECRET, "TROLL_API_KEY": SECRET})
    shown = found.describe()
    assert SECRET not in repr(found) + json.dumps(shown)
    assert shown["pepper"] == "***"
    assert shown["upstreams"]["local"]["headers"] == {"X-Key": "***"}


def _places() -> list[str]:
    return [
        *(f"{name}: {SECRET}\n" for name in ("port", "reloadInterval", "mongodbUri", "trustedProxies", "debug")),
        f"mongodbUri: {SECRET} {SECRET}",
        f"log: {{level: {SECRET}}}",
        f"limits: {{maxBodyBytes: {SECRET}, devRpm: 1}}",
        f"trustedProxies: [{SECRET}]",
        f"upstreams: {{a: {{baseUrl: 'https://u:{SECRET}@h', type: openai}}}}",
        f"upstreams: {{a: {{{URL}, apiKey: '{SECRET} '}}}}",
        f"upstreams: {{a: {{{URL}, keys: [{{id: {SECRET}, key: {SECRET}}}]}}}}",
        f"models: [{{id: m, pricing: {{input: {SECRET}, output: 1}}}}]",
        f"pepper: '{SECRET}",
        f'{{"pepper": "{SECRET}",, }}',
    ]


@pytest.mark.parametrize("text", _places())
def test_no_error_repeats_a_value(read, text):
    with pytest.raises(ConfigError) as caught:
        read(text)
    assert SECRET not in str(caught.value)
    assert SECRET not in str(caught.value.__cause__)


def test_describe_speaks_the_files_words():
    shown = load(None, {}, {}).describe()
    assert shown["limits"] == {
        "devRpm": 300,
        "proRpm": 1000,
        "maxBodyBytes": 32 * 2**20,
        "maxInFlight": 10_000,
        "maxConnections": 20_000,
        "maxConnectionsPerIp": 1000,
        "headerTimeout": "15s",
        "bodyTimeout": "60s",
        "keepAlive": "75s",
        "failedAuthPerMinutePerIp": 60,
        "streamPing": "15s",
        "thoughtMemoryBytes": 64 * 2**20,
    }
    assert shown["reloadInterval"] == "30s"
    assert shown["listeners"] == [{"port": 8080, "wallet": "legacy"}]


def test_a_models_type_must_be_spoken_by_its_upstream(read):
    text = f"upstreams: {{local: {{{URL}}}}}\nmodels: [{{id: m, type: %s, upstream: local, {PRICING}}}]"
    assert read(text % "openai").models[0].type == "openai"
    with pytest.raises(ConfigError, match=r"models\[0\].type: is not spoken by the upstream `local`"):
        read(text % "anthropic")
