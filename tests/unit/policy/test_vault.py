"""What is kept is bounded, found by its tenant alone, and goes by age of use."""

import msgspec
from hypothesis import given
from hypothesis import strategies as st

from trollproxy.policy.vault import Vault


class Memory(msgspec.Struct, frozen=True):
    size: int


def test_a_tenant_finds_its_own_and_nobody_elses() -> None:
    vault: Vault[Memory] = Vault(10_000)
    vault.keep("ann", "call", Memory(1))
    vault.keep("bob", "call", Memory(2))
    assert (vault.recall("ann", "call"), vault.recall("bob", "call")) == (Memory(1), Memory(2))
    assert vault.recall("eve", "call") is None
    assert vault.recall("ann", "other") is None


def test_the_least_recently_used_goes_first() -> None:
    vault: Vault[Memory] = Vault(3 * (1_000 + 301))
    for name in "abc":
        vault.keep("ann", name, Memory(1_000))
    vault.recall("ann", "a")
    vault.keep("ann", "d", Memory(1_000))
    assert [name for name in "abcd" if vault.recall("ann", name)] == ["a", "c", "d"]


@given(st.lists(st.tuples(st.sampled_from("ab"), st.sampled_from("xyz"), st.integers(0, 3_000))))
def test_it_never_holds_more_than_its_bound(kept: list[tuple[str, str, int]]) -> None:
    vault: Vault[Memory] = Vault(4_000)
    for tenant, name, size in kept:
        vault.keep(tenant, name, Memory(size))
        assert vault.held_bytes <= 4_000
        assert bool(len(vault)) == bool(vault.held_bytes)
