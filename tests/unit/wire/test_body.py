"""Bodies: errors name the place, editing keeps every other byte."""

import json

import msgspec
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from trollproxy.errors import InvalidRequest
from trollproxy.wire.body import (
    MAX_MODEL_NAME,
    check_model,
    decode_reply,
    decode_request,
    names_model_twice,
    replace_members,
)


class _Inner(msgspec.Struct):
    b: int


class _Outer(msgspec.Struct):
    a: int
    inner: _Inner | None = None


OUTER = msgspec.json.Decoder(_Outer)
DEEP = b'{"a":1,"x":' + b"[" * 50_000 + b"]" * 50_000 + b"}"


@pytest.mark.parametrize(
    ("body", "code", "param"),
    [
        (b'{"a":"x"}', "invalid_request", "a"),
        (b'{"a":1,"inner":{"b":"x"}}', "invalid_request", "inner.b"),
        (b"{}", "invalid_request", "a"),
        (b"[]", "invalid_request", None),
        (b"", "invalid_json", None),
        (b'{"a":1', "invalid_json", None),
        (b'{"a":1} x', "invalid_json", None),
        (b"\xff", "invalid_json", None),
        (DEEP, "invalid_json", None),
    ],
)
def test_a_bad_request_says_what_and_where(body: bytes, code: str, param: str | None) -> None:
    with pytest.raises(InvalidRequest) as caught:
        decode_request(OUTER, body)
    assert (caught.value.code, caught.value.param, caught.value.status) == (code, param, 400)


def test_a_place_inside_is_named() -> None:
    with pytest.raises(InvalidRequest) as caught:
        decode_request(OUTER, b'{"a":1,"inner":{}}')
    assert caught.value.param is not None
    assert "inner" in caught.value.param or caught.value.param == "b"


@pytest.mark.parametrize("data", [b"", b"{", b"[]", b'{"a":"x"}', b"\xff", DEEP])
def test_a_bad_reply_is_nothing(data: bytes) -> None:
    assert decode_reply(OUTER, data) is None


json_values = st.recursive(
    st.none() | st.booleans() | st.integers(-(2**80), 2**80) | st.text(),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(), inner, max_size=3),
    max_leaves=8,
)


@settings(deadline=None)
@given(st.dictionaries(st.text(), json_values, max_size=6), st.sampled_from([" ", "", "\n\t "]))
def test_editing_changes_one_member_and_no_byte_of_another(members: dict[str, object], space: str) -> None:
    raw = {name: json.dumps(value, ensure_ascii=False).encode() for name, value in members.items()}
    pieces = [json.dumps(name).encode() + b":" + space.encode() + value for name, value in raw.items()]
    body = b"{" + b",".join(pieces) + b"}"
    edited = replace_members(body, {"model": "new"})
    assert json.loads(edited) == members | {"model": "new"}
    assert list(json.loads(edited)) == list(members | {"model": "new"})
    kept = msgspec.json.decode(edited, type=dict[str, msgspec.Raw])
    assert all(bytes(kept[name]) == value for name, value in raw.items() if name != "model")


def test_numbers_and_escapes_keep_their_spelling() -> None:
    body = rb'{"model":"a","x":1.50e+3,"y":"\u00e9\/","z":123456789012345678901234567890}'
    edited = replace_members(body, {"model": "b"})
    assert edited == body.replace(b'"a"', b'"b"')


def test_a_body_that_cannot_be_edited_is_the_clients_fault() -> None:
    """A member's name that is not UTF-8 is skipped over by decoding and met only here."""
    with pytest.raises(InvalidRequest):
        replace_members(b'{"model":"a","messages":[1],"\xff":1}', {"model": "b"})


@pytest.mark.parametrize(
    ("body", "may_be_twice"),
    [
        (b'{"model":"a"}', False),
        (b'{"model":"a","model":"b"}', True),
        (rb'{"model":"a","mode\u006c":"b"}', True),
        (rb'{"\u006dodel":"a"}', True),
        (rb'{"\u006Dodel":"a"}', True),
        (rb'{"model":"a","\u004dodel":"b"}', True),
        (rb'{"model":"a","MODE\u004C":"b"}', True),
        (b'{"model":"a","tools":[{"model":"x"}]}', True),
    ],
)
def test_a_second_model_is_noticed(body: bytes, may_be_twice: bool) -> None:
    assert names_model_twice(body) is may_be_twice


@settings(deadline=None)
@given(st.lists(st.integers(0, 4), max_size=5), st.booleans())
def test_every_spelling_of_model_is_noticed(escaped: list[int], is_upper: bool) -> None:
    name = "".join(f"\\u{ord(c):04{'X' if is_upper else 'x'}}" if i in escaped else c for i, c in enumerate("model"))
    body = f'{{"model":"a","{name}":"b"}}'.encode()
    assert json.loads(body) == {"model": "b"}
    assert names_model_twice(body)


words = st.sampled_from([b'"model"', b'"MoDel"', b"model", b'"', b"\\", b"\\u006", b"\\u00", b"4", b"6", b":", b"x"])


@settings(deadline=None)
@given(st.lists(words, max_size=12).map(b"".join))
def test_what_names_a_model_twice_is_known_by_its_bytes(body: bytes) -> None:
    assert names_model_twice(body) == (b"\\u006" in body or b"\\u004" in body or body.lower().count(b'"model"') != 1)


def test_a_models_name_has_a_bound() -> None:
    check_model("m" * MAX_MODEL_NAME)
    with pytest.raises(InvalidRequest) as caught:
        check_model("m" * (MAX_MODEL_NAME + 1))
    assert caught.value.param == "model"
