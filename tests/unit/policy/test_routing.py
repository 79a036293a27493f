"""Which model a name means, and what the provider calls it."""

import pytest

from tests.fakes import make_price
from trollproxy.policy.routing import Routes, upstream_name
from trollproxy.records import Model


def model(model_id: str, **more: str) -> Model:
    return Model(model_id=model_id, provider="p", price=make_price(), **more)  # type: ignore[arg-type]


ROUTES = Routes(
    [
        model("claude-*"),
        model("claude-sonnet-4-*"),
        model("claude-sonnet-4-6"),
        model("tiny", size="SMALL"),
        model("tiny-2", size="SMALL"),
        model("BIG"),
        model("huge", size="BIG"),
    ]
)


@pytest.mark.parametrize(
    ("asked", "found"),
    [
        ("claude-sonnet-4-6", "claude-sonnet-4-6"),
        ("claude-sonnet-4-20250514", "claude-sonnet-4-*"),
        ("claude-opus", "claude-*"),
        ("claude-", "claude-*"),
        ("claude", None),
        ("Claude-opus", None),
        ("SMALL", "tiny"),
        ("BIG", "BIG"),  # a model of that name comes before the size
        ("claude-*", "claude-*"),
        ("", None),
        ("small", None),
    ],
)
def test_a_name_is_found(asked: str, found: str | None) -> None:
    got = ROUTES.find(asked)
    assert (got.model_id if got is not None else None) == found


def test_a_star_takes_what_nothing_else_does() -> None:
    routes = Routes([model("*"), model("a-*")])
    assert [getattr(routes.find(name), "model_id", None) for name in ("x", "a-1", "a")] == ["*", "a-*", "*"]


def test_patterns_are_not_listed() -> None:
    assert [found.model_id for found in ROUTES.listed()] == ["claude-sonnet-4-6", "tiny", "tiny-2", "BIG", "huge"]
    assert {size: found.model_id for size, found in ROUTES.sizes().items()} == {"SMALL": "tiny", "BIG": "huge"}


def test_the_table_is_not_handed_out() -> None:
    ROUTES.sizes().clear()
    ROUTES.listed().clear()
    assert ROUTES.sizes()
    assert ROUTES.listed()


@pytest.mark.parametrize(
    ("found", "asked", "name"),
    [
        (model("a"), "a", "a"),
        (model("a", upstream_model="b"), "a", "b"),
        (model("a-*"), "a-7", "a-7"),
        (model("a-*", upstream_model="b"), "a-7", "b"),
        (model("tiny", size="SMALL"), "SMALL", "tiny"),
    ],
)
def test_what_the_provider_calls_it(found: Model, asked: str, name: str) -> None:
    assert upstream_name(found, asked) == name
