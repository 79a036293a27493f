"""Keys: what is minted can be read, what is mistyped is refused, what is foreign is found by its hash."""

import string
from itertools import chain

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from trollproxy.errors import Unauthenticated
from trollproxy.policy.keys import (
    CLIENT_PREFIX,
    ENTROPY_BYTES,
    FRIEND_PREFIX,
    MAX_KEY_CHARS,
    is_friend,
    is_proven,
    mint,
    read_key,
)

PEPPER = b"pepper"
KEY = mint(CLIENT_PREFIX, bytes(range(ENTROPY_BYTES)))
ENTROPY = st.binary(min_size=ENTROPY_BYTES, max_size=ENTROPY_BYTES)


@settings(deadline=None)
@given(ENTROPY, st.sampled_from([CLIENT_PREFIX, FRIEND_PREFIX]))
def test_a_minted_key_can_be_read(entropy: bytes, prefix: str) -> None:
    key = mint(prefix, entropy)
    material = read_key(key, PEPPER)
    assert material == read_key(key, PEPPER)
    assert material.key_id == ("f" if prefix == FRIEND_PREFIX else "") + key.split("-")[2]
    assert material.plain == key
    assert is_friend(key) is (prefix == FRIEND_PREFIX)
    assert is_proven(material, read_key(key, PEPPER).key_hash)
    assert not is_proven(material, read_key(key, b"another pepper").key_hash)


@settings(deadline=None)
@given(ENTROPY, ENTROPY)
def test_different_entropy_is_a_different_key(one: bytes, other: bytes) -> None:
    first, second = read_key(mint(CLIENT_PREFIX, one), PEPPER), read_key(mint(CLIENT_PREFIX, other), PEPPER)
    assert (first.key_id == second.key_id) is (one[:10] == other[:10])
    assert (first.key_hash == second.key_hash) is (one[10:] == other[10:])


def test_the_secret_is_not_in_what_is_kept() -> None:
    material = read_key(KEY, PEPPER)
    secret = KEY.split("-")[3]
    assert secret not in material.key_id
    assert secret.encode() not in material.key_hash


def changed(key: str) -> list[str]:
    """Every key that one letter or digit makes of it, behind the words at its start."""
    begin, symbols = len(CLIENT_PREFIX) + 1, string.ascii_letters + string.digits
    places = [place for place in range(begin, len(key)) if key[place] != "-"]
    return [key[:p] + c + key[p + 1 :] for p in places for c in symbols if c != key[p]]


def test_the_checksum_catches_every_changed_character() -> None:
    for wrong in changed(KEY):
        with pytest.raises(Unauthenticated):
            read_key(wrong, PEPPER)


def test_neither_cut_nor_swapped_reads_as_the_same_key() -> None:
    cut = [KEY[:n] for n in range(len("sk-"), len(KEY))]
    swapped = [KEY[:p] + KEY[p + 1] + KEY[p] + KEY[p + 2 :] for p in range(9, len(KEY) - 1) if KEY[p] != KEY[p + 1]]
    own = read_key(KEY, PEPPER)
    for wrong in chain(cut, swapped, ["fk" + KEY[2:], "sk-Troll" + KEY[8:]]):
        try:
            material = read_key(wrong, PEPPER)
        except Unauthenticated:
            continue
        assert material.key_id != own.key_id
        assert not is_proven(material, own.key_hash)


@pytest.mark.parametrize("key", ["sk-abc", "fk-abc", "sk-", "sk-troll-abc", "sk-proj-a-b-c-d", "sk-trollllm-a-b-c"])
def test_the_seeds_keys_are_known_by_the_hash_of_the_whole(key: str) -> None:
    material = read_key(key, PEPPER)
    assert material.plain == key
    assert material.key_id.startswith("fp" if key.startswith("fk") else "p")
    assert key[3:] not in material.key_id or key == "sk-"
    assert material.key_id != read_key(key, b"another").key_id
    assert is_proven(material, read_key(key, PEPPER).key_hash)
    assert is_friend(key) is key.startswith("fk")


def test_a_seeds_key_never_meets_the_id_of_one_of_ours() -> None:
    """Ours have 16 characters, those have 33."""
    assert len(read_key("sk-abc", PEPPER).key_id) == 33
    assert len(read_key(KEY, PEPPER).key_id) == 16


@pytest.mark.parametrize(
    "garbage", ["", "x", "sk", "Bearer sk-abc", " sk-abc", "SK-abc", "sk-é", "sk-\udcff", "sk-" + "a" * 254]
)
def test_garbage_is_refused(garbage: str) -> None:
    with pytest.raises(Unauthenticated):
        read_key(garbage, PEPPER)


@settings(deadline=None)
@given(st.text(max_size=300) | st.text(max_size=300).map("sk-troll-".__add__))
def test_anything_is_read_or_refused(text: str) -> None:
    try:
        material = read_key(text, PEPPER)
    except Unauthenticated:
        return
    assert len(text) <= MAX_KEY_CHARS
    assert material.plain == text
