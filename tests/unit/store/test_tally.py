"""What a batch comes to, and how it is cut up."""

from itertools import chain

from hypothesis import given
from hypothesis import strategies as st

from trollproxy.store.tally import slices


@given(st.lists(st.integers(), max_size=700))
def test_slices_are_all_there_is_in_few_sizes(items: list[int]) -> None:
    found = list(slices(items, 128))
    assert list(chain.from_iterable(found)) == items
    assert {len(some) for some in found} <= {1, 2, 4, 8, 16, 32, 64, 128}
    assert len(found) <= len(items) // 128 + 7
