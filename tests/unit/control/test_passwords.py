"""Passwords: the right one opens, others do not, and a broken hash is no error."""

import pytest

from trollproxy.control.passwords import hash_password, is_password

HASH = hash_password("correct horse")


def test_the_right_one_opens() -> None:
    assert is_password(HASH, "correct horse")
    assert not is_password(HASH, "correct horse ")
    assert not is_password(HASH, "")


def test_hashes_are_salted_and_of_the_promised_cost() -> None:
    assert hash_password("correct horse") != HASH
    assert HASH.startswith("$argon2id$v=19$m=19456,t=2,p=1$")
    assert "correct" not in HASH


@pytest.mark.parametrize("stored", ["", "plain", "$argon2id$", "$2b$12$abcdefghijklmnopqrstuv", HASH[:-5]])
def test_a_broken_hash_opens_to_nobody(stored: str) -> None:
    assert not is_password(stored, "correct horse")
