"""What the statements that write charges leave out would be lost without a word."""

from trollproxy.records import Charge
from trollproxy.store.sqlite_rows import COMMON, OPTIONAL, OWN


def test_every_field_of_a_charge_is_written() -> None:
    assert sorted((*COMMON, *OWN)) == sorted(Charge.__struct_fields__)
    assert set(OWN) >= OPTIONAL
