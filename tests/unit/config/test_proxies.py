"""Outbound proxies in the configuration: what their URLs mean, who may name them, and that passwords stay unseen."""

import json

import pytest
from hypothesis import given
from hypothesis import strategies as st

from trollproxy.config.catalog import build_catalog, build_proxy
from trollproxy.config.loading import ConfigError, load
from trollproxy.config.units import ProxyUrl
from trollproxy.records import OutboundProxy

SECRET = "CANARY-secret-0123456789"  # planted, to be looked for
URL = "baseUrl: 'http://h', type: openai"


@pytest.fixture
def read(tmp_path):
    def read_text(text, env=None):
        path = tmp_path / "c.yaml"
        path.write_text(text)
        return load(str(path), env or {}, {})

    return read_text


@pytest.mark.parametrize(
    ("url", "parts", "shown"),
    [
        ("http://h:3128", ("http", "h", 3128, None, None), "http://h:3128"),
        ("http://h:3128/", ("http", "h", 3128, None, None), "http://h:3128/"),
        ("HTTP://H.example:80", ("http", "h.example", 80, None, None), "HTTP://H.example:80"),
        ("http://u:p@h:1", ("http", "h", 1, "u", "p"), "http://***@h:1"),
        ("http://u:@h:1", ("http", "h", 1, "u", ""), "http://***@h:1"),
        ("http://u@h:1", ("http", "h", 1, "u", None), "http://***@h:1"),
        ("socks5://a%3Ab:p%40%2F%25@10.0.0.1:1080", ("socks5", "10.0.0.1", 1080, "a:b", "p@/%"), None),
        ("socks5h://[::1]:1080", ("socks5", "::1", 1080, None, None), "socks5h://[::1]:1080"),
        ("http://u:p:q@h:1", ("http", "h", 1, "u", "p:q"), "http://***@h:1"),
    ],
)
def test_a_proxy_is_a_url(url, parts, shown):
    found = ProxyUrl.parse(url)
    assert tuple(found.parts()) == parts
    if shown is not None:
        assert found.shown() == shown
    kind, host, port, username, password = parts
    assert build_proxy("p", found) == OutboundProxy(
        proxy_id="p", kind=kind, host=host, port=port, username=username, password=password
    )


@pytest.mark.parametrize(
    ("url", "reason"),
    [
        (5, "must be a URL such as"),
        ("", "must be a URL such as"),
        ("http://h: 1", "must be a URL such as"),
        ("h:3128", "must begin with http:// or socks5://"),
        ("https://h:443", "must begin with http:// or socks5://"),
        ("socks4://h:1080", "must begin with http:// or socks5://"),
        ("http://h", "must name the port"),
        ("http://h:", "must name the port"),
        ("http://:3128", "has no valid host and port"),
        ("http://h:0", "has no valid host and port"),
        ("http://h:99999", "has no valid host and port"),
        ("http://h:port", "has no valid host and port"),
        ("http://h_ä:1", "must be a URL such as"),
        ("http://h%20:1", "has no valid host and port"),
        ("http://h:1/path", "must end with the port"),
        ("http://h:1?a=b", "must end with the port"),
        ("http://h:1#a", "must end with the port"),
        ("http://u:a/b@h:1", "must end with the port; in a user or password '/', '?' and '#' are %2F"),
        ("http://u:a@b@h:1", "holds '@' more than once"),
        ("http://@h:1", "has an empty user"),
        ("http://:p@h:1", "has a password but no user"),
        ("http://a%3Ab:p@h:1", "has a user with ':'"),
        ("socks5://a:p%0A@h:1", "characters that cannot be sent"),
        ("socks5://a%00:p@h:1", "characters that cannot be sent"),
        (f"socks5://{'a' * 256}:p@h:1", "more than 255 bytes"),
        (f"http://a:{'%C3%A4' * 128}@h:1", "more than 255 bytes"),
    ],
)
def test_what_is_not_a_proxy(url, reason):
    with pytest.raises(ValueError) as caught:
        ProxyUrl.parse(url)
    assert reason in str(caught.value)


@given(st.text(max_size=30).map(lambda text: f"http://{text}"))
def test_any_text_is_read_or_refused(text):
    try:
        found = ProxyUrl.parse(text)
    except ValueError:
        return
    assert 0 < found.parts().port < 65536
    assert ProxyUrl.parse(found.shown()).parts()[:3] == found.parts()[:3]


def test_upstreams_and_keys_name_their_proxies(read):
    text = f"""
    proxies: {{east: 'http://u:${{PASSWORD}}@e:1', west: 'socks5://w:2', spare: 'http://s:3'}}
    upstreams:
      straight: {{{URL}, apiKey: a}}
      local: {{{URL}, proxies: [west, east], keys: [a, {{key: b, proxy: east}}]}}
    """
    providers = build_catalog(read(text, {"PASSWORD": "p"}), demo_endpoint=None).providers
    assert [proxy.proxy_id for proxy in providers["local"].proxies] == ["west", "east"]
    assert providers["local"].proxies[1].password == "p"
    assert [key.proxy_id for key in providers["local"].keys] == [None, "east"]
    assert providers["straight"].proxies == ()
    assert [key.proxy_id for key in providers["straight"].keys] == [None]


@pytest.mark.parametrize(
    ("text", "path", "reason"),
    [
        ("proxies: [a]", "proxies", "expected a mapping"),
        ("proxies: {a: 'ftp://h:1'}", "proxies.a", "must begin with http:// or socks5://"),
        ("proxies: {a: 'http://h:1', 'a b': 'http://h:1'}", "proxies", "that of entry 2 is not"),
        (f"upstreams: {{u: {{{URL}, proxies: [x]}}}}", "upstreams.u.proxies[0]", "top-level `proxies`; known: none"),
        (f"upstreams: {{u: {{{URL}, proxies: x}}}}", "upstreams.u.proxies", "expected a list"),
        (
            f"proxies: {{a: 'http://h:1', b: 'http://h:2'}}\nupstreams: {{u: {{{URL}, proxies: [a, x]}}}}",
            "upstreams.u.proxies[1]",
            "known: a, b",
        ),
        (
            f"proxies: {{a: 'http://h:1'}}\nupstreams: {{u: {{{URL}, proxies: [a, a]}}}}",
            "upstreams.u.proxies[1]",
            "is given twice",
        ),
        (
            f"proxies: {{a: 'http://h:1'}}\nupstreams: {{u: {{{URL}, keys: [{{key: k, proxy: a}}]}}}}",
            "upstreams.u.keys[0].proxy",
            "is not one of this upstream's `proxies`: none",
        ),
    ],
)
def test_names_that_lead_nowhere(read, text, path, reason):
    with pytest.raises(ConfigError) as caught:
        read(text)
    assert caught.value.path == path
    assert reason in caught.value.reason


@pytest.mark.parametrize(
    "text",
    [
        f"proxies: {{a: 'http://u:{SECRET}@h'}}",
        f"proxies: {{a: '{SECRET}@h:1'}}",
        f"proxies: {{'http://u:{SECRET}@h:1': 'http://h:1'}}",
        f"upstreams: {{u: {{{URL}, proxies: ['http://u:{SECRET}@h:1']}}}}",
        f"upstreams: {{u: {{{URL}, keys: [{{key: k, proxy: 'http://u:{SECRET}@h:1'}}]}}}}",
    ],
)
def test_no_error_repeats_a_password(read, text):
    with pytest.raises(ConfigError) as caught:
        read(text)
    assert SECRET not in str(caught.value)


def test_passwords_are_masked_wherever_they_are_shown(read):
    found = read(f"proxies: {{a: 'http://{SECRET}:{SECRET}@h:1'}}\nupstreams: {{u: {{{URL}, proxies: [a]}}}}")
    shown = found.describe()
    assert shown["proxies"] == {"a": "http://***@h:1"}
    provider = build_catalog(found, demo_endpoint=None).providers["u"]
    assert provider.proxies[0].username == provider.proxies[0].password == SECRET
    assert SECRET not in repr(found) + json.dumps(shown) + repr(provider)
