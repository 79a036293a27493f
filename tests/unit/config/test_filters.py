"""Filters, left-out reasoning and spending limits in the configuration."""

from pathlib import Path

import pytest

from trollproxy.config import ConfigError, build_catalog, load
from trollproxy.config.catalog import Catalog
from trollproxy.policy.filters import MAX_RULES
from trollproxy.records import Endpoint, FilterRule

UPSTREAMS = """
upstreams:
  a: {baseUrl: "https://a.test/v1", type: openai, dropThinking: true, spendEndpoint: /key/info,
      keys: [{key: k1, spendLimit: 12.5, spendPeriod: month}, k2]}
  openhands: {apiKey: k}
models:
  - {id: m, upstream: a, pricing: {input: 1, output: 1}, dropThinking: false}
"""


def loaded(tmp_path: Path, text: str) -> Catalog:
    path = tmp_path / "config.yaml"
    path.write_text(UPSTREAMS + text)
    return build_catalog(load(str(path), {}, {}), demo_endpoint=("127.0.0.1", 1))


def test_a_filter_goes_to_the_upstreams_that_it_names(tmp_path: Path) -> None:
    catalog = loaded(
        tmp_path,
        """
filters:
  - {pattern: Droid, replacement: agent}
  - {pattern: x, replacement: "", where: [response], ignoreCase: true, wholeWord: true, upstreams: [troll, demo]}
""",
    )
    droid = FilterRule(pattern="Droid", replacement="agent")
    x = FilterRule(pattern="x", replacement="", ignore_case=True, whole_word=True, in_requests=False)
    providers = catalog.providers
    assert {name: each.filters for name, each in providers.items()} == {
        "a": (droid,),
        "openhands": (droid, x),
        "demo": (droid, x),
    }


def test_there_are_none_by_default(tmp_path: Path) -> None:
    catalog = loaded(tmp_path, "")
    assert all(each.filters == () for each in catalog.providers.values())


def test_spending_and_reasoning(tmp_path: Path) -> None:
    catalog = loaded(tmp_path, "")
    provider = catalog.providers["a"]
    assert [(key.spend_limit_nusd, key.spend_period) for key in provider.keys] == [
        (12_500_000_000, "month"),
        (None, "total"),
    ]
    assert provider.spend_endpoint == Endpoint(host="a.test", port=443, tls=True, path="/key/info")
    assert (provider.drops_thinking, catalog.providers["openhands"].drops_thinking) == (True, False)
    assert [model.drops_thinking for model in catalog.models] == [False, None]


@pytest.mark.parametrize(
    ("entry", "place"),
    [
        ('{pattern: "", replacement: x}', "filters[0].pattern"),
        (f"{{pattern: {'x' * 129}, replacement: y}}", "filters[0].pattern"),
        (f"{{pattern: x, replacement: {'y' * 257}}}", "filters[0].replacement"),
        ("{pattern: x, replacement: y, where: []}", "filters[0].where"),
        ("{pattern: x, replacement: y, where: [answer]}", "filters[0].where[0]"),
        ("{pattern: x, replacement: axa}", "filters[0].replacement"),  # it would grow with every turn
        ("{pattern: x, replacement: X, ignoreCase: true}, {pattern: y, replacement: x}", "filters[1].replacement"),
        ("{pattern: x, replacement: y, upstreams: [nobody]}", "filters[0].upstreams[0]"),
        (", ".join(["{pattern: x, replacement: y}"] * (MAX_RULES + 1)), f"filters[{MAX_RULES}]"),
    ],
)
def test_what_is_refused(tmp_path: Path, entry: str, place: str) -> None:
    with pytest.raises(ConfigError) as caught:
        loaded(tmp_path, f"filters: [{entry}]\n")
    assert place in str(caught.value)
