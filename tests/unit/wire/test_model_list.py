"""The lists of models: each dialect's shape, nothing of prices or providers."""

from tests.fakes import make_price
from trollproxy.records import Model
from trollproxy.wire.model_list import anthropic_list, anthropic_model, by_name, openai_list, openai_model

SMALL = Model(model_id="small-1", provider="secret-provider", price=make_price(), size="SMALL", upstream_model="inner")
PLAIN = Model(model_id="plain", provider="secret-provider", price=make_price())


def test_openai() -> None:
    listed = openai_list({"plain": PLAIN, "SMALL": SMALL})
    assert listed["object"] == "list"
    entry = {"id": "plain", "object": "model", "created": 1_700_000_000, "owned_by": "trollproxy"}
    assert listed["data"] == [entry, entry | {"id": "SMALL", "size": "SMALL"}]
    assert openai_model("plain", PLAIN) == entry


def test_anthropic() -> None:
    listed = anthropic_list({"plain": PLAIN, "small-1": SMALL})
    assert (listed["first_id"], listed["last_id"], listed["has_more"]) == ("plain", "small-1", False)
    assert listed["data"] == [anthropic_model("plain", PLAIN), anthropic_model("small-1", SMALL)]
    assert anthropic_model("plain", PLAIN)["type"] == "model"


def test_an_empty_list_is_one() -> None:
    assert openai_list({}) == {"object": "list", "data": []}
    assert anthropic_list({}) == {"data": [], "has_more": False, "first_id": None, "last_id": None}


def test_what_is_behind_a_model_is_not_told() -> None:
    told = str(openai_list({"s": SMALL})) + str(anthropic_list({"s": SMALL}))
    assert "secret-provider" not in told
    assert "inner" not in told
    assert "nusd" not in told


def test_everything_with_an_exact_name() -> None:
    assert list(by_name([PLAIN, SMALL], {"SMALL": SMALL})) == ["plain", "small-1", "SMALL"]
